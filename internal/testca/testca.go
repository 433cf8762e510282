// Package testca makes certificate authorities for tests, with what they issue: certificates, lists of what they
// revoked, and authorities below them. Their keys are ECDSA on P-256, made anew each time.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// Authority is a certificate authority. A test may change its fields before it issues anything.
type Authority struct {
	Key  *ecdsa.PrivateKey
	Cert *x509.Certificate
}

// New makes a root with the serial number 1.
func New(tb testing.TB, name string, from, until time.Time) *Authority {
	tb.Helper()
	return issue(tb, nil, name, 1, from, until)
}

// Below makes an authority that this one certifies, as long as it is certified itself.
func (a *Authority) Below(tb testing.TB, name string, serial int64) *Authority {
	tb.Helper()
	return issue(tb, a, name, serial, a.Cert.NotBefore, a.Cert.NotAfter)
}

func issue(tb testing.TB, by *Authority, name string, serial int64, from, until time.Time) *Authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if by == nil {
		by = &Authority{key, template}
	}
	cert, err := x509.ParseCertificate(by.Certify(tb, template, &key.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{key, cert}
}

// Certify issues a certificate for a public key, in DER.
func (a *Authority) Certify(tb testing.TB, template *x509.Certificate, public any) []byte {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, public, a.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// Revoke makes a revocation list with serial numbers, all revoked at the list's own time, in DER.
func (a *Authority) Revoke(tb testing.TB, number int64, at, next time.Time, serials ...int64) []byte {
	tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: at, NextUpdate: next}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: at})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}
