package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runApplication uses the application through the broker.
func runApplication(ctx context.Context, s *story) error {
	output, err := s.invoke(ctx, "greet", "Ada")
	if err != nil {
		return err
	}
	if !strings.Contains(output, "Ada") || !strings.Contains(output, "1.0.0") {
		return fmt.Errorf("greet answered %q", output)
	}
	s.tell("invoked in the TEE: %s", output)
	input := "measure me"
	digest, err := s.invoke(ctx, "digest", input)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(input))); digest != want {
		return fmt.Errorf("digest answered %q instead of %q", digest, want)
	}
	for _, want := range []string{"1", "2"} {
		if n, err := s.invoke(ctx, "count", ""); err != nil || n != want {
			return fmt.Errorf("count answered %q instead of %q (%v)", n, want, err)
		}
	}
	s.tell("its sealed storage counts: 1, 2")
	if err := s.checkSealed(); err != nil {
		return err
	}
	return s.checkBoundary(ctx)
}

// invoke runs one command of the application, as an app on the device does.
func (s *story) invoke(ctx context.Context, command, input string) (string, error) {
	return s.run(ctx, "teep", "app", "invoke", "--broker", "device/app.sock", "hello", command, input)
}

// checkSealed looks at the TEE's folder from outside: no piece of the application's code and no
// coordinate of the agent's key is in any of its files. The one exception is the device secret that
// everything is sealed under; hardware keeps it in a TEE that has hardware, and this one says in its
// Evidence that it has not.
func (s *story) checkSealed() error {
	code, err := os.ReadFile(s.path("dev", "hello-1.wasm"))
	if err != nil {
		return err
	}
	const piece = 16
	probes := [][]byte{s.agentKey}
	for at := 0; at+piece <= len(code); at += 8 << 10 {
		if window := code[at : at+piece]; bytes.Count(window, []byte{0}) < piece/2 {
			probes = append(probes, window)
		}
	}
	if s.inMachine() {
		return s.checkDisk(probes)
	}
	files := 0
	err = filepath.WalkDir(s.path("device", "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "device-secret" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return err
		}
		files++
		for _, p := range probes {
			if bytes.Contains(data, p) {
				return fmt.Errorf("%s is not sealed: it contains %x", path, p)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.tell("the TEE's folder, seen from outside: %d files without a trace of code or keys, and the device secret that seals them", files)
	return nil
}

// update publishes version 2 and lets the device find it.
func update(ctx context.Context, s *story) error {
	if err := s.authorVersion(ctx, 2, "2.0.0"); err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", "publish", "--tam", s.apiURL, "--token-file", "tam/token", "dev/hello-2.suit"); err != nil {
		return err
	}
	s.tell("published version 2")
	// The agent is configured not to ask its TAM more often than once a second.
	time.Sleep(1100 * time.Millisecond)
	if _, err := s.run(ctx, "teep", "app", "check", "--broker", "device/app.sock"); err != nil {
		return err
	}
	all, err := s.passed()
	if err != nil {
		return err
	}
	if err := s.checkOutcome(all, 1, 0); err != nil {
		return err
	}
	output, err := s.invoke(ctx, "greet", "Ada")
	if err != nil {
		return err
	}
	if !strings.Contains(output, "2.0.0") {
		return fmt.Errorf("after the update greet answered %q", output)
	}
	if n, err := s.invoke(ctx, "count", ""); err != nil || n != "3" {
		return fmt.Errorf("after the update count answered %q instead of 3: its storage was lost (%v)", n, err)
	}
	s.tell("the next policy check installed it; the application runs as 2.0.0 and kept its storage")
	return s.checkInventory(ctx, "hello/manifest", 2)
}

// leave tells that no app needs the application any more.
func leave(ctx context.Context, s *story) error {
	before, err := s.stateFiles()
	if err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", "app", "unrequest", "--broker", "device/app.sock", "hello"); err != nil {
		return err
	}
	all, err := s.passed()
	if err != nil {
		return err
	}
	s.tell("the app no longer needs it")
	if err := s.checkOutcome(all, 0, 1); err != nil {
		return err
	}
	reason, err := s.refused(ctx, "not installed", "teep", "app", "invoke", "--broker", "device/app.sock", "hello", "greet", "Ada")
	if err != nil {
		return err
	}
	after, err := s.stateFiles()
	if err != nil {
		return err
	}
	if after >= before && !s.inMachine() {
		return fmt.Errorf("the TEE's folder holds %d files after the removal and %d before: its storage is not gone", after, before)
	}
	what := "unlinked, and its storage is gone"
	if s.inMachine() {
		what = "unlinked" // its files are out of sight
	}
	s.tell("%s: %s", what, strings.TrimPrefix(reason, "link: "))
	return s.checkInventory(ctx, "", 0)
}

// stateFiles counts what the TEE keeps on disk.
func (s *story) stateFiles() (int, error) {
	if s.inMachine() {
		return 0, nil // they are the machine's to count
	}
	n := 0
	err := filepath.WalkDir(s.path("device", "state"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	return n, err
}
