package tpmseal_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-teep/teep/attest/tpm/tpmtest"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/teetest"
)

// TestConformance: a TEE whose state is sealed under a TPM is a TEE like any other.
func TestConformance(t *testing.T) {
	tpmtest.Require(t)
	teetest.Run(t, func(t *testing.T) teetest.Device {
		chip, dir := maker.Manufacture(t), filepath.Join(t.TempDir(), "tee")
		return teetest.Device{
			Start: func() (tee.TEE, error) {
				e, err := sandbox.Open(context.Background(), sandbox.Config{
					Dir: dir, Keys: source(chip), Rand: rand.Reader, Now: time.Now,
					Identity: sandbox.Identity{OEMID: []byte{0x19, 0x7a, 0x69}, HWModel: []byte("model"), HWVersion: "1.0",
						VendorID: [16]byte{1}, ClassID: [16]byte{2}, AgentVersion: "1.2.3"},
				})
				if err != nil {
					return nil, err
				}
				return e, nil
			},
			Stop: func(e tee.TEE) error { return e.(*sandbox.TEE).Close() },
			Dir:  dir,
		}
	})
}
