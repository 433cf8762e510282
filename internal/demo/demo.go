// Package demo tells the main story of this project with real programs: a Trusted Application
// travels from its developer into a TEE, runs there, is updated, and leaves.
//
// It starts teep-tam, teep-broker and teep-agent as processes of their own in one folder, uses
// the same commands that users type, and prints one line for each step, after the step's outcome
// was checked. [Run] stops at the first step that is not as it should be.
//
// In the chapter of refusals it plays the attackers: it speaks to the agent as a broker would
// that was taken over, with the keys of TAMs and developers that turned bad.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-teep/teep/cose"
)

// Options configure a run.
type Options struct {
	// Programs is the folder with the four programs and the example applications.
	Programs string
	// Keep is the folder to work in and to keep; empty means a temporary one.
	Keep string
	// Verbose prints every TEEP message in diagnostic notation as it passes.
	Verbose bool
	// TEE is TEESandbox (also if empty) or TEEVM, which needs KernelPackage, a Debian package of a
	// Linux kernel.
	TEE           string
	KernelPackage string
	// Firmware is the machine's, with its variables in memory; empty for what Debian's package has.
	Firmware string
	// Out gets the story.
	Out io.Writer
}

// errInterrupted ends a story that nobody wants to hear to its end. Nothing is left of it.
var errInterrupted = errors.New("interrupted")

// story is a run under way.
type story struct {
	Options
	dir      string
	messages *messages

	mu      sync.Mutex
	running []*process
	// references and second are what goes on beside the story with machines: vouching for the image, and
	// the machine of an attack.
	references, second *background

	tamURI, apiURL string
	agentSocket    string
	appSocket      string
	trustText      string // of the agent's trust file

	tamSigner cose.Signer // the TAM's ESP256 key: the story later plays a TAM that turned bad
	developer cose.Signer
	device    string // ID at the TAM
	agentKey  []byte // X coordinate of the agent's public key
}

// chapter is a part of the story.
type chapter struct {
	title string
	tell  func(context.Context, *story) error
}

func chapters() []chapter {
	return []chapter{
		{"Keys and trust", keysAndTrust},
		{"Author", author},
		{"Publish", publish},
		{"Ask, attest, install", install},
		{"Run", runApplication},
		{"Update", update},
		{"Refuse", refuse},
		{"Leave", leave},
	}
}

// Run tells the story. The error says which step failed and where its logs are.
func Run(ctx context.Context, o Options) (err error) {
	s := &story{Options: o}
	if err := s.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.finish(err)) }()
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer s.waitAll() // their programs are gone before what they work on is
	defer cancel()
	began := time.Now()
	for i, c := range chapters() {
		fmt.Fprintf(s.Out, "%d. %s\n", i+1, c.title)
		err := c.tell(ctx, s)
		if parent.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
	}
	if err := s.stopAll(); err != nil {
		return err
	}
	s.tell("all programs shut down cleanly on SIGTERM")
	fmt.Fprintf(s.Out, "Done in %.1f s.\n", time.Since(began).Seconds())
	return nil
}

// tell prints one line of the story. It comes after the check of what it says.
func (s *story) tell(format string, args ...any) {
	fmt.Fprintf(s.Out, "   "+format+"\n", args...)
}

func (s *story) prepare() (err error) {
	// The programs run in a folder of their own.
	if s.Programs, err = filepath.Abs(s.Programs); err != nil {
		return err
	}
	for _, name := range []string{"teep", "teep-tam", "teep-broker", "teep-agent", "hello-1.wasm", "hello-2.wasm"} {
		if _, err := os.Stat(filepath.Join(s.Programs, name)); err != nil {
			return fmt.Errorf("%s is not in %s: build everything with 'make build'", name, s.Programs)
		}
	}
	s.dir = s.Keep
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "teep-demo-")
		if err != nil {
			return err
		}
		s.dir = dir
	} else {
		if s.dir, err = filepath.Abs(s.dir); err != nil {
			return err
		}
		if entries, err := os.ReadDir(s.dir); err == nil && len(entries) > 0 {
			return fmt.Errorf("%s is not empty: name a new folder for --keep", s.dir)
		}
	}
	if s.inMachine() {
		if err := s.prepareMachine(); err != nil {
			return err
		}
	} else if s.TEE != "" && s.TEE != TEESandbox {
		return fmt.Errorf("there is no TEE %q: write %s or %s", s.TEE, TEESandbox, TEEVM)
	}
	for _, sub := range []string{"logs", "dev", "device"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return err
		}
	}
	s.messages = newMessages(filepath.Join(s.dir, "device", "messages.jsonl"))
	return nil
}

// stopAll ends the programs in reverse order of their start.
func (s *story) stopAll() error {
	var all []error
	for _, p := range slices.Backward(s.take()) {
		all = append(all, p.stop())
	}
	return errors.Join(all...)
}

// finish leaves nothing running, and nothing on disk unless it is to be kept. After a failure the
// folder stays, because the logs are in it.
func (s *story) finish(failed error) error {
	for _, p := range s.take() {
		p.kill()
	}
	switch {
	case failed != nil && !errors.Is(failed, errInterrupted):
		fmt.Fprintf(s.Out, "The logs of all programs are in %s\n", filepath.Join(s.dir, "logs"))
		return nil
	case s.Keep != "":
		fmt.Fprintf(s.Out, "Everything is kept in %s\n", s.dir)
		return nil
	}
	return os.RemoveAll(s.dir)
}

func (s *story) program(name string) string { return filepath.Join(s.Programs, name) }

func (s *story) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}
