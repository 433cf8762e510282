package tsm

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/go-teep/teep/attest/bound"
)

// ChipUEID names a device by its AMD processor: a random number in the sense of RFC 9711 §4.2.1.1,
// derived from the 64 bytes of the chip identifier. Guests of one chip are one device.
func ChipUEID(chipID []byte) []byte {
	sum := sha256.Sum256(append([]byte("AMD SEV-SNP chip\x00"), chipID...))
	return append([]byte{0x01}, sum[:]...)
}

// Where the chip identifier lies in a report (SEV Secure Nested Paging Firmware ABI, table 23).
const chipIDAt, chipIDSize = 0x1a0, 64

// ReadUEID asks the processor who it is, where its reports say so in plain: those of SEV-SNP do. Who
// a TDX platform is stands in a certificate inside the quote, and is configured; then the result is
// nil.
func ReadUEID(ctx context.Context, r bound.Reporter) ([]byte, error) {
	if r.MediaType() != bound.SEVSNPReport {
		return nil, nil
	}
	report, err := r.Report(ctx, bound.Binding{})
	if err != nil {
		return nil, err
	}
	if len(report) < chipIDAt+chipIDSize {
		return nil, fmt.Errorf("tsm: a report of %d bytes has no chip identifier", len(report))
	}
	return ChipUEID(report[chipIDAt : chipIDAt+chipIDSize]), nil
}
