package agent_test

import (
	"crypto/rand"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// TestReportsOfATAM: SUIT Reports in a profile that the agent supports do not keep it from answering, whatever
// form the text lets them have; others get ERR_UNSUPPORTED_SUIT_REPORT (TEEP §7.2.1).
func TestReportsOfATAM(t *testing.T) {
	w := newWorld(t)
	w.start() // its profiles are those with ESP256
	r := &suit.Report{Reference: suit.Reference{Digest: suit.NewDigest([]byte("manifest"))}}
	plain, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	signed := func(alg cose.Algorithm) []byte {
		s, err := newKey(t, alg).Signer()
		if err != nil {
			t.Fatal(err)
		}
		data, err := suit.SignReport(rand.Reader, plain, s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	sealed := func(alg cose.Algorithm) []byte {
		data, err := suit.EncryptReport(rand.Reader, r, alg, newKey(t, cose.AlgECDHESA128KW).Public())
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	mac, err := suit.MACReport(plain, newKey(t, cose.AlgHMAC256))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		report []byte
		good   bool
	}{
		"plain":                                  {plain, true},
		"signed with ESP256":                     {signed(cose.AlgESP256), true},
		"signed with ESP256, without tag":        {signed(cose.AlgESP256)[1:], true},
		"encrypted with A128GCM":                 {sealed(cose.AlgA128GCM), true},
		"encrypted with A128CTR":                 {sealed(cose.AlgA128CTR), true},
		"encrypted with A128CTR, without tag":    {sealed(cose.AlgA128CTR)[2:], true},
		"signed with Ed25519":                    {signed(cose.AlgEd25519), false},
		"encrypted with ChaCha20/Poly1305":       {sealed(cose.AlgChaCha20Poly1305), false},
		"with a MAC":                             {mac, false},
		"an array that is no COSE structure":     {[]byte{0x82, 0x01, 0x02}, false},
		"a COSE structure without any algorithm": {[]byte{0xd2, 0x84, 0x40, 0xa0, 0x41, 0xa0, 0x40}, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := query(t, teep.DataTrustedComponents)
			q.SUITReports = [][]byte{plain, c.report}
			switch m := w.exchange(w.one, q).(type) {
			case *teep.QueryResponse:
				if !c.good {
					t.Error("taken")
				}
			case *teep.Error:
				if c.good || m.Code != teep.ErrUnsupportedSUITReport || len(m.SUITProfiles) == 0 {
					t.Errorf("answered with %v %q, profiles %v", m.Code, m.Message, m.SUITProfiles)
				}
			}
		})
	}
}
