package hardware

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/cose"
)

// Collateral is what a verifier needs to know of this device, as it stands, to accept its Evidence:
// endorsements of the keys that no certificate vouches for, and the values of the PCRs as reference
// values. It is for whoever has the device in hand and knows that it is in the state that it shall
// be in: nothing of it is proven to others. The TEE's attestation key and UEID are the caller's.
func (h *Hardware) Collateral(owner string, class appraisal.Class, ueid []byte, key *cose.Key, expires time.Time) (*appraisal.Collateral, error) {
	all := &appraisal.Collateral{Owner: owner, Expires: expires}
	endorse := func(k *cose.Key) {
		all.Endorsements = append(all.Endorsements, appraisal.Endorsement{Owner: owner, UEID: ueid, Key: k, Class: class})
	}
	if h.c.has(EAT) && h.material.Chain == nil {
		endorse(key)
	}
	if h.quoter == nil {
		return all, nil
	}
	if h.material.AKChain == nil {
		endorse(h.quoter.Key())
	}
	values, err := h.quoter.PCRs()
	if err != nil {
		return nil, fmt.Errorf("hardware: %w", err)
	}
	for _, pcr := range slices.Sorted(maps.Keys(values)) {
		all.References = append(all.References, appraisal.Reference{
			Owner: owner, Class: class, Expires: expires, Name: tpm.PCRName(pcr), Algorithm: cose.AlgSHA256, Digest: values[pcr],
			Status: attest.StatusAffirming, Why: "the state of the device that printed this",
		})
	}
	return all, nil
}
