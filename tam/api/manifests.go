package api

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// SentManifest is a SUIT envelope that was sent to a device: one that a publisher uploaded, or one of the TAM's own, which
// is nowhere else.
type SentManifest struct {
	// Message is the recorded Update that it was in, and At when that was sent. Of the TAM's own manifests the newest
	// ones are kept in the record of the device: they come without, and may come once more with their message.
	Message int64      `json:"message,omitempty,string"`
	At      *time.Time `json:"at,omitempty"`
	// Manifest is its SUIT Manifest Component ID; empty if it names none.
	Manifest string `json:"manifest,omitempty"`
	Sequence uint64 `json:"sequence,string"`
	// Digest is what SUIT Reports refer to it by.
	Digest string `json:"digest,omitempty"`
	// Problem says why an envelope cannot be read here, such as one that is encrypted to the device. The rest
	// is empty then, but for Data.
	Problem string `json:"problem,omitempty"`
	// Data is the envelope, in base64. Of one that is kept in the device's record, integrated dependencies are missing:
	// its signature does not cover them, and 'teep suit explain' takes them with --dependency.
	Data string `json:"data"`
}

// sentManifests finds what was sent to a device, in its record and in its recorded messages.
func (h *handler) sentManifests(w http.ResponseWriter, r *http.Request) error {
	return recorded(h, w, r, tam.DirectionSent, func(d *tam.Device) []SentManifest {
		var kept []SentManifest
		for i := len(d.Deliveries) - 1; i >= 0; i-- {
			if envelope := d.Deliveries[i].Envelope; envelope != nil {
				kept = append(kept, viewSentManifest(envelope))
			}
		}
		return kept
	}, func(m *tam.Recorded) []SentManifest {
		var sent []SentManifest
		for _, envelope := range manifestsIn(m.Data) {
			view, at := viewSentManifest(envelope), m.At.UTC()
			view.Message, view.At = m.ID, &at
			sent = append(sent, view)
		}
		return sent
	})
}

// manifestsIn finds the envelopes of an Update. The TAM made the message itself.
func manifestsIn(message []byte) [][]byte {
	payload, err := cose.UnverifiedPayload(message)
	if err != nil {
		return nil
	}
	m, err := teep.Decode(payload)
	if err != nil {
		return nil
	}
	if u, ok := m.(*teep.Update); ok {
		return u.Manifests
	}
	return nil
}

func viewSentManifest(envelope []byte) SentManifest {
	view := SentManifest{Data: base64.StdEncoding.EncodeToString(envelope)}
	e, err := suit.ParseEnvelope(envelope)
	var m *suit.Manifest
	if err == nil {
		m, err = e.UnverifiedManifest()
	}
	if err != nil {
		view.Problem = err.Error()
		return view
	}
	view.Sequence, view.Digest = m.SequenceNumber, e.Digest.String()
	if m.ComponentID != nil {
		view.Manifest = m.ComponentID.String()
	}
	return view
}
