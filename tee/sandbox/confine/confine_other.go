//go:build !linux

package confine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

var terminate = os.Interrupt

// programPath is replaced by Run.
func programPath() string { return "" }

// Harden does nothing on this system; Enter reports it.
func Harden() {}

// Run starts this program again and waits for it.
func Run(ctx context.Context, c Command) error {
	name, err := os.Executable()
	if err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	defer f.Close()
	if err := os.Chdir(c.Dir); err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	h := handover{Payload: c.Handover, Files: len(c.Files), Without: c.Without}
	return attempt(ctx, c, f, h, func(cmd *exec.Cmd) error {
		cmd.Path = name
		return cmd.Start()
	})
}

// Enter builds no wall on this system, and says so.
func Enter() (*Confined, error) {
	h, files, orphaned, err := receive()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, os.NewFile(programFile, "program")); err != nil {
		return nil, fmt.Errorf("confine: measure the program: %w", err)
	}
	c := &Confined{Handover: h.Payload, Files: files, Measurement: sum.Sum(nil), Report: h.Report, Orphaned: orphaned}
	for _, w := range Walls() {
		c.Report.Miss(w, errors.New("not known how on this system"))
	}
	return c, nil
}
