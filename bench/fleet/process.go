package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/freeport"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/transport"
)

// process is one teep-tam, as an operator runs it, with the agents' side of its HTTP server.
type process struct {
	cmd        *exec.Cmd
	teep, api  string // addresses
	config     string
	log        *os.File
	quota      *quota // nil without one
	ended      chan struct{}
	connection *transport.Client
}

// installation is teep-tam in one process or several over one store.
type installation struct {
	fleet     *fleet
	dir       string
	author    cose.Signer
	operator  *api.Client
	processes []*process
}

// install makes keys and configurations, and starts the processes.
func install(ctx context.Context, o options, replicas int, store string) (in *installation, err error) {
	in = &installation{}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	if in.dir, err = os.MkdirTemp("", "fleet"); err != nil {
		return nil, err
	}
	maker, err := newSigner(cose.AlgESP256)
	if err != nil {
		return nil, err
	}
	if in.author, err = newSigner(cose.AlgESP256); err != nil {
		return nil, err
	}
	if in.fleet, err = newFleet(maker, o.devices); err != nil {
		return nil, err
	}
	folder := filepath.Join(in.dir, "tam")
	if _, err := output(ctx, o.program, "init", folder); err != nil {
		return nil, err
	}
	pem, err := maker.Public().MarshalPEM()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(folder, "maker.pem"), pem, 0o600); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(folder, "tam.yaml"))
	if err != nil {
		return nil, err
	}
	if store == "" {
		store = "tam.db"
	}
	for i := range replicas {
		p := &process{config: filepath.Join(folder, fmt.Sprintf("replica%d.yaml", i))}
		in.processes = append(in.processes, p)
		if p.teep, err = freeport.Address(); err != nil {
			return nil, err
		}
		if p.api, err = freeport.Address(); err != nil {
			return nil, err
		}
		edited := strings.NewReplacer("127.0.0.1:8080", p.teep, "127.0.0.1:8081", p.api,
			"store: tam.db", "store: "+store, "  collateral: [collateral.yaml]\n", "", "policy:\n", "policy:\n  query: token\n",
			// All devices come from one address.
			"  path: /tam\n", "  path: /tam\n  limits: {rate: 100000, burst: 100000}\n").Replace(string(text))
		if err := os.WriteFile(p.config, []byte(edited+"passports: {verifiers: [maker.pem]}\n"), 0o600); err != nil {
			return nil, err
		}
	}
	token, err := output(ctx, o.program, "token", "create", "--config", in.processes[0].config, "--name", "bench", "--scope", "administrator")
	if err != nil {
		return nil, err
	}
	for i, p := range in.processes {
		if o.cores > 0 {
			if p.quota, err = newQuota(fmt.Sprintf("teep-fleet-%d-%d", os.Getpid(), i), o.cores); err != nil {
				return nil, err
			}
		}
		if err := p.start(ctx, o.program); err != nil {
			return nil, err
		}
	}
	in.operator = &api.Client{BaseURL: "http://" + in.processes[0].api, Token: strings.TrimSpace(token), HTTP: &http.Client{Timeout: time.Minute}}
	return in, in.publish(ctx)
}

func newSigner(alg cose.Algorithm) (cose.Signer, error) {
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		return nil, err
	}
	return key.Signer()
}

// publish puts the application on offer, for all devices.
func (in *installation) publish(ctx context.Context) error {
	pem, err := in.author.Public().MarshalPEM()
	if err != nil {
		return err
	}
	if _, err := in.operator.AddPublisher(ctx, api.NewPublisher{Name: "maker", Keys: []string{string(pem)}, Prefixes: []string{"'fleet'"}}); err != nil {
		return err
	}
	if _, err := in.operator.SetPolicy(ctx, "'fleet'/'application'", api.NewPolicy{Mode: tam.ModeRequired}); err != nil {
		return err
	}
	envelope, err := in.fleet.application(in.author)
	if err != nil {
		return err
	}
	_, err = in.operator.Publish(ctx, envelope)
	return err
}

func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, &errs)
	}
	return string(out), nil
}

func (p *process) start(ctx context.Context, program string) (err error) {
	if p.log, err = os.Create(p.config + ".log"); err != nil {
		return err
	}
	p.cmd = exec.Command(program, "serve", "--config", p.config, "--log-level", "warn")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The devices' connections are kept, as many as there are workers.
	if p.connection, err = transport.NewClient(transport.ClientOptions{Timeout: time.Minute}); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	if p.quota != nil {
		if err := p.quota.hold(p.cmd.Process.Pid); err != nil {
			return errors.Join(err, p.cmd.Process.Kill(), p.cmd.Wait())
		}
	}
	p.ended = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if res, err := http.Get("http://" + p.api + "/v1/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.ended:
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
			continue
		}
		text, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("teep-tam does not get ready:\n%s", text)
	}
}

func (in *installation) close() {
	for _, p := range in.processes {
		if p.ended != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
			<-p.ended
		}
		if p.connection != nil {
			p.connection.CloseIdleConnections()
		}
		if p.log != nil {
			p.log.Close()
		}
		if p.quota != nil {
			if err := p.quota.close(); err != nil {
				fmt.Fprintln(os.Stderr, "fleet:", err)
			}
		}
	}
	if err := os.RemoveAll(in.dir); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
	}
}

// ProcessConnect and ProcessTeepMessage make a process an endpoint, over HTTP.
func (p *process) ProcessConnect(ctx context.Context) ([]byte, error) { return p.post(ctx, nil) }

// ProcessTeepMessage sends a message.
func (p *process) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	return p.post(ctx, msg)
}

func (p *process) post(ctx context.Context, msg []byte) ([]byte, error) {
	return p.connection.Post(ctx, "http://"+p.teep+"/tam", msg)
}

// runProcesses measures teep-tam itself: every device comes for the first time, is attested, gets an Update
// and answers it, over HTTP.
func runProcesses(ctx context.Context, o options) error {
	one, err := measureProcesses(ctx, o, o.replicas, o.store)
	if err != nil || o.compare == "" {
		return err
	}
	// TAMs, devices and the database are at work at the same time: with fewer cores than that, a second replica
	// has none of its own.
	if need := 2*o.replicas + 2; o.cores == 0 && runtime.NumCPU() < need {
		fmt.Fprintf(o.out, "replicas: not compared: %d of them with devices and database need %d cores, and this machine has %d: see -cores\n",
			2*o.replicas, need, runtime.NumCPU())
		return nil
	}
	o.workers *= 2 // as many sessions under way at each of them as before
	two, err := measureProcesses(ctx, o, 2*o.replicas, o.compare)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "replicas: %d do %.2f × the sessions of %d\n", 2*o.replicas, two/one, o.replicas)
	return nil
}

// measureProcesses returns the sessions per second.
func measureProcesses(ctx context.Context, o options, replicas int, store string) (perSecond float64, err error) {
	in, err := install(ctx, o, replicas, store)
	if err != nil {
		return 0, err
	}
	defer in.close()
	before := in.usage()
	all, idle := machineTime()
	pace := rate.NewLimiter(rate.Inf, o.workers) // a burst makes up for what was late
	if o.rate > 0 {
		pace.SetLimit(rate.Limit(o.rate))
	}
	f, err := each(ctx, o.devices, o.workers, o.out, func(ctx context.Context, index uint32) (outcome, error) {
		if err := pace.Wait(ctx); err != nil {
			return 0, err
		}
		d, err := in.fleet.device(index)
		if err != nil {
			return 0, err
		}
		return d.session(ctx, in.processes[int(index)%len(in.processes)], true)
	})
	if err != nil {
		return 0, err
	}
	if f.updates != int64(o.devices) {
		return 0, fmt.Errorf("%d of %d devices got an Update", f.updates, o.devices)
	}
	after := in.usage()
	perSecond = float64(f.sessions) / f.wall.Seconds()
	fmt.Fprintf(o.out, "teep-tam: %d processes, %d connections, %d attested sessions with an Update in %v: %.0f sessions/s, p50 %v, p99 %v\n",
		replicas, o.workers, f.sessions, f.wall.Round(time.Millisecond), perSecond, f.p50.Round(10*time.Microsecond), f.p99.Round(10*time.Microsecond))
	if o.rate > 0 && perSecond < .95*float64(o.rate) {
		fmt.Fprintf(o.out, "  the machine did not reach the %d sessions/s that were asked for: with %d cores for TAMs, devices and database, this is what it does\n",
			o.rate, runtime.NumCPU())
	}
	if o.cores > 0 {
		allThen, idleThen := machineTime()
		fmt.Fprintf(o.out, "  each process has %g of %d cores, and %.0f %% of the machine was idle\n", o.cores, runtime.NumCPU(), 100*(idleThen-idle)/max(allThen-all, 1))
	}
	for i := range after {
		fmt.Fprintf(o.out, "  process %d: at most %d MiB resident (%d before the first session), %v of processor time for each of its sessions\n", i+1,
			after[i].peak>>20, before[i].peak>>20, ((after[i].cpu - before[i].cpu) * time.Duration(replicas) / time.Duration(f.sessions)).Round(time.Microsecond))
	}
	return perSecond, nil
}
