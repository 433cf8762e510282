package tam

import (
	"context"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
)

// logFormats tells the operator when an agent that knows the extension can give none of the formats
// that are wanted, or gave another: its Evidence will not be accepted, and why is not obvious.
func (t *TAM) logFormats(ctx context.Context, s *sender, m *teep.QueryResponse) {
	if len(t.wanted) == 0 || s.payload.data == nil {
		return
	}
	offered, err := teep.EvidenceFormats(m.Extensions)
	if err != nil || offered == nil {
		return
	}
	for _, w := range t.wanted {
		for _, o := range offered {
			if attest.SameType(w, o) {
				return
			}
		}
	}
	t.log.WarnContext(ctx, "the device can give none of the kinds of Evidence that are wanted (verifier.formats)",
		"device", DeviceID(s.key.Thumbprint()), "offered", offered, "wanted", t.wanted)
}
