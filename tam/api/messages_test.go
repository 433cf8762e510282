package api

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// recorded puts a signed Error of device 0123, and an Update that was too large to keep, into the store.
func (s *service) recorded(ctx context.Context) {
	s.t.Helper()
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(s.t, err)
	signer, err := key.Signer()
	must(s.t, err)
	report, err := (&suit.Report{Reference: suit.Reference{Digest: suit.NewDigest(nil)}}).Encode()
	must(s.t, err)
	data, err := teep.Protect(rand.Reader, &teep.Error{Code: teep.ErrTemporaryError, Message: "later", Token: []byte("12345678"),
		SUITReports: [][]byte{report}}, signer)
	must(s.t, err)
	update, err := teep.Protect(rand.Reader, &teep.Update{Token: []byte("12345678"), Manifests: [][]byte{s.envelope(1, s.author)}}, signer)
	must(s.t, err)
	asked := s.now
	must(s.t, s.config.Store.AddRecorded(ctx, []tam.Recorded{
		{DeviceID: "0123", ID: s.now.UnixMicro(), At: s.now, Direction: tam.DirectionReceived, Asked: asked, Size: len(data), Data: data},
		{DeviceID: "0123", ID: s.now.UnixMicro() + 1, At: s.now, Direction: tam.DirectionSent, Size: tam.MaxRecorded + 1},
		{DeviceID: "0123", ID: s.now.UnixMicro() + 2, At: s.now, Direction: tam.DirectionReceived, Size: 3, Data: []byte{0xff, 0, 1}},
		{DeviceID: "0123", ID: s.now.UnixMicro() - 1, At: s.now, Direction: tam.DirectionSent, Size: len(update), Data: update},
	}, 10))
}

func TestMessages(t *testing.T) {
	s := newService(t)
	s.device(t.Context())
	s.recorded(t.Context())
	c := &Client{BaseURL: s.server.URL, Token: s.token(ScopeAuditor)}
	first := s.now.UnixMicro()

	page, err := c.Messages(t.Context(), "0123", "")
	must(t, err)
	if len(page.Items) != 4 || page.Items[2].ID != first || page.Items[2].Asked == nil || page.Items[1].Asked != nil {
		t.Fatalf("the messages are %+v", page.Items)
	}
	m, err := c.Message(t.Context(), "0123", first)
	must(t, err)
	for _, want := range []string{"later", "token / 20: '12345678'"} {
		if !strings.Contains(m.Notation, want) {
			t.Errorf("the notation lacks %q:\n%s", want, m.Notation)
		}
	}
	if !m.Kept || base64.StdEncoding.DecodedLen(len(m.Data)) < m.Message.Size || m.Summary == "" || len(m.Parts) == 0 {
		t.Errorf("the message is shown as %+v", m)
	}
	if m, err = c.Message(t.Context(), "0123", first+1); err != nil || m.Kept || m.Summary == "" {
		t.Errorf("a message that was not kept is shown as %+v (%v)", m, err)
	}
	// What is no message at all is shown with what is wrong with it.
	if m, err = c.Message(t.Context(), "0123", first+2); err != nil || len(m.Findings) == 0 {
		t.Errorf("garbage is shown as %+v (%v)", m, err)
	}
	for path, want := range map[string]int{
		"/v1/devices/0123/messages/1":                               http.StatusNotFound,
		"/v1/devices/none/messages/" + strconv.FormatInt(first, 10): http.StatusNotFound,
		"/v1/devices/none/messages":                                 http.StatusNotFound,
		"/v1/devices/0123/messages/x":                               http.StatusBadRequest,
		"/v1/devices/0123/messages?after=x":                         http.StatusBadRequest,
		"/v1/devices/0123/messages?after=-1":                        http.StatusBadRequest,
	} {
		if status, p := s.request(http.MethodGet, path, "Bearer "+c.Token, nil, ""); status != want || p.Next == "" {
			t.Errorf("%s answers %d (%+v), want %d and what to do", path, status, p, want)
		}
	}
}
