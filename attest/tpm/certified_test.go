package tpm_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/testca"
)

// owner certifies attestation keys.
type owner struct{ *testca.Authority }

func newOwner(t testing.TB) *owner {
	t.Helper()
	ca := testca.New(t, "Fleet", time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	return &owner{ca}
}

func (o *owner) certify(t testing.TB, ak *cose.Key, ueid []byte, end time.Time) []byte {
	t.Helper()
	public, err := ak.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	name, err := url.Parse(fmt.Sprintf("urn:dev:ueid:%x", ueid))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "AK"}, URIs: []*url.URL{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature}
	return o.Certify(t, template, public)
}

func (o *owner) crl(t testing.TB, serials ...int64) *x509.RevocationList {
	t.Helper()
	der := o.Revoke(t, 1, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), serials...)
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return crl
}

// TestCertifiedAK: instead of an enrolment, a certificate vouches for the attestation key and names
// the device, as long as it counts.
func TestCertifiedAK(t *testing.T) {
	d := manufactured(t)
	fleet, stranger := newOwner(t), newOwner(t)
	ueid, soon := d.endorsement.UEID, time.Now().Add(time.Hour)
	soft, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	another := append([]byte{1}, make([]byte, 32)...)
	for name, c := range map[string]struct {
		chain []byte
		crl   []*x509.RevocationList
		oemid []byte
		want  error
	}{
		"certified":              {fleet.certify(t, d.quoter.Key(), ueid, soon), nil, d.class.OEMID, nil},
		"and not revoked":        {fleet.certify(t, d.quoter.Key(), ueid, soon), []*x509.RevocationList{fleet.crl(t, 8)}, d.class.OEMID, nil},
		"revoked":                {fleet.certify(t, d.quoter.Key(), ueid, soon), []*x509.RevocationList{fleet.crl(t, 7)}, d.class.OEMID, cose.ErrCertificateRevoked},
		"expired":                {fleet.certify(t, d.quoter.Key(), ueid, time.Now().Add(-time.Minute)), nil, d.class.OEMID, attest.ErrUntrusted},
		"by a stranger":          {stranger.certify(t, d.quoter.Key(), ueid, soon), nil, d.class.OEMID, attest.ErrUntrusted},
		"of another key":         {fleet.certify(t, soft, ueid, soon), nil, d.class.OEMID, attest.ErrSignature},
		"for another device":     {fleet.certify(t, d.quoter.Key(), another, soon), nil, d.class.OEMID, attest.ErrUntrusted},
		"of another vendor's":    {fleet.certify(t, d.quoter.Key(), ueid, soon), nil, []byte{0x19, 0x7e, 0xd9}, attest.ErrUntrusted},
		"the authority's itself": {fleet.Cert.Raw, nil, d.class.OEMID, attest.ErrUntrusted},
	} {
		d.requote(t, func(q *tpm.QuoterConfig) { q.X5Chain = [][]byte{c.chain} })
		b := d.bench(t, func(x *boundtest.Device) {
			x.Collateral.Endorsements = nil
			x.Collateral.Manufacturers = []appraisal.Manufacturer{{OEMID: c.oemid, Roots: []*x509.Certificate{fleet.Cert}, CRLs: c.crl}}
		})
		if c.want != nil {
			b.Refused(name, b.Evidence(), c.want)
		} else if r := b.Result(); r.Status != attest.StatusAffirming {
			t.Errorf("%s: %v: %+v", name, r.Status, r.Reasons)
		}
	}
}
