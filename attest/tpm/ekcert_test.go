package tpm_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/tpm"
)

// TestOtherCertificatesOfTheMaker: who has another key that the maker certified, outside of a TPM, enrols
// nothing with it.
func TestOtherCertificatesOfTheMaker(t *testing.T) {
	d := manufactured(t)
	request, err := d.quoter.Request()
	if err != nil {
		t.Fatal(err)
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	endorsement := []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}
	for name, c := range map[string]struct {
		leaf x509.Certificate
		want error
	}{
		"an endorsement key's":              {x509.Certificate{UnknownExtKeyUsage: endorsement, KeyUsage: x509.KeyUsageKeyEncipherment}, nil},
		"an older one's, without a purpose": {x509.Certificate{}, nil},
		"a server's":                        {x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageKeyEncipherment}, attest.ErrUntrusted},
		"a platform's":                      {x509.Certificate{UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 2}}}, attest.ErrUntrusted},
		"a signing key's":                   {x509.Certificate{UnknownExtKeyUsage: endorsement, KeyUsage: x509.KeyUsageDigitalSignature}, attest.ErrUntrusted},
		"an authority's":                    {x509.Certificate{UnknownExtKeyUsage: endorsement, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageKeyEncipherment}, attest.ErrUntrusted},
	} {
		c.leaf.SerialNumber, c.leaf.Subject, c.leaf.NotBefore, c.leaf.NotAfter = big.NewInt(2), pkix.Name{CommonName: "device"}, now.Add(-time.Hour), now.Add(time.Hour)
		leaf, err := x509.CreateCertificate(rand.Reader, &c.leaf, root, ek.Public(), rootKey)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm.NewChallenge(rand.Reader, tpm.EnrolmentRequest{EKChain: [][]byte{leaf}, AKPublic: request.AKPublic},
			[]appraisal.Manufacturer{{Owner: "maker", Roots: []*x509.Certificate{root}}}, now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
