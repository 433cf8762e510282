package agent_test

import (
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// TestCertificateFaultAmongSeveralAnchors: where several TAMs are trusted by an authority, a TAM hears what is
// wrong with its chain under its own, and not that others do not know it (TEEP §4.6).
func TestCertificateFaultAmongSeveralAnchors(t *testing.T) {
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			anchors, authorities, carriers := "", map[string]*authority{}, map[string]*tam{}
			for _, n := range []string{"first", "second"} {
				ca, carrier := newAuthority(t, w.device.now.AddDate(-1, 0, 0)), newTAM(t, n)
				authorities[n], carriers[n] = ca, carrier
				root := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})))
				anchors += fmt.Sprintf("  - name: %s\n    uris: [%s]\n    certificate-subject: tam.%s.example\n    certificate-authority: |\n        %s\n",
					n, carrier.uri, n, strings.ReplaceAll(root, "\n", "\n        "))
			}
			w.cfg.RevocationLists = [][]byte{authorities[name].revoke(t, w.device.now, 2)}
			if _, err := w.tryStart([]byte(strings.Replace(string(w.trust()), "signers:\n", anchors+"signers:\n", 1))); err != nil {
				t.Fatal(err)
			}
			signer, err := carriers[name].p256.Signer()
			if err != nil {
				t.Fatal(err)
			}
			for says, until := range map[string]time.Time{"is revoked": w.device.now.AddDate(1, 0, 0), "is expired": w.device.now.Add(-time.Hour)} {
				payload, err := teep.Encode(query(t, teep.DataTrustedComponents))
				if err != nil {
					t.Fatal(err)
				}
				chain := [][]byte{authorities[name].certify(t, "tam."+name+".example", carriers[name].p256, until)}
				raw, err := cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{X5Chain: chain})
				if err != nil {
					t.Fatal(err)
				}
				ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(carriers[name]).Session, raw)
				if err != nil {
					t.Fatal(err)
				}
				if e, ok := w.decode(ask).(*teep.Error); !ok || !strings.Contains(e.Message, says) {
					t.Errorf("a TAM whose certificate %s hears %#v", says, e)
				}
			}
		})
	}
}
