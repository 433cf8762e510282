package agent_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/testca"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee"
)

// authority is a certificate authority that certifies TAMs.
type authority struct{ *testca.Authority }

func newAuthority(t *testing.T, from time.Time) *authority {
	t.Helper()
	return &authority{testca.New(t, "root", from, from.AddDate(10, 0, 0))}
}

// delegate makes an authority below this one.
func (a *authority) delegate(t *testing.T, name string, serial int64) *authority {
	t.Helper()
	return &authority{a.Below(t, name, serial)}
}

func (a *authority) certify(t *testing.T, name string, key *cose.Key, until time.Time) []byte {
	t.Helper()
	public, err := key.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	return a.Certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: a.Cert.NotBefore, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
	}, public)
}

// withCarrier is the world's trust anchor set with one more TAM, which is anchored by an authority.
func (w *world) withCarrier(ca *authority, carrier *tam) string {
	root := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})))
	return strings.Replace(string(w.trust()), "signers:\n", fmt.Sprintf(
		"  - name: carrier\n    uris: [%s]\n    certificate-subject: tam.carrier.example\n    certificate-authority: |\n        %s\nsigners:\n",
		carrier.uri, strings.ReplaceAll(root, "\n", "\n        ")), 1)
}

// chained passes a QueryRequest in with a certificate chain, and returns the answer.
func (w *world) chained(carrier *tam, chain ...[]byte) teep.Message {
	t := w.t
	t.Helper()
	payload, err := teep.Encode(query(t, teep.DataTrustedComponents))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := carrier.p256.Signer()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{X5Chain: chain}) // not NewCertified, which would notice
	if err != nil {
		t.Fatal(err)
	}
	ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(carrier).Session, raw)
	if err != nil {
		t.Fatal(err)
	}
	return w.decode(ask)
}

func TestTAMByCertificate(t *testing.T) {
	w := newWorld(t)
	from := w.device.now.AddDate(-1, 0, 0)
	ca, otherCA := newAuthority(t, from), newAuthority(t, from)
	carrier := newTAM(t, "carrier")
	set := w.withCarrier(ca, carrier)
	if _, err := w.tryStart([]byte(set)); err != nil {
		t.Fatal(err)
	}
	if w.agent.RenewRevocationLists(t.Context(), [][]byte{[]byte("no list")}) == nil {
		t.Error("a revocation list that is none was accepted")
	}
	later := w.device.now.AddDate(1, 0, 0)
	send := func(chain ...[]byte) teep.Message {
		t.Helper()
		return w.chained(carrier, chain...)
	}
	if m, ok := send(ca.certify(t, "tam.carrier.example", carrier.p256, later)).(*teep.QueryResponse); !ok {
		t.Fatalf("got %#v", m)
	}
	for name, tt := range map[string]struct {
		cert []byte
		code teep.ErrorCode
	}{
		"another authority": {otherCA.certify(t, "tam.carrier.example", carrier.p256, later), teep.ErrBadCertificate},
		"another name":      {ca.certify(t, "tam.other.example", carrier.p256, later), teep.ErrBadCertificate},
		"expired":           {ca.certify(t, "tam.carrier.example", carrier.p256, w.device.now.Add(-time.Hour)), teep.ErrCertificateExpired},
		"another key":       {ca.certify(t, "tam.carrier.example", w.dev, later), teep.ErrPermanentError},
		"no certificate":    {[]byte("certificate"), teep.ErrBadCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			if e, ok := send(tt.cert).(*teep.Error); !ok || e.Code != tt.code {
				t.Fatalf("got %#v", e)
			}
		})
	}
	good := ca.certify(t, "tam.carrier.example", carrier.p256, later)
	t.Run("offered in several suites", func(t *testing.T) {
		var signers []cose.Signer
		for _, k := range []*cose.Key{carrier.ed, carrier.p256} {
			plain, err := k.Signer()
			if err != nil {
				t.Fatal(err)
			}
			s, err := cose.NewCertified(plain, [][]byte{ca.certify(t, "tam.carrier.example", k, later)})
			if err != nil {
				t.Fatal(err)
			}
			signers = append(signers, s)
		}
		raw, err := teep.Protect(rand.Reader, query(t, teep.DataTrustedComponents), signers...)
		if err != nil {
			t.Fatal(err)
		}
		ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(carrier).Session, raw)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := w.decode(ask).(*teep.QueryResponse); !ok {
			t.Fatalf("got %#v", m)
		}
	})
	now := w.device.now
	answered := func(t *testing.T, code teep.ErrorCode) {
		t.Helper()
		switch m := send(good).(type) {
		case *teep.QueryResponse:
			if code != 0 {
				t.Fatal("accepted")
			}
		case *teep.Error:
			if m.Code != code {
				t.Fatalf("got %v %q", m.Code, m.Message)
			}
		}
	}
	for _, step := range []struct {
		name   string
		issuer *authority
		at     time.Time
		serial int64
		code   teep.ErrorCode // 0: accepted
		kept   bool           // the list is refused, and what was in force stays
	}{
		{"another certificate revoked", ca, now, 99, 0, false},
		{"list that another signed in its name", otherCA, now.Add(time.Hour), 2, 0, true},
		{"revoked", ca, now.Add(time.Hour), 2, teep.ErrBadCertificate, false},
		{"an older list takes nothing back", ca, now, 99, teep.ErrBadCertificate, true},
		{"a newer list does", ca, now.Add(2 * time.Hour), 99, 0, false},
		{"outdated list", ca, now.Add(3 * time.Hour), 98, teep.ErrBadCertificate, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.name == "outdated list" {
				defer func(before time.Time) { w.device.now = before }(w.device.now)
				w.device.now = now.AddDate(0, 1, 0)
			}
			list := step.issuer.revoke(t, step.at, step.serial)
			data := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
			if err := w.agent.RenewRevocationLists(t.Context(), [][]byte{data}); (err != nil) != step.kept {
				t.Fatal(err)
			}
			answered(t, step.code)
		})
	}
	t.Run("restart", func(t *testing.T) {
		if err := w.agent.RenewRevocationLists(t.Context(), [][]byte{ca.revoke(t, now.Add(4*time.Hour), 2)}); err != nil {
			t.Fatal(err)
		}
		for name, files := range map[string][][]byte{
			"without the list": nil, "with an older one": {ca.revoke(t, now, 99)}, "with another's": {otherCA.revoke(t, now.Add(5*time.Hour), 99)},
		} {
			w.cfg.RevocationLists = files
			_, err := w.tryStart([]byte(set))
			if name == "with another's" {
				if err == nil {
					t.Errorf("%s: started", name)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			answered(t, teep.ErrBadCertificate)
		}
		w.cfg.RevocationLists = [][]byte{ca.revoke(t, w.device.now, 99)}
		if _, err := w.tryStart([]byte(set)); err != nil {
			t.Fatal(err)
		}
		answered(t, 0)
	})
}

// TestListsOfIntermediatesOutliveARestart: the list of an issuer below an authority is kept once a chain has
// shown the issuer; from then on nobody else's list, and no older one, takes its place.
func TestListsOfIntermediatesOutliveARestart(t *testing.T) {
	w := newWorld(t)
	now := w.device.now
	ca := newAuthority(t, now.AddDate(-1, 0, 0))
	below, stranger := ca.delegate(t, "below", 7), newAuthority(t, now).delegate(t, "below", 7)
	carrier := newTAM(t, "carrier")
	set := w.withCarrier(ca, carrier)
	restart := func(lists ...[]byte) {
		t.Helper()
		w.cfg.RevocationLists = lists
		if _, err := w.tryStart([]byte(set)); err != nil {
			t.Fatal(err)
		}
	}
	good := below.certify(t, "tam.carrier.example", carrier.p256, now.AddDate(1, 0, 0)) // serial 2
	answered := func(why string, code teep.ErrorCode) {
		t.Helper()
		defer func() { w.device.now = now }() // connecting takes days, and lists are good for a week
		switch m := w.chained(carrier, good, below.Cert.Raw).(type) {
		case *teep.QueryResponse:
			if code != 0 {
				t.Errorf("%s: accepted", why)
			}
		case *teep.Error:
			if m.Code != code {
				t.Errorf("%s: %v %q", why, m.Code, m.Message)
			}
		}
	}
	renew := func(why string, ok bool, list []byte) {
		t.Helper()
		if err := w.agent.RenewRevocationLists(t.Context(), [][]byte{list}); (err == nil) != ok {
			t.Errorf("%s: %v", why, err)
		} else if err != nil && !errors.Is(err, link.ErrRefused) {
			t.Errorf("%s: the broker does not learn of %v", why, err)
		}
	}
	restart()
	renew("a list of somebody who was not seen yet", true, below.revoke(t, now, 2))
	restart()
	answered("nobody knew whose list it was", 0)
	renew("now it is known", true, below.revoke(t, now, 2))
	answered("revoked by the list in force", teep.ErrBadCertificate)
	restart()
	answered("the chain had shown the issuer", teep.ErrBadCertificate)
	renew("nothing of it revoked", true, below.revoke(t, now.Add(time.Hour), 99))
	answered("the chain shows the issuer", 0)
	renew("revoked", true, below.revoke(t, now.Add(2*time.Hour), 2))
	restart()
	answered("kept", teep.ErrBadCertificate)
	renew("an older one", false, below.revoke(t, now.Add(time.Hour), 99))
	renew("one of another issuer of that name", true, stranger.revoke(t, now.Add(3*time.Hour), 99))
	answered("another's list takes nothing back", teep.ErrBadCertificate)
	restart(below.revoke(t, now, 99))
	answered("nor an older one at the start", teep.ErrBadCertificate)
	renew("a newer one", true, below.revoke(t, now.Add(4*time.Hour), 99))
	answered("does", 0)
	renew("the intermediate itself", true, ca.revoke(t, now.Add(time.Hour), 7))
	answered("is revoked", teep.ErrBadCertificate)
}

// revoke makes a list of revoked certificates that is good for a week.
func (a *authority) revoke(t *testing.T, at time.Time, serial int64) []byte {
	t.Helper()
	return a.Revoke(t, at.Unix(), at, at.AddDate(0, 0, 7), serial)
}

// TestAgentCertificate: the agent's own certificates go along, and must be those of its key.
func TestAgentCertificate(t *testing.T) {
	w := newWorld(t)
	ca := newAuthority(t, w.device.now.AddDate(-1, 0, 0))
	cert := ca.certify(t, "agent", w.device.keys[tee.KeyAgent], w.device.now.AddDate(1, 0, 0))
	w.cfg.Certificates = [][]byte{cert}
	w.start()
	ask, err := w.agent.ProcessTeepMessage(t.Context(), 0, w.protect(w.one, query(t, teep.DataTrustedComponents)))
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := cose.UnverifiedHeaders(ask.Message)
	if err != nil {
		t.Fatal(err)
	}
	if chain, err := h.X5Chain(); err != nil || len(chain) != 1 || !bytes.Equal(chain[0], cert) {
		t.Fatalf("chain %x, %v", chain, err)
	}
	w.cfg.Certificates = [][]byte{ca.Cert.Raw}
	if _, err := w.tryStart(w.trust()); err == nil {
		t.Error("a certificate of another key was accepted")
	}
}

// TestOlderPeers: ES256 is accepted and answered alike in the mode for it, and in no other.
func TestOlderPeers(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		w := newWorld(t)
		w.cfg.InsecureOlderPeers = insecure
		w.start()
		es256, err := w.one.p256.SignerFor(cose.AlgES256)
		if err != nil {
			t.Fatal(err)
		}
		session := w.connect(w.one).Session
		exchange := func(m teep.Message) (cose.Algorithm, teep.Message) {
			t.Helper()
			raw, err := teep.Protect(rand.Reader, m, es256)
			if err != nil {
				t.Fatal(err)
			}
			ask, err := w.agent.ProcessTeepMessage(t.Context(), session, raw)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := cose.NewKeySet(w.device.keys[tee.KeyAgent].Public())
			if err != nil {
				t.Fatal(err)
			}
			o, err := teep.Open(ask.Message, keys, teep.OpenOptions{InsecureOlderPeers: true})
			if err != nil {
				t.Fatal(err)
			}
			return o.Algorithm, o.Message
		}
		q := query(t, teep.DataTrustedComponents)
		q.CipherSuites = []teep.CipherSuite{teep.CipherSuiteSign1(cose.AlgES256)}
		alg, m := exchange(q)
		if !insecure {
			// The answer is in a suite that every TAM has (TEEP §8.1).
			if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrUnsupportedCipherSuites || alg != cose.AlgESP256 || len(e.CipherSuites) != 1 {
				t.Fatalf("%v %#v", alg, m)
			}
			continue
		}
		if _, ok := m.(*teep.QueryResponse); !ok || alg != cose.AlgES256 {
			t.Fatalf("%v %#v", alg, m)
		}
		if alg, m = exchange(install(t, w.hello(1, "app"))); alg != cose.AlgES256 {
			t.Fatalf("%v %#v", alg, m)
		}
		if _, ok := m.(*teep.Success); !ok {
			t.Fatalf("%#v", m)
		}
	}
}

// TestListsFurtherBelowOutliveRestarts: between the authority and the issuer of a list is another one, which has to be
// known too for the list to be kept.
func TestListsFurtherBelowOutliveRestarts(t *testing.T) {
	w := newWorld(t)
	now := w.device.now
	ca := newAuthority(t, now.AddDate(-1, 0, 0))
	middle := ca.delegate(t, "middle", 7)
	below := middle.delegate(t, "below", 8)
	carrier := newTAM(t, "carrier")
	set := w.withCarrier(ca, carrier)
	good := below.certify(t, "tam.carrier.example", carrier.p256, now.AddDate(1, 0, 0)) // serial 2
	w.cfg.RevocationLists = [][]byte{below.revoke(t, now, 2)}
	for i := range 3 {
		if _, err := w.tryStart([]byte(set)); err != nil {
			t.Fatal(err)
		}
		w.cfg.RevocationLists = nil // from then on, what is sealed has to do
		if e, ok := w.chained(carrier, good, below.Cert.Raw, middle.Cert.Raw).(*teep.Error); !ok || e.Code != teep.ErrBadCertificate {
			t.Fatalf("start %d: the revoked certificate is accepted", i+1)
		}
		w.device.now = now // connecting takes days, and lists are good for a week
	}
}

// TestUnsolicitedNeedsAKeyThatHolds: nobody is told anything unasked whose key the agent would not accept a message
// of (TEEP §7.2, the third condition).
func TestUnsolicitedNeedsAKeyThatHolds(t *testing.T) {
	for name, end := range map[string]func(w *world, ca *authority, carrier *tam) bool{
		"nothing happened": func(*world, *authority, *tam) bool { return true },
		"the certificate expired": func(w *world, _ *authority, _ *tam) bool {
			w.device.now = w.device.now.AddDate(0, 0, 3)
			return false
		},
		"it was revoked": func(w *world, ca *authority, _ *tam) bool {
			if err := w.agent.RenewRevocationLists(t.Context(), [][]byte{ca.revoke(t, w.device.now, 2)}); err != nil {
				t.Fatal(err)
			}
			return false
		},
		"another authority is trusted": func(w *world, _ *authority, carrier *tam) bool {
			w.version++
			set, err := trust.ParseYAML([]byte(w.withCarrier(newAuthority(t, w.device.now), carrier)), nil)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := w.admin.Signer()
			if err != nil {
				t.Fatal(err)
			}
			signed, err := trust.Sign(rand.Reader, set, signer)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.agent.ReplaceTrustAnchors(t.Context(), signed); err != nil {
				t.Fatal(err)
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			now := w.device.now
			ca, carrier := newAuthority(t, now.AddDate(-1, 0, 0)), newTAM(t, "carrier")
			w.cfg.Policy.Timestamps = true
			if _, err := w.tryStart([]byte(w.withCarrier(ca, carrier))); err != nil {
				t.Fatal(err)
			}
			q := query(t, teep.DataAttestation)
			q.Challenge, q.FreshnessMechanisms = nil, []teep.FreshnessMechanism{teep.FreshnessTimestamp}
			payload, err := teep.Encode(q)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := carrier.p256.Signer()
			if err != nil {
				t.Fatal(err)
			}
			raw, err := cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{
				X5Chain: [][]byte{ca.certify(t, "tam.carrier.example", carrier.p256, now.AddDate(0, 0, 2))},
			})
			if err != nil {
				t.Fatal(err)
			}
			ask, err := w.agent.ProcessTeepMessage(t.Context(), 0, raw)
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := w.decode(ask).(*teep.QueryResponse); !ok {
				t.Fatalf("got %#v", m)
			}
			want := end(w, ca, carrier)
			ask, err = w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), TAMURI: carrier.uri})
			if err != nil {
				t.Fatal(err)
			}
			if (ask.Message != nil) != want || ask.TAMURI == "" {
				t.Errorf("got %d bytes for %s", len(ask.Message), ask.TAMURI)
			}
		})
	}
}
