package tam_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	teepagent "github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/internal/testca"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/teeptest"
)

// rekeyed is a TEE whose agent has another key.
type rekeyed struct {
	tee.TEE
	key *cose.Key
}

func (r rekeyed) Keys() tee.Keys { return rekeyedKeys{r.TEE.Keys(), r.key} }

type rekeyedKeys struct {
	tee.Keys
	key *cose.Key
}

func (r rekeyedKeys) Signer(use tee.KeyUse) (cose.Signer, error) {
	if use == tee.KeyAgent {
		return r.key.Signer()
	}
	return r.Keys.Signer(use)
}

func publicKeyBlock(t *testing.T, k *cose.Key) string {
	t.Helper()
	pem, err := k.Public().MarshalPEM()
	must(t, err)
	return strings.ReplaceAll("|\n"+strings.TrimSpace(string(pem)), "\n", "\n        ")
}

// TestESP384: a further suite, in both directions (TEEP §8.1).
func TestESP384(t *testing.T) {
	ofTAM, ofAgent := key(t, cose.AlgESP384), key(t, cose.AlgESP384)
	w := teeptest.New(t, teeptest.Options{
		TAMPolicy: tam.Policy{OfferAll: true},
		TAMConfig: func(c *tam.Config) { c.Signers = append(c.Signers, signer(t, ofTAM)) },
		AgentConfig: func(c *teepagent.Config) {
			c.TEE = rekeyed{c.TEE, ofAgent}
			c.Trust = []byte(strings.Replace(string(c.Trust), "    keys:\n", "    keys:\n      - "+publicKeyBlock(t, ofTAM)+"\n", 1))
		},
	})
	w.Publish(w.Component("hello", 1, "one"))
	request(t, w.Device, "hello")
	d, err := w.Store.DeviceByKey(t.Context(), ofAgent.Thumbprint())
	must(t, err)
	if _, err := cose.ParseKey(d.AgentKey); err != nil || len(d.Inventory) != 1 {
		t.Fatalf("device %+v, %v", d, err)
	}
}

// TestOlderPeers: ES256 in both directions, in the mode for it and in no other.
func TestOlderPeers(t *testing.T) {
	var w *teeptest.World
	older := func(c *tam.Config) {
		s, err := w.ESP256.SignerFor(cose.AlgES256)
		must(t, err)
		c.Signers = append(c.Signers, s)
	}
	w = teeptest.New(t, teeptest.Options{})
	c := tam.Config{Store: w.Store, Verifier: &verifier{}, Signers: []cose.Signer{signer(t, w.ESP256), signer(t, w.Ed25519)}}
	older(&c)
	if _, err := tam.New(t.Context(), c); err == nil {
		t.Error("a signer for ES256 was accepted outside of the mode for older peers")
	}

	// A TAM for older agents offers ES256 too, takes what they sign with it, and answers alike.
	tamKeys := []*cose.Key{key(t, cose.AlgESP256), key(t, cose.AlgEd25519)}
	olderSigner, err := tamKeys[0].SignerFor(cose.AlgES256)
	must(t, err)
	v := newWorld(t, func(c *tam.Config) {
		c.Signers = []cose.Signer{signer(t, tamKeys[0]), signer(t, tamKeys[1]), olderSigner}
		c.InsecureOlderPeers = true
	})
	v.publish(release{name: "app", sequence: 1, payload: "one"})
	trusted, err := cose.NewKeySet(tamKeys[0].Public())
	must(t, err)
	a := v.agent(cose.AlgESP256).requests(componentID("app"))
	open := func(data []byte) teep.Message {
		t.Helper()
		opened, err := teep.Open(data, trusted, teep.OpenOptions{Algorithms: []cose.Algorithm{cose.AlgES256}})
		must(t, err)
		return opened.Message
	}
	offer, err := v.tam.ProcessConnect(ctx())
	must(t, err)
	q := open(offer).(*teep.QueryRequest)
	own, err := a.key.SignerFor(cose.AlgES256)
	must(t, err)
	msg, err := teep.Protect(rand.Reader, a.response(q), own)
	must(t, err)
	reply, err := v.tam.ProcessTeepMessage(ctx(), msg)
	must(t, err)
	if u, ok := open(reply).(*teep.Update); !ok || len(u.Manifests) != 1 {
		t.Fatalf("got %+v; log:\n%s", u, v.log)
	}
	// Outside of the mode the same message is nothing.
	strict := newWorld(t)
	b := strict.agent(cose.AlgESP256)
	msg, err = teep.Protect(rand.Reader, b.response(b.connect()), own)
	must(t, err)
	if reply, err := strict.tam.ProcessTeepMessage(ctx(), msg); err != nil || reply != nil {
		t.Fatalf("answered: %x, %v", reply, err)
	}
}

// authority certifies keys.
type authority struct {
	*testca.Authority
	t *testing.T
}

func newAuthority(t *testing.T, now time.Time) *authority {
	t.Helper()
	return &authority{testca.New(t, "root", now.AddDate(-1, 0, 0), now.AddDate(10, 0, 0)), t}
}

func (a *authority) certify(k *cose.Key, serial int64, until time.Time) []byte {
	a.t.Helper()
	public, err := k.CryptoPublic()
	must(a.t, err)
	return a.Certify(a.t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "agent"},
		NotBefore: a.Cert.NotBefore, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
	}, public)
}

func (a *authority) revoke(now time.Time, serials ...int64) []byte {
	a.t.Helper()
	return a.list(1, now, serials...)
}

// keyless is a verifier of Evidence that does not show the agent's key before it is appraised.
type keyless struct{ *verifier }

func (keyless) Peek(e attest.Evidence) ([]byte, *cose.Key, error) {
	payload, err := cose.UnverifiedPayload(e.Payload)
	if err != nil {
		return nil, nil, err
	}
	var c claims
	err = cbor.Unmarshal(payload, &c)
	return c.Nonce, nil, err
}

// TestAgentCertificates: the TAM learns an agent's key from its x5chain (TEEP §4.6, §5).
func TestAgentCertificates(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ca, stranger := newAuthority(t, now), newAuthority(t, now)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	for name, test := range map[string]struct {
		by     *authority
		serial int64
		until  time.Time
		ok     bool
	}{
		"certified":         {ca, 2, now.AddDate(1, 0, 0), true},
		"revoked":           {ca, 3, now.AddDate(1, 0, 0), false},
		"expired":           {ca, 2, now.Add(-time.Hour), false},
		"another authority": {stranger, 2, now.AddDate(1, 0, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *tam.Config) {
				var err error
				c.Verifier = keyless{c.Verifier.(*verifier)}
				c.AgentCertificates, err = cose.NewCertificateKeys(cose.CertificateOptions{
					Roots: roots, Now: c.Clock, RevocationLists: [][]byte{ca.revoke(now, 3)},
				})
				must(t, err)
			})
			a := w.agent(cose.AlgESP256)
			s, err := cose.NewCertified(signer(t, a.key), [][]byte{test.by.certify(a.key, test.serial, test.until)})
			must(t, err)
			msg, err := teep.Protect(rand.Reader, a.response(a.connect()), s)
			must(t, err)
			_, err = w.tam.ProcessTeepMessage(ctx(), msg)
			must(t, err)
			if known := a.device() != nil; known != test.ok {
				t.Fatalf("accepted: %v; log:\n%s", known, w.log)
			}
			// Without the chain nobody knows the key.
			b := w.agent(cose.AlgESP256)
			if b.send(b.response(b.connect())); b.device() != nil {
				t.Error("a key that nobody told was found")
			}
		})
	}
	if _, err := cose.NewCertified(signer(t, key(t, cose.AlgESP256)), [][]byte{ca.Cert.Raw}); err == nil {
		t.Error("a certificate for another key was accepted")
	}
}
