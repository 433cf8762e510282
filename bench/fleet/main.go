// Command fleet measures a rollout to a large fleet: simulated devices enrol at a TAM, a rollout in stages is
// decided, and every device is brought to the new version, with the database as the only state.
//
//	go run ./bench/fleet                                   # 10,000 devices, SQLite in a temporary folder
//	go run ./bench/fleet -devices 1000000 -store postgres://tam@127.0.0.1/tam -replicas 2
//	go run ./bench/fleet -devices 1000000 -store postgres://tam@127.0.0.1/tam -known -idle 5
//
// With -known the devices do not enrol: their records are loaded into the database. Every device that a
// stage of the rollout chose comes and is brought to the version; -idle says how many of the others come
// meanwhile, to be told that there is nothing for them.
//
// What an operator runs is measured with -program: processes of teep-tam, whose memory and processor time are
// their own, and devices that come over HTTP.
//
//	go build -o teep-tam ./cmd/teep-tam && go run ./bench/fleet -program ./teep-tam -devices 20000 -rate 1000
//
// What a second replica adds shows where each has processors of its own. With -cores, a machine with few of them
// gives each replica a small share, and leaves the rest to the devices and the database:
//
//	go run ./bench/fleet -program ./teep-tam -cores 0.25 -store postgres://tam@127.0.0.1/one -compare postgres://tam@127.0.0.1/two
//
// The devices sign every message for real, with keys of their own. What they save is what costs the TAM
// nothing: they run no TEE, and do not check who signed what the TAM sends. TAM and devices share this
// process then, so that its processor time and memory are an upper bound of the TAM's; beside the figures of each
// phase stands the bare cryptography of the TAM's side of one session, measured in the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
)

// options are the flags.
type options struct {
	devices, replicas, workers int
	known                      bool
	idle                       int     // percent
	rate                       int     // per second; 0: as many as there can be
	cores                      float64 // of each teep-tam; 0: whatever there is
	store, program, compare    string
	out                        io.Writer
}

func main() {
	o := options{out: os.Stdout}
	flag.IntVar(&o.devices, "devices", 10_000, "how many devices")
	flag.IntVar(&o.replicas, "replicas", 1, "how many TAMs share the database; more than one need PostgreSQL")
	flag.IntVar(&o.workers, "workers", 32*runtime.GOMAXPROCS(0), "how many sessions are under way at a time; with -compare, twice as many at twice as many replicas")
	flag.StringVar(&o.store, "store", "", "URL of an empty PostgreSQL database; empty: a SQLite file in a temporary folder")
	flag.BoolVar(&o.known, "known", false, "load the devices into the PostgreSQL database instead of having them enrol")
	flag.StringVar(&o.program, "program", "", "measure this teep-tam, in processes of its own and over HTTP, instead of a TAM in this process")
	flag.IntVar(&o.rate, "rate", 0, "with -program: how many sessions begin per second, if the machine can; 0: as many as it can")
	flag.Float64Var(&o.cores, "cores", 0, "with -program: what share of the processors each teep-tam has, such as 0.25 of one; 0: no limit (Linux, as root)")
	flag.StringVar(&o.compare, "compare", "", "with -program: URL of another empty PostgreSQL database, for twice as many replicas")
	flag.IntVar(&o.idle, "idle", 100, "how many of the devices that a round has nothing for come all the same, in percent")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func (o options) check() error {
	switch {
	case o.devices < 100 || o.devices > 100_000_000:
		return errors.New("-devices is 100 to 100,000,000")
	case o.replicas < 1 || o.workers < 1:
		return errors.New("-replicas and -workers are at least 1")
	case o.idle < 0 || o.idle > 100:
		return errors.New("-idle is 0 to 100")
	case o.known && o.store == "":
		return errors.New("-known needs -store with the URL of a PostgreSQL database")
	case o.program == "" && (o.rate != 0 || o.compare != "" || o.cores != 0):
		return errors.New("-rate, -cores and -compare are for -program")
	case o.cores < 0 || o.cores > 0 && o.cores < .05:
		return errors.New("-cores is 0.05 at least")
	case o.program != "" && (o.known || o.rate < 0):
		return errors.New("with -program all devices enrol, and -rate is not negative")
	case o.compare != "" && o.store == "":
		return errors.New("-compare needs -store too: both sides have a database of PostgreSQL")
	case o.replicas > 1 && o.store == "":
		return errors.New("-replicas above 1 needs -store with the URL of a PostgreSQL database")
	}
	return nil
}

// run is the whole measurement.
func run(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.program != "" {
		return runProcesses(ctx, o)
	}
	s, err := newService(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	floor, err := bareCryptography(s)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "floor: %v of one core for the signatures and verifications of one session at the TAM\n", floor)
	if !o.known {
		enrolled, err := s.enrol(ctx, o)
		if err != nil {
			return err
		}
		enrolled.print(o.out, "enrol", floor)
	}
	if err := s.preview(ctx, o); err != nil {
		return err
	}
	rolled, err := s.rollOut(ctx, o)
	if err != nil {
		return err
	}
	rolled.print(o.out, "roll out", floor)
	return s.compare(ctx, o)
}
