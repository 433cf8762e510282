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
// The devices sign every message for real, with keys of their own. What they save is what costs the TAM
// nothing: they run no TEE, and do not check who signed what the TAM sends. TAM and devices share this
// process, so that its processor time and memory are an upper bound of the TAM's; beside the figures of each
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
	idle                       int // percent
	store                      string
	out                        io.Writer
}

func main() {
	o := options{out: os.Stdout}
	flag.IntVar(&o.devices, "devices", 10_000, "how many devices")
	flag.IntVar(&o.replicas, "replicas", 1, "how many TAMs share the database; more than one need PostgreSQL")
	flag.IntVar(&o.workers, "workers", 8*runtime.GOMAXPROCS(0), "how many sessions are under way at a time")
	flag.StringVar(&o.store, "store", "", "URL of an empty PostgreSQL database; empty: a SQLite file in a temporary folder")
	flag.BoolVar(&o.known, "known", false, "load the devices into the PostgreSQL database instead of having them enrol")
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
