package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/hardware"
	"github.com/go-teep/teep/attest/tsm"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
)

// handedHardware is what the confined process is handed of the device's hardware for attestation,
// which it could not open itself.
type handedHardware struct {
	Material hardware.Material
	// TPM and Processor are places among the files, 0 without one: that is the lock's.
	TPM, Processor int
}

// openHardware opens what the configuration names, and appends it to the files that are handed over.
// What it returns stays open until the confined process has ended.
func openHardware(ctx context.Context, c *configuration, files *[]*os.File) (handedHardware, io.Closer, error) {
	o, err := c.Attestation.Open()
	if err != nil {
		return handedHardware{}, nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	h := handedHardware{Material: o.Material}
	opened := closers{o}
	hand := func(f *os.File) int {
		*files = append(*files, f)
		return len(*files) - 1
	}
	if o.TPM != nil {
		h.TPM = hand(o.TPM)
	}
	if o.Processor != nil {
		ours, theirs, err := connectedPair()
		if err != nil {
			return h, nil, errors.Join(err, opened.Close())
		}
		opened = append(opened, ours, theirs)
		go func() {
			// When the confined process ends, there is nobody left to tell.
			_ = tsm.Serve(ctx, ours, o.Processor)
		}()
		h.Processor = hand(theirs)
	}
	return h, opened, nil
}

type closers []io.Closer

// Close closes all.
func (all closers) Close() error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// environment is the TEE in this confined process and the hardware that attests it.
type environment struct {
	*sandbox.TEE
	hardware *hardware.Hardware
}

// Close closes the TEE, and gives the TPM's memory back.
func (e *environment) Close() error { return errors.Join(e.TEE.Close(), e.hardware.Close()) }

// openEnvironment opens the hardware first: it names the device that a TEE is made for.
func openEnvironment(ctx context.Context, c *configuration, h handedHardware, inside *surroundings, log *slog.Logger) (*environment, error) {
	hw, err := h.use(ctx, c, inside)
	if err != nil {
		return nil, fmt.Errorf("%s: attestation: %w", c.Path, err)
	}
	t, err := openTEE(ctx, c, hw.UEID(), inside, log)
	if err != nil {
		return nil, errors.Join(err, hw.Close())
	}
	return &environment{TEE: t, hardware: hw}, nil
}

func (h handedHardware) use(ctx context.Context, c *configuration, inside *surroundings) (*hardware.Hardware, error) {
	var chip io.ReadWriter
	if h.TPM > 0 {
		chip = inside.Files[h.TPM]
	}
	var processor bound.Reporter
	if h.Processor > 0 {
		relay, err := tsm.NewRelay(inside.Files[h.Processor])
		if err != nil {
			return nil, err
		}
		processor = relay
	}
	return hardware.New(ctx, c.Attestation, h.Material, chip, processor)
}

// attester is what the agent attests itself with.
func (e *environment) attester() (attest.Attester, error) {
	signer, err := e.Keys().Signer(tee.KeyAttestation)
	if err != nil {
		return nil, err
	}
	id := e.Identity()
	return e.hardware.Attester(eat.Identity{
		UEID: id.UEID, OEMID: id.OEMID, HWModel: id.HWModel, HWVersion: id.HWVersion,
		AgentName: id.AgentName, AgentVersion: id.AgentVersion, Measurement: id.Measurement,
		Weaknesses: id.Weaknesses,
	}, signer, time.Now, rand.Reader)
}

// ueid is the device's name: what its hardware says, or else the configuration. Without either, the
// TEE makes one at its first start.
func (i identity) ueid(byHardware []byte) ([]byte, error) {
	configured, err := hex.DecodeString(i.UEID)
	switch {
	case err != nil:
		return nil, fmt.Errorf("identity.ueid %q: write it in hexadecimal, type byte first", i.UEID)
	case len(configured) == 0:
		return byHardware, nil
	case byHardware != nil && string(byHardware) != string(configured):
		return nil, fmt.Errorf("identity.ueid is %x, the hardware is the device %x: remove identity.ueid", configured, byHardware)
	}
	return configured, nil
}
