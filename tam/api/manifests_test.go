package api

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// What was sent to a device can be had again: the TAM's own manifests from its record, others from its messages.
func TestSentManifests(t *testing.T) {
	s := newService(t)
	d := s.device(t.Context())
	signer, err := key(t, cose.AlgESP256).Signer()
	must(t, err)
	own, developers := s.envelope(7, s.author), s.envelope(1, s.author)
	d.Deliveries = []tam.Delivery{{Manifest: suit.NewComponentID("acme"), Sequence: 7, Envelope: own}, {Manifest: suit.NewComponentID("long"), Sequence: 8}}
	must(t, s.config.Store.CommitExchange(t.Context(), tam.Exchange{Device: d}))
	record := func(n int64, way tam.Direction, m teep.Message) {
		data, err := teep.Protect(rand.Reader, m, signer)
		must(t, err)
		must(t, s.config.Store.AddRecorded(t.Context(), []tam.Recorded{{DeviceID: "0123", ID: n, At: s.now, Direction: way, Size: len(data), Data: data}}, 10))
	}
	record(1, tam.DirectionSent, &teep.Update{Token: []byte("12345678"), Manifests: [][]byte{developers, {0x82, 1, 2}}})
	record(2, tam.DirectionReceived, &teep.Success{Token: []byte("12345678")})
	must(t, s.config.Store.AddRecorded(t.Context(), []tam.Recorded{{DeviceID: "0123", ID: 3, At: s.now, Direction: tam.DirectionSent, Size: 3, Data: []byte{0xff, 0, 1}},
		{DeviceID: "0123", ID: 4, At: s.now, Direction: tam.DirectionSent, Size: tam.MaxRecorded + 1}}, 10))

	c := s.client(ScopeAuditor)
	page, err := c.SentManifests(t.Context(), "0123", "")
	must(t, err)
	if len(page.Items) != 3 || page.Next != "" {
		t.Fatalf("sent were %+v", page)
	}
	kept, sent, unreadable := page.Items[0], page.Items[1], page.Items[2]
	e, err := suit.ParseEnvelope(own)
	must(t, err)
	if kept.Message != 0 || kept.At != nil || kept.Sequence != 7 || kept.Digest != e.Digest.String() || kept.Manifest != "'acme'/'app'/'suit'" {
		t.Errorf("one of the TAM's own is %+v", kept)
	}
	if data, err := base64.StdEncoding.DecodeString(kept.Data); err != nil || !bytes.Equal(data, own) {
		t.Errorf("its data is another: %v", err)
	}
	if sent.Message != 1 || sent.At == nil || sent.Sequence != 1 || sent.Problem != "" {
		t.Errorf("one in a message is %+v", sent)
	}
	if unreadable.Problem == "" || unreadable.Digest != "" || unreadable.Data == "" {
		t.Errorf("one that is no envelope is %+v", unreadable)
	}
	if page, err = c.SentManifests(t.Context(), "0123", "2"); err != nil || len(page.Items) != 2 || page.Items[0].Message != 1 {
		t.Errorf("the next page is %+v, %v", page, err)
	}
	_, err = c.SentManifests(t.Context(), "none", "")
	wantProblem(t, err, http.StatusNotFound, "not-found")
	_, err = c.SentManifests(t.Context(), "0123", "x")
	wantProblem(t, err, http.StatusBadRequest, "after")
	_, err = s.client(ScopePublisher).SentManifests(t.Context(), "0123", "")
	wantProblem(t, err, http.StatusForbidden, "scope")
}
