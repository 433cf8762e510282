package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/tpm"
)

func TestEventLogRefused(t *testing.T) {
	digest := sha256.Sum256(nil)
	good := append(specID(), event(0, 1, digest, "x")...)
	if events, err := tpm.ParseEventLog(good); err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	for n := range good {
		if events, err := tpm.ParseEventLog(good[:n]); n != len(specID()) && !errors.Is(err, attest.ErrFormat) {
			t.Errorf("cut to %d bytes: %v, %v", n, events, err)
		}
	}
	bank := func(alg uint16) []byte {
		return append(specID(), le(uint32(0), uint32(1), uint32(1), alg, digest[:], uint32(0))...)
	}
	for name, log := range map[string][]byte{
		"SHA-1 log":         le(uint32(0), uint32(1), make([]byte, 20), uint32(0)),
		"wrong signature":   bytes.Replace(good, []byte("Event03"), []byte("Event02"), 1),
		"unknown bank":      bank(12),
		"no SHA-256 digest": append(specID(), le(uint32(0), uint32(1), uint32(1), uint16(4), make([]byte, 20), uint32(0))...),
		"no digests":        append(specID(), le(uint32(0), uint32(1), uint32(0), uint32(0))...),
		"many digests":      append(specID(), le(uint32(0), uint32(1), uint32(1<<31), uint32(0))...),
		"PCR 24":            append(specID(), event(24, 1, digest, "")...),
		"data too long":     append(specID(), le(uint32(0), uint32(1), uint32(1), uint16(11), digest[:], uint32(1<<31))...),
		"too many events":   append(specID(), bytes.Repeat(event(0, 1, digest, ""), 5000)...),
	} {
		if events, err := tpm.ParseEventLog(log); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %d events, %v", name, len(events), err)
		}
	}
	if events, err := tpm.ParseEventLog(append(specID(), event(0xffffffff, 3, digest, "StartupLocality")...)); err != nil || len(events) != 0 {
		t.Errorf("an event that is no measurement: %v, %v", events, err)
	}
}

// TestStartupLocality: firmware that a processor's own code measured starts PCR 0 at another value, as Boot
// Guard does it.
func TestStartupLocality(t *testing.T) {
	digest := sha256.Sum256([]byte("firmware"))
	const locality = "StartupLocality\x00"
	for _, at := range []byte{0, 3, 4} {
		log := append(append(specID(), event(0, 3, [32]byte{}, locality+string(at))...), event(0, 1, digest, "x")...)
		events, err := tpm.ParseEventLog(log)
		if err != nil {
			t.Fatal(err)
		}
		start := make([]byte, 32)
		start[31] = at
		if want := sha256.Sum256(append(start, digest[:]...)); !bytes.Equal(tpm.Replay(events)[0], want[:]) {
			t.Errorf("locality %d: %x", at, tpm.Replay(events)[0])
		}
	}
	first := event(0, 3, [32]byte{}, locality+"\x03")
	for name, log := range map[string][]byte{
		"twice":             append(append(specID(), first...), first...),
		"late":              append(append(specID(), event(0, 1, digest, "x")...), first...),
		"there is none":     append(specID(), event(0, 3, [32]byte{}, locality+"\x05")...),
		"no locality":       append(specID(), event(0, 3, [32]byte{}, locality)...),
		"several in a line": append(specID(), event(0, 3, [32]byte{}, locality+"\x03\x03")...),
	} {
		if events, err := tpm.ParseEventLog(log); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v, %v", name, events, err)
		}
	}
}

// FuzzParseEventLog: a log is read within its bounds, and what is read can be replayed.
func FuzzParseEventLog(f *testing.F) {
	f.Add(append(specID(), event(9, 0x0d, sha256.Sum256(nil), "kernel")...))
	f.Add(append(specID(), event(0, 3, [32]byte{}, "StartupLocality\x00\x03")...))
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := tpm.ParseEventLog(data)
		if err != nil && !errors.Is(err, attest.ErrFormat) {
			t.Fatal(err)
		}
		for pcr, value := range tpm.Replay(events) {
			if pcr < 0 || pcr > 16 || len(value) != 32 {
				t.Fatal(pcr, value)
			}
		}
	})
}
