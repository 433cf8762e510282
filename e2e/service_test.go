package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-teep/teep/internal/freeport"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/transport"
)

// service is teep-tam as an operator runs it: one process or several over one store.
type service struct {
	t        *testing.T
	dir      string // with keys and configurations
	token    string // of an administrator
	replicas []*replica
}

// replica is one process.
type replica struct {
	t           *testing.T
	config, log string
	teep, api   string // addresses
	env         []string
	cmd         *exec.Cmd
	ended       chan struct{}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newService makes the keys and configurations of a service. edit gets the text of the first configuration;
// the others differ in their addresses.
func newService(t *testing.T, replicas int, edit func(string) string) *service {
	t.Helper()
	s := &service{t: t, dir: filepath.Join(t.TempDir(), "tam")}
	s.run("teep-tam", "init", s.dir)
	first := filepath.Join(s.dir, "tam.yaml")
	text, err := os.ReadFile(first)
	must(t, err)
	for i := range replicas {
		r := &replica{t: t, config: filepath.Join(s.dir, fmt.Sprintf("replica%d.yaml", i)), log: filepath.Join(s.dir, fmt.Sprintf("replica%d.log", i)),
			teep: unusedAddress(t), api: unusedAddress(t)}
		edited := strings.NewReplacer("127.0.0.1:8080", r.teep, "127.0.0.1:8081", r.api,
			// All devices of a test come from one address.
			"  path: /tam\n", "  path: /tam\n  limits: {rate: 100000, burst: 100000}\n").Replace(edit(string(text)))
		must(t, os.WriteFile(r.config, []byte(edited), 0o600))
		s.replicas = append(s.replicas, r)
	}
	s.token = strings.TrimSpace(s.run("teep-tam", "token", "create", "--config", s.replicas[0].config, "--name", "test", "--scope", "administrator"))
	t.Cleanup(func() {
		for _, r := range s.replicas {
			r.kill()
			if text, err := os.ReadFile(r.log); t.Failed() && err == nil {
				t.Logf("%s:\n%s", r.log, text[max(0, len(text)-8000):])
			}
		}
	})
	return s
}

// edit changes the configurations once more.
func (s *service) edit(change func(string) string) {
	s.t.Helper()
	for _, r := range s.replicas {
		text, err := os.ReadFile(r.config)
		must(s.t, err)
		must(s.t, os.WriteFile(r.config, []byte(change(string(text))), 0o600))
	}
}

func unusedAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	must(t, err)
	return address
}

// run runs a program to its end and returns what it printed.
func (s *service) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(programs, name), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &errs)
	}
	return string(out)
}

func (s *service) start() {
	s.t.Helper()
	for _, r := range s.replicas {
		r.start()
	}
}

// start starts the process, again if it ends at once because its database does not answer yet, and waits until
// it is ready.
func (r *replica) start() {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		r.run()
		for r.alive() {
			if r.status("/v1/readyz") == http.StatusOK {
				return
			}
			if time.Now().After(deadline) {
				r.t.Fatalf("%s does not get ready", r.config)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s ends again and again", r.config)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *replica) run() {
	r.t.Helper()
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(r.t, err)
	defer log.Close()
	r.cmd = exec.Command(filepath.Join(programs, "teep-tam"), "serve", "--config", r.config, "--log-level", "debug")
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.Env = append(os.Environ(), r.env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(r.t, r.cmd.Start())
	r.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}(r.cmd, r.ended)
}

func (r *replica) alive() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as kill -9 does.
func (r *replica) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill() // it may have ended already
	<-r.ended
}

// status asks for a path of the operator side; 0 is no answer.
func (r *replica) status(path string) int {
	res, err := http.Get("http://" + r.api + path)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

func (r *replica) tamURI() string { return "http://" + r.teep + "/tam" }

// client calls the operator API of one replica.
func (s *service) client(r *replica) *api.Client {
	return &api.Client{BaseURL: "http://" + r.api, Token: s.token, HTTP: &http.Client{Timeout: 30 * time.Second}}
}

// devicesClient is how devices reach a TAM: nothing is tried again behind the test's back.
func devicesClient(t *testing.T) *transport.Client {
	t.Helper()
	c, err := transport.NewClient(transport.ClientOptions{Timeout: 30 * time.Second})
	must(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// until tries f until it has no error, for at most a minute.
func until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(30 * time.Millisecond):
		}
	}
}
