// Package tpm makes and appraises quotes of a TPM 2.0: a signature over platform configuration
// registers (PCRs), in which the firmware and the boot loader recorded what they started, and over
// the binding of the agent's claims (package bound).
//
// Inside the TEE, a [Quoter] signs with an attestation key (AK) that never leaves the TPM. Who the
// AK belongs to is known to the verifier in one of two ways: by an X.509 certificate that names the
// device, or by enrolment. In an enrolment, the owner checks the endorsement key's certificate
// (EK), by which the maker vouches for the TPM, and has the TPM prove that the AK lies beside it
// (credential activation, TPM 2.0 Part 1 §24):
//
//	ch, err := tpm.NewChallenge(rand, request, makers, now) // owner: request is Quoter.Request()
//	answer, err := quoter.Activate(ch.Credential)           // device
//	endorsement, err := ch.Endorse(answer)                  // owner: goes into the collateral
//
// [Reports] checks quotes. What is expected in the PCRs comes from reference values: the final
// value under [PCRName], or else each event of the log that led to it under [EventName].
package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Limits of a quote that is read.
const (
	// MaxQuoteBytes holds the event log, which is most of it.
	MaxQuoteBytes = 512 << 10
	// MaxPCRs is the number of PCRs that a bank has on a PC (PC Client Platform TPM Profile §4.6).
	MaxPCRs = 24
)

// DefaultPCRs are those that a measured boot under UEFI determines: firmware, its boot loader,
// the kernel's command line, kernel and initramfs, and the unified image.
func DefaultPCRs() []int { return []int{0, 4, 8, 9, 11} }

// PCRName is the measured component that holds the SHA-256 value of a PCR.
func PCRName(pcr int) string { return fmt.Sprintf("pcr-%d", pcr) }

// EventName is the measured component that holds the SHA-256 digest of one event in a PCR.
func EventName(pcr int) string { return fmt.Sprintf("pcr-%d-event", pcr) }

// UEID names the device by the name of its TPM's endorsement key: a number in the sense of RFC
// 9711 §4.2.1.1 (RAND), derived from what is unique to the TPM.
func UEID(ekName []byte) []byte {
	sum := sha256.Sum256(append([]byte("TPM 2.0 endorsement key\x00"), ekName...))
	return append([]byte{0x01}, sum[:]...)
}

// Quote is a quote on the wire.
//
//	quote = {
//	    1 => bstr,                        ; TPMS_ATTEST
//	    2 => bstr .size 64,               ; its ECDSA signature, P-256 and SHA-256: r, s
//	    3 => { + 0..23 => bstr .size 32 }, ; the SHA-256 bank
//	    ? 4 => bstr,                      ; thumbprint of the AK (RFC 9679), unless there is a chain
//	    ? 5 => [ + bstr ],                ; certificates of the AK, its own first
//	    ? 6 => bstr                       ; event log (TCG PC Client Platform Firmware Profile §10)
//	}
type Quote struct {
	Attest     []byte         `cbor:"1,keyasint"`
	Signature  []byte         `cbor:"2,keyasint"`
	PCRs       map[int][]byte `cbor:"3,keyasint"`
	Thumbprint []byte         `cbor:"4,keyasint,omitempty"`
	X5Chain    [][]byte       `cbor:"5,keyasint,omitempty"`
	EventLog   []byte         `cbor:"6,keyasint,omitempty"`
}

// qualify is the data that the TPM signs for its caller, 32 bytes because many TPMs take no 64. It
// covers the event log too: the PCRs vouch for the digests of events, but not for their order
// between PCRs, nor for what is said of them.
//
//	qualifying = SHA-256(binding || SHA-256(event log, or empty))
func qualify(b bound.Binding, eventLog []byte) []byte {
	log := sha256.Sum256(eventLog)
	sum := sha256.Sum256(append(b[:], log[:]...))
	return sum[:]
}

// Encode writes the quote deterministically.
func (q *Quote) Encode() ([]byte, error) {
	data, err := cbor.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("tpm: encode quote: %w", err)
	}
	if len(data) > MaxQuoteBytes {
		return nil, fmt.Errorf("tpm: the quote has %d bytes, at most %d can be read: send it without the event log", len(data), MaxQuoteBytes)
	}
	return data, nil
}

// ParseQuote reads a quote. Nothing in it is verified. The error is [attest.ErrFormat].
func ParseQuote(data []byte) (*Quote, error) {
	if len(data) > MaxQuoteBytes {
		return nil, malformed(fmt.Errorf("%d bytes, at most %d are read", len(data), MaxQuoteBytes))
	}
	var members map[int]cbor.RawMessage
	if err := cbor.Unmarshal(data, &members); err != nil {
		return nil, malformed(err)
	}
	for label := range members {
		if label < 1 || label > 6 {
			return nil, malformed(fmt.Errorf("unknown member %d", label))
		}
	}
	q := &Quote{}
	if err := cbor.Unmarshal(data, q); err != nil {
		return nil, malformed(err)
	}
	switch {
	case len(q.PCRs) == 0 || len(q.PCRs) > MaxPCRs:
		return nil, malformed(fmt.Errorf("%d PCRs, 1 to %d are possible", len(q.PCRs), MaxPCRs))
	case (len(q.Thumbprint) == 0) == (len(q.X5Chain) == 0):
		return nil, malformed(errors.New("the attestation key is named either by thumbprint or by certificates"))
	case len(q.X5Chain) > cose.MaxCertificates:
		return nil, malformed(fmt.Errorf("%d certificates, at most %d are read", len(q.X5Chain), cose.MaxCertificates))
	}
	for pcr, value := range q.PCRs {
		if pcr < 0 || pcr >= MaxPCRs || len(value) != sha256.Size {
			return nil, malformed(fmt.Errorf("PCR %d of %d bytes; the bank is SHA-256", pcr, len(value)))
		}
	}
	return q, nil
}

func malformed(err error) error { return fmt.Errorf("%w: TPM quote: %w", attest.ErrFormat, err) }
