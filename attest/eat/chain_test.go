package eat_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// maker is a manufacturer that certifies attestation keys.
type maker struct {
	testing.TB
	key  crypto.Signer
	cert *x509.Certificate
}

func signerOf(t testing.TB, k *cose.Key) crypto.Signer {
	t.Helper()
	private, err := k.CryptoPrivate()
	if err != nil {
		t.Fatal(err)
	}
	return private.(crypto.Signer)
}

func newMaker(t testing.TB) *maker {
	t.Helper()
	m := &maker{TB: t, key: signerOf(t, newKey(t, cose.AlgESP256))}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"},
		NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, m.key.Public(), m.key)
	if err != nil {
		t.Fatal(err)
	}
	if m.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return m
}

const leafSerial = 2

func (m *maker) certify(k *cose.Key, names ...string) []byte {
	m.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(leafSerial), NotBefore: testNow.AddDate(0, -1, 0),
		NotAfter: testNow.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	for _, n := range names {
		u, err := url.Parse(n)
		if err != nil {
			m.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	public, err := k.CryptoPublic()
	if err != nil {
		m.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, m.cert, public, m.key)
	if err != nil {
		m.Fatal(err)
	}
	return der
}

func (m *maker) revoke(next time.Time, serials ...int64) *x509.RevocationList {
	m.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow.AddDate(0, -1, 0), NextUpdate: next}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: testNow})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, m.cert, m.key)
	if err != nil {
		m.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		m.Fatal(err)
	}
	return list
}

// TestCertifiedAttestationKey: the verifier knows the manufacturer, not the device.
func TestCertifiedAttestationKey(t *testing.T) {
	m, stranger := newMaker(t), newMaker(t)
	future := testNow.AddDate(0, 1, 0)
	for name, c := range map[string]struct {
		signer  *maker
		names   func(*bench) []string
		collate func(*bench, *appraisal.Manufacturer)
		after   time.Duration
		want    error
	}{
		"certified":           {},
		"empty CRL":           {collate: func(_ *bench, f *appraisal.Manufacturer) { f.CRLs = append(f.CRLs, m.revoke(future)) }},
		"other revoked":       {collate: func(_ *bench, f *appraisal.Manufacturer) { f.CRLs = append(f.CRLs, m.revoke(future, 99)) }},
		"revoked":             {collate: func(_ *bench, f *appraisal.Manufacturer) { f.CRLs = append(f.CRLs, m.revoke(future, leafSerial)) }, want: attest.ErrUntrusted},
		"CRL out of date":     {collate: func(_ *bench, f *appraisal.Manufacturer) { f.CRLs = append(f.CRLs, m.revoke(testNow.Add(-time.Hour))) }, want: attest.ErrUntrusted},
		"unknown root":        {signer: stranger, want: attest.ErrUntrusted},
		"no manufacturer":     {collate: func(b *bench, f *appraisal.Manufacturer) { f.Roots = nil }, want: attest.ErrUntrusted},
		"roots expired":       {collate: func(_ *bench, f *appraisal.Manufacturer) { f.Expires = testNow }, want: attest.ErrUntrusted},
		"certificate expired": {after: 2 * 365 * 24 * time.Hour, want: attest.ErrUntrusted},
		"other vendor":        {collate: func(_ *bench, f *appraisal.Manufacturer) { f.OEMID = []byte{0x01} }, want: attest.ErrUntrusted},
		"other device":        {names: func(*bench) []string { return []string{"urn:dev:ueid:0102030405060708"} }, want: attest.ErrUntrusted},
		"no device":           {names: func(*bench) []string { return []string{"https://example.com"} }, want: attest.ErrUntrusted},
		"two devices":         {names: func(b *bench) []string { return []string{ueidURN(b), "urn:dev:ueid:0102030405060708"} }, want: attest.ErrUntrusted},
		"not hexadecimal":     {names: func(*bench) []string { return []string{"urn:dev:ueid:xyz"} }, want: attest.ErrUntrusted},
		"key revoked by endorsement": {collate: func(b *bench, _ *appraisal.Manufacturer) {
			b.collateral.Endorsements = []appraisal.Endorsement{{UEID: b.identity.UEID, Key: b.attestKey.Public(), Revoked: "leaked"}}
		}, want: attest.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(b *bench) {
				f := appraisal.Manufacturer{Owner: "Maker", OEMID: b.identity.OEMID, Roots: []*x509.Certificate{m.cert}}
				b.collateral.Endorsements = nil
				if c.collate != nil {
					c.collate(b, &f)
				}
				b.collateral.Manufacturers = []appraisal.Manufacturer{f}
			})
			signer, names := m, []string{ueidURN(b)}
			if c.signer != nil {
				signer = c.signer
			}
			if c.names != nil {
				names = c.names(b)
			}
			b.now = testNow.Add(c.after)
			a, err := eat.NewAttester(eat.AttesterConfig{Identity: b.identity, Signer: newSigner(t, b.attestKey),
				X5Chain: [][]byte{signer.certify(b.attestKey, names...)}, Now: b.clock, Rand: rand.Reader})
			if err != nil {
				t.Fatal(err)
			}
			e, err := a.Attest(context.Background(), "", attest.Request{Nonce: b.nonce, AgentKey: b.agentKey.Public()})
			if err != nil {
				t.Fatal(err)
			}
			r, err := b.appraise(e)
			if c.want == nil && (err != nil || r.Status != attest.StatusAffirming) || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%+v, %v; want %v", r, err, c.want)
			}
		})
	}
}

func ueidURN(b *bench) string { return fmt.Sprintf("urn:dev:ueid:%x", b.identity.UEID) }

// TestChainOfAnotherKey: a certificate that is not of the signing key does not help.
func TestChainOfAnotherKey(t *testing.T) {
	m := newMaker(t)
	b := newBench(t, func(b *bench) {
		b.collateral.Endorsements = nil
		b.collateral.Manufacturers = []appraisal.Manufacturer{{Owner: "Maker", OEMID: b.identity.OEMID, Roots: []*x509.Certificate{m.cert}}}
	})
	a, err := eat.NewAttester(eat.AttesterConfig{Identity: b.identity, Signer: newSigner(t, b.attestKey),
		X5Chain: [][]byte{m.certify(newKey(t, cose.AlgESP256), ueidURN(b))}, Now: b.clock, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.Attest(context.Background(), "", attest.Request{Nonce: b.nonce, AgentKey: b.agentKey.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.appraise(e); !errors.Is(err, attest.ErrSignature) && !errors.Is(err, attest.ErrUntrusted) {
		t.Error(err)
	}
}
