package tam_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// certifySigner certifies a key for signing code, for an hour, as changed.
func (a *authority) certifySigner(k *cose.Key, now time.Time, change func(*x509.Certificate)) [][]byte {
	a.t.Helper()
	public, err := k.CryptoPublic()
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "developer"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if change != nil {
		change(template)
	}
	return [][]byte{a.Certify(a.t, template, public)}
}

// certified makes a world where a publisher is known by its authority.
func certified(t *testing.T) (*world, *authority) {
	w := newWorld(t)
	ca := newAuthority(t, w.clock.read())
	_, err := w.tam.TrustPublisher(ctx(), tam.NewPublisher{
		Name: "certified", Anchors: []*x509.Certificate{ca.Cert}, Prefixes: []suit.ComponentID{suit.NewComponentID("acme", "app")},
	})
	must(t, err)
	return w, ca
}

// What a TAM takes of signers that a publisher's authority certified, as an agent would.
func TestPublishersByCertificate(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	other := newAuthority(t, w.clock.read())
	unsuited := func(change func(*x509.Certificate)) [][]byte { return ca.certifySigner(by, w.clock.read(), change) }
	for name, c := range map[string]struct {
		chain  [][]byte
		prefix string
		want   error
	}{
		"no chain":             {nil, "app", tam.ErrUnknownSigner},
		"another authority":    {other.certifySigner(by, w.clock.read(), nil), "app", tam.ErrUnknownSigner},
		"expired":              {unsuited(func(c *x509.Certificate) { c.NotAfter = w.clock.read().Add(-time.Minute) }), "app", tam.ErrUnknownSigner},
		"not valid yet":        {unsuited(func(c *x509.Certificate) { c.NotBefore = w.clock.read().Add(time.Minute) }), "app", tam.ErrUnknownSigner},
		"not for signatures":   {unsuited(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), "app", tam.ErrUnknownSigner},
		"for servers":          {unsuited(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "app", tam.ErrUnknownSigner},
		"an authority itself":  {unsuited(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "app", tam.ErrUnknownSigner},
		"outside of its grant": {ca.certifySigner(by, w.clock.read(), nil), "other", tam.ErrPrefix},
	} {
		if _, err := w.tam.Publish(ctx(), w.envelope(release{name: c.prefix, sequence: 1, payload: "one", by: by, chain: c.chain}), ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	v := w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: ca.certifySigner(by, w.clock.read(), nil)})
	if fingerprint := sha256.Sum256(ca.Cert.Raw); v.Publisher != "certified" || string(v.Anchor) != string(fingerprint[:]) ||
		!v.Expires.Equal(w.clock.read().Add(time.Hour)) {
		t.Errorf("%+v", v)
	}
	if v := w.publish(release{name: "direct", sequence: 1, payload: "one"}); !v.Expires.IsZero() || v.Anchor != nil {
		t.Errorf("a key without a certificate: %+v", v)
	}
}

// A dependency in the envelope that the same certified key signed is known as the manifest around it is.
func TestCertifiedDependencyInside(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	chain := ca.certifySigner(by, w.clock.read(), nil)
	inner := w.envelope(release{name: "app", sequence: 1, payload: "one", by: by, chain: chain})
	parsed, err := suit.ParseEnvelope(inner)
	must(t, err)
	outer := w.envelope(release{name: "app", sequence: 1, payload: "x", by: by, chain: chain, change: func(b *suit.Builder) {
		var p suit.Parameters
		p.SetDigest(parsed.Digest)
		p.SetURI("#dependency")
		m := &b.Manifest
		m.ComponentID = suit.NewComponentID("acme", "app", "outer")
		m.Common.Components = []suit.ComponentID{manifestID("app")}
		m.Common.Dependencies = []suit.Dependency{{Index: 0}}
		m.Common.SharedSequence.Commands = forClass(p)
		m.Install.Commands = suit.Sequence{suit.SetComponentIndex(0), suit.Directive(suit.DirFetch, suit.ReportAll)}
		b.Integrated = map[string][]byte{"#dependency": inner}
	}})
	_, err = w.tam.Publish(ctx(), outer, "")
	must(t, err)
}

// Devices refuse what a certificate vouches for that has ended, so it is not offered to them; and what an
// older one has stays.
func TestNotOfferedAfterItsCertificate(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: ca.certifySigner(by, w.clock.read(), nil)})
	a, late := w.agent(cose.AlgESP256), w.agent(cose.AlgEd25519)
	a.requests(componentID("app"))
	a.succeed(a.update())
	a.requested = nil
	a.has(componentID("app"), "one")
	w.clock.advance(time.Hour)
	late.requests(componentID("app"))
	if u, ok := late.session().(*teep.Update); ok && len(u.Manifests) > 0 {
		t.Errorf("offered after the certificate ended: %+v", u)
	}
	if reply := a.session(); reply != nil {
		t.Errorf("a device that has it was sent %v", reply.Type())
	}
	// Renewed, it is offered.
	w.publish(release{name: "app", sequence: 2, payload: "two", by: by, chain: ca.certifySigner(by, w.clock.read(), nil)})
	if u := late.update(); len(u.Manifests) != 1 {
		t.Errorf("%+v", u)
	}
}

// What a withdrawn key signed is taken off devices where the withdrawal says so, and stays where it does not:
// a key, a signer below an authority, and an authority.
func TestWithdrawnKeysLeaveDevices(t *testing.T) {
	for _, remove := range []bool{false, true} {
		for _, which := range []string{"key", "certified signer", "authority"} {
			w, ca := certified(t)
			by := key(t, cose.AlgESP256)
			r := release{name: "app", sequence: 1, payload: "one", by: by, chain: ca.certifySigner(by, w.clock.read(), nil)}
			fingerprint := sha256.Sum256(ca.Cert.Raw)
			publisher, thumbprint := "certified", fingerprint[:]
			switch which {
			case "key":
				r.by, r.chain = nil, nil
				publisher, thumbprint = "acme", w.author.Thumbprint()
			case "certified signer":
				thumbprint = by.Thumbprint()
			}
			w.publish(r)
			a := w.agent(cose.AlgESP256)
			a.requests(componentID("app"))
			a.succeed(a.update())
			a.requested = nil
			a.has(componentID("app"), "one")
			must(t, w.tam.WithdrawPublisherKey(ctx(), publisher, thumbprint, "stolen", remove))
			u, removed := a.session().(*teep.Update)
			if removed != remove || remove && len(u.UnneededManifests) != 1 {
				t.Errorf("%s, remove %v: %+v", which, remove, u)
			}
			if _, err := w.tam.Publish(ctx(), w.envelope(release{name: "app", sequence: 2, payload: "two", by: r.by, chain: r.chain}), ""); !errors.Is(err, tam.ErrUnknownSigner) {
				t.Errorf("%s: %v", which, err)
			}
			late := w.agent(cose.AlgEd25519)
			late.requests(componentID("app"))
			if u, ok := late.session().(*teep.Update); ok && len(u.Manifests) > 0 {
				t.Errorf("%s: offered after it was withdrawn", which)
			}
			if remove {
				continue
			}
			must(t, w.tam.WithdrawPublisherKey(ctx(), publisher, thumbprint, "stolen for sure", true))
			if u, ok := a.session().(*teep.Update); !ok || len(u.UnneededManifests) != 1 {
				t.Errorf("%s, removed later: %+v", which, u)
			}
		}
	}
}
