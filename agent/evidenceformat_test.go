package agent_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/internal/cbor"
)

// kinds makes Evidence of several kinds, the first preferred.
type kinds []string

func (k kinds) MediaTypes() []string { return k }

func (k kinds) Attest(_ context.Context, mediaType string, _ attest.Request) (attest.Evidence, error) {
	if mediaType == "" {
		mediaType = k[0]
	}
	return attest.Evidence{MediaType: mediaType, Payload: []byte("evidence")}, nil
}

// TestEvidenceFormat: the agent gives what the TAM asks for where it can, says what it has, and takes
// nothing amiss that it does not understand.
func TestEvidenceFormat(t *testing.T) {
	w := newWorld(t)
	cfg := w.cfg
	cfg.TEE, cfg.Trust, cfg.Clock = w.device, w.trust(), func() time.Time { return w.device.now }
	cfg.Attester = kinds{"application/a", `application/b; p="x"`}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.agent = a
	for name, c := range map[string]struct {
		option any
		want   string
	}{
		"nothing asked":           {nil, "application/a"},
		"the other one":           {[]string{"application/b;p=x"}, `application/b; p="x"`},
		"in the TAM's order":      {[]string{"application/z", `application/b; p="x"`, "application/a"}, `application/b; p="x"`},
		"what the agent has not":  {[]string{"application/z"}, "application/a"},
		"no list":                 {7, "application/a"},
		"a list that is no texts": {[]int{1}, "application/a"},
		"an empty list":           {[]string{}, "application/a"},
	} {
		t.Run(name, func(t *testing.T) {
			q := query(t, teep.DataAttestation|teep.DataExtensions)
			if c.option != nil {
				raw, err := cbor.Marshal(c.option)
				if err != nil {
					t.Fatal(err)
				}
				q.Extensions = map[uint64]teep.RawMessage{teep.ExtensionEvidenceFormats: raw}
			}
			r, ok := w.exchange(w.one, q).(*teep.QueryResponse)
			if !ok || r.AttestationFormat != c.want {
				t.Fatalf("got %#v, want Evidence as %s", r, c.want)
			}
			offered, err := teep.EvidenceFormats(r.Extensions)
			if err != nil || !slices.Equal(offered, cfg.Attester.MediaTypes()) || !slices.Contains(r.ExtensionList, teep.ExtensionEvidenceFormats) {
				t.Errorf("offers %q, extensions %v, %v", offered, r.ExtensionList, err)
			}
		})
	}
	// Who does not ask for extensions is told of none.
	if r := w.exchange(w.one, query(t, teep.DataAttestation)).(*teep.QueryResponse); r.Extensions != nil || r.ExtensionList != nil {
		t.Errorf("%+v", r)
	}
}
