package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-sev-guest/client"

	"github.com/go-teep/teep/attest/hardware"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
	"github.com/go-teep/teep/tee/seal"
	"github.com/go-teep/teep/tee/snpkey"
	"github.com/go-teep/teep/tee/tpmseal"
	"github.com/go-teep/teep/tee/vm"
	"github.com/go-teep/teep/tee/vm/image"
)

// virtualMachine is the machine whose first process this is.
type virtualMachine struct{ *vm.Machine }

// beFirstProcess is main in a machine that boots an image: it makes the machine usable, carries out
// the command that the kernel's command line names behind "--", or else serves, and powers off.
func beFirstProcess() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	m, err := vm.Boot(log)
	defer m.PowerOff()
	if err != nil {
		log.Error("the machine is not usable", "err", err)
		return
	}
	// QEMU's loader for UEFI appends a parameter of the kernel's, which comes behind "--" then.
	args := slices.DeleteFunc(os.Args[1:], func(arg string) bool { return strings.HasPrefix(arg, "initrd=") })
	if len(args) == 0 {
		args = []string{"serve", "--config", path.Join(image.ConfigPath, "agent.yaml")}
	}
	if code := program.Main(root(&place{machine: &virtualMachine{m}}), args, os.Stderr); code != program.ExitOK {
		log.Error("the agent ended", "code", code)
	}
}

// runInMachine is launch for the first process of a machine, which is the TEE itself.
func runInMachine(ctx context.Context, t *task, m machine) error {
	if t.Serve != nil {
		if err := t.Serve.read(t.Config); err != nil {
			return err
		}
	}
	measurement, err := sandbox.MeasureExecutable()
	if err != nil {
		return err
	}
	// A machine has no lock and no socket.
	files := []*os.File{lockFile: nil, socketFile: nil}
	devices, opened, err := openHardware(ctx, t.Config, &files)
	if err != nil {
		return err
	}
	defer opened.Close()
	t.Hardware = devices
	inside := &surroundings{
		Confined: &confine.Confined{Files: files, Measurement: measurement},
		machine:  m,
	}
	return t.carryOut(ctx, inside, os.Stdout, os.Stderr)
}

func (m *virtualMachine) open(ctx context.Context, c *configuration, s sandbox.Config) (*sandbox.TEE, error) {
	keys, err := m.keySource(c)
	if err != nil {
		return nil, err
	}
	s.Keys = keys
	channel, err := vm.ParseChannel(c.Channel)
	if err != nil {
		return nil, err
	}
	var systemCalls []string
	if c.Sealing.Key == sealingSNP {
		systemCalls = append(systemCalls, "ioctl") // it derives the key
	}
	return m.Open(ctx, s, vm.Keeper{
		Processor: slices.Contains(c.Attestation.Formats, hardware.TSM),
		Measured:  slices.Contains(c.Attestation.Formats, hardware.TPM) || slices.Contains(c.Attestation.Formats, hardware.TSM),
	}, channel, systemCalls...)
}

// keySource is what the configuration says that the state is sealed under. What it opens stays open
// as long as the machine runs.
func (m *virtualMachine) keySource(c *configuration) (seal.KeySource, error) {
	switch c.Sealing.Key {
	case sealingTPM:
		approver, err := c.approver()
		if err != nil {
			return nil, err
		}
		approvals, err := m.Approvals(tpmseal.MaxApprovalsBytes)
		if err != nil {
			return nil, err
		}
		// The kernel gives each file objects and sessions of its own: this is not the one for quotes.
		f, err := os.OpenFile(hardware.DefaultTPM, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: sealing.key: %w: the machine has no TPM; the broker gives it one with tpm in its configuration", c.Path, err)
		}
		_ = f.Fd() // blocking mode: the device answers when the TPM is done
		return &tpmseal.Source{TPM: tpm.Stream(f), PCRs: c.Sealing.PCRs, Approver: approver, Approvals: approvals}, nil
	case sealingSNP:
		device, err := client.OpenDevice()
		if err != nil {
			return nil, fmt.Errorf("%s: sealing.key: %w: the machine was not started with SEV-SNP, or its kernel has no driver for it", c.Path, err)
		}
		return &snpkey.Source{Device: device}, nil
	case sealingDeviceSecret:
		return sandbox.DeviceSecret{}, nil
	case "":
		return nil, fmt.Errorf("%s: sealing.key is missing: write %s, %s, or %s for a file on the host's disk", c.Path, sealingTPM, sealingSNP, sealingDeviceSecret)
	}
	return nil, fmt.Errorf("%s: sealing.key %q is not known", c.Path, c.Sealing.Key)
}

// approver is the key of who approves updates; nil without one.
func (c *configuration) approver() (*cose.Key, error) {
	if c.Sealing.Approver == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.Sealing.Approver)
	if err != nil {
		return nil, fmt.Errorf("%s: sealing.approver: %w", c.Path, err)
	}
	key, err := cose.ParsePEM(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: sealing.approver: %w", c.Path, err)
	}
	return key.Public(), nil
}

func (m *virtualMachine) serve(ctx context.Context, a link.Agent, o link.ServeOptions, d *desk) error {
	return m.Serve(ctx, a, o, d)
}
