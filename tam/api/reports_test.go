package api

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// The reports of a device's messages are opened, newest first, and come as 'teep suit explain' takes them.
func TestReports(t *testing.T) {
	s := newService(t)
	s.device(t.Context())
	signer, err := key(t, cose.AlgESP256).Signer()
	must(t, err)
	var properties suit.Parameters
	properties.SetInvokeArgs([]byte("update"))
	told := &suit.Report{Reference: suit.Reference{URI: "https://example.com/hello.suit", Digest: suit.NewDigest([]byte("x"))},
		Records: []suit.ReportEntry{{Claims: &suit.SystemPropertyClaims{Component: suit.NewComponentID("hello", "manifest"), Parameters: properties}}}}
	failed := &suit.Report{Reference: suit.Reference{Digest: suit.NewDigest([]byte("y"))},
		Failure: &suit.Failure{Reason: suit.ReasonConditionFailed, Record: suit.Record{Section: suit.LabelInstall, Offset: 7}}}
	plain, err := failed.Encode()
	must(t, err)
	signed, err := suit.SignReport(rand.Reader, plain, signer)
	must(t, err)
	sealed, err := suit.EncryptReport(rand.Reader, told, cose.AlgA128GCM, s.recipient.Public())
	must(t, err)
	sealed, err = suit.SignReport(rand.Reader, sealed, signer)
	must(t, err)
	stranger, err := suit.EncryptReport(rand.Reader, told, cose.AlgA128GCM, key(t, cose.AlgECDHESA128KW).Public())
	must(t, err)
	record := func(n int64, way tam.Direction, m teep.Message) {
		data, err := teep.Protect(rand.Reader, m, signer)
		must(t, err)
		must(t, s.config.Store.AddRecorded(t.Context(), []tam.Recorded{{DeviceID: "0123", ID: n, At: s.now, Direction: way, Size: len(data), Data: data}}, 10))
	}
	token := []byte("12345678")
	record(1, tam.DirectionReceived, &teep.Success{Token: token, SUITReports: [][]byte{sealed}})
	record(2, tam.DirectionReceived, &teep.Error{Token: token, Code: teep.ErrManifestProcessingFailed, SUITReports: [][]byte{signed, stranger}})
	record(3, tam.DirectionSent, &teep.Update{Token: token})
	record(4, tam.DirectionReceived, &teep.Success{Token: token})
	must(t, s.config.Store.AddRecorded(t.Context(), []tam.Recorded{{DeviceID: "0123", ID: 5, At: s.now, Direction: tam.DirectionReceived, Size: 3, Data: []byte{0xff, 0, 1}},
		{DeviceID: "0123", ID: 6, At: s.now, Direction: tam.DirectionReceived, Size: tam.MaxRecorded + 1}}, 10))

	c := &Client{BaseURL: s.server.URL, Token: s.token(ScopeAuditor)}
	page, err := c.Reports(t.Context(), "0123", "")
	must(t, err)
	if len(page.Items) != 3 || page.Next != "" {
		t.Fatalf("the reports are %+v", page)
	}
	first, second, last := page.Items[0], page.Items[1], page.Items[2]
	if first.Message != 2 || first.Index != 0 || first.Reason != "condition-failed" || first.Place != "install at byte 7" || first.Procedure != "" {
		t.Errorf("a failure is %+v", first)
	}
	if second.Index != 1 || second.Problem == "" || second.Data != "" || second.Reason != "" {
		t.Errorf("a report that is encrypted to another is %+v", second)
	}
	if last.Message != 1 || last.Reason != "ok" || last.Procedure != "update" || last.Manifest != "'hello'/'manifest'" || last.URI != told.Reference.URI || last.Digest != told.Reference.Digest.String() {
		t.Errorf("a success is %+v", last)
	}
	data, err := base64.StdEncoding.DecodeString(last.Data)
	must(t, err)
	if r, err := suit.ParseReport(data); err != nil || !r.Reference.Digest.Equal(told.Reference.Digest) {
		t.Errorf("its data: %v", err)
	}
	for path, want := range map[string]int{
		"/v1/devices/none/reports":         http.StatusNotFound,
		"/v1/devices/0123/reports?after=x": http.StatusBadRequest,
	} {
		if status, p := s.request(http.MethodGet, path, "Bearer "+c.Token, nil, ""); status != want || p.Next == "" {
			t.Errorf("%s answers %d (%+v), want %d and what to do", path, status, p, want)
		}
	}
	if status, _ := s.request(http.MethodGet, "/v1/devices/0123/reports", "Bearer "+s.token(ScopePublisher), nil, ""); status != http.StatusForbidden {
		t.Errorf("a publisher is answered %d", status)
	}
}
