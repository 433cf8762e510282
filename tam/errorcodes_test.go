package tam_test

import (
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// coversAssigned fails when a table of codes leaves out one that the text defines (TEEP §4.6).
func coversAssigned(t *testing.T, codes map[teep.ErrorCode]bool, except ...teep.ErrorCode) {
	t.Helper()
	for _, c := range except {
		codes[c] = true
	}
	for c := teep.ErrorCode(1); c <= 23; c++ {
		if strings.HasPrefix(c.String(), "ERR_") && !codes[c] {
			t.Errorf("no test says what the TAM does about %v", c)
		}
	}
}

// TestErrorCodesOfTheTAM goes through what a TAM finds wrong with a QueryResponse, and says in an Update
// (TEEP §4.4, §7.1.1).
func TestErrorCodesOfTheTAM(t *testing.T) {
	version := teep.Version(7)
	for _, test := range []struct {
		name string
		code teep.ErrorCode
		make func(a *agent, q *teep.QueryRequest) *teep.QueryResponse
	}{
		{"a data item that was asked for is missing", teep.ErrPermanentError, func(a *agent, q *teep.QueryRequest) *teep.QueryResponse {
			r := a.response(q)
			r.TrustedComponents = nil
			return r
		}},
		{"a version that was not offered", teep.ErrUnsupportedMsgVersion, func(a *agent, q *teep.QueryRequest) *teep.QueryResponse {
			r := a.response(q)
			r.SelectedVersion = &version
			return r
		}},
		{"attestation that fails", teep.ErrAttestationRequired, func(a *agent, q *teep.QueryRequest) *teep.QueryResponse {
			a.measurement = "evil"
			return a.response(q)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.agent(cose.AlgESP256)
			u, ok := a.send(test.make(a, a.connect())).(*teep.Update)
			if !ok || u.ErrorCode != test.code || u.ErrorMessage == "" || u.Token != nil || len(u.Manifests) != 0 {
				t.Fatalf("answered with %+v", u)
			}
		})
	}
}
