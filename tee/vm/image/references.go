package image

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/cose"
)

// MeasuredPCRs are the registers that say what a machine booted: its firmware and its image.
var MeasuredPCRs = []int{0, 4, 8, 9, 11}

// ReferenceOptions say for whom the image is, and who says so.
type ReferenceOptions struct {
	// Owner vouches for the image until Expires.
	Owner   string
	Expires time.Time
	// Class is the product that boots it.
	Class appraisal.Class
	// Name and Version are the agent's, for people.
	Name, Version string
	// MemoryMiB is the memory of the machine.
	MemoryMiB int
	// Firmware is PCR 0 after a boot with firmware that the owner vouches for too, which a machine
	// whose firmware is known to be genuine has told. Empty leaves it to other collateral.
	Firmware []byte
	// AcceptedWeaknesses are those that the owner accepts.
	AcceptedWeaknesses []string
}

// References are what a verifier has to expect of machines that boot the image: the agent by its own
// digest, and the registers of a measured boot.
func (i *Image) References(agent []byte, o ReferenceOptions) (*appraisal.Collateral, error) {
	if o.Owner == "" || o.Expires.IsZero() {
		return nil, errors.New("image: reference values need an owner and an end")
	}
	c := &appraisal.Collateral{Owner: o.Owner, Expires: o.Expires}
	add := func(name string, digest []byte, why string) {
		r := appraisal.Reference{
			Owner: o.Owner, Class: o.Class, Expires: o.Expires, Name: name, Version: o.Version,
			Algorithm: cose.AlgSHA256, Digest: digest, Status: attest.StatusAffirming, Why: why,
		}
		if name == o.Name {
			r.AcceptedWeaknesses = o.AcceptedWeaknesses
		}
		if !slices.ContainsFunc(c.References, func(old appraisal.Reference) bool {
			return old.Name == name && slices.Equal(old.Digest, digest)
		}) {
			c.References = append(c.References, r)
		}
	}
	own := sha256.Sum256(agent)
	add(o.Name, own[:], "the agent in the image")
	if len(o.Firmware) > 0 {
		add(tpm.PCRName(0), o.Firmware, "the firmware")
	}
	for _, verbatim := range []bool{false, true} {
		pcrs, err := i.PCRs(Loader{MemoryMiB: o.MemoryMiB, Verbatim: verbatim})
		if err != nil {
			return nil, err
		}
		for _, pcr := range slices.Sorted(maps.Keys(pcrs)) {
			value := pcrs[pcr]
			add(tpm.PCRName(pcr), value[:], fmt.Sprintf("a machine of %d MiB that booted the image", o.MemoryMiB))
		}
	}
	return c, nil
}
