package cose_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testClock() time.Time { return testTime }

// authority is a certification authority for tests.
type authority struct {
	key  *cose.Key
	cert *x509.Certificate
}

func cryptoSigner(t *testing.T, k *cose.Key) crypto.Signer {
	t.Helper()
	private, err := k.CryptoPrivate()
	if err != nil {
		t.Fatal(err)
	}
	return private.(crypto.Signer)
}

// issue makes a certificate for k; a nil parent makes it self-signed.
func issue(t *testing.T, parent *authority, k *cose.Key, change func(*x509.Certificate)) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "test"},
		NotBefore: testTime.Add(-time.Hour), NotAfter: testTime.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	change(template)
	issuer := &authority{key: k, cert: template}
	if parent != nil {
		issuer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, cryptoSigner(t, k).Public(), cryptoSigner(t, issuer.key))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key: k, cert: cert}
}

func asCA(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA = name, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
}

func asLeaf(*x509.Certificate) {}

func (a authority) revoke(t *testing.T, nextUpdate time.Time, serials ...int64) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testTime.Add(-time.Minute), NextUpdate: nextUpdate}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: testTime.Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, cryptoSigner(t, a.key))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestX5Chain(t *testing.T) {
	root := issue(t, nil, newKey(t, cose.AlgESP256, 1), asCA("root"))
	middle := issue(t, &root, newKey(t, cose.AlgESP384, 2), asCA("middle"))
	leaf := issue(t, &middle, newKey(t, cose.AlgESP256, 3), asLeaf)
	direct := issue(t, &root, newKey(t, cose.AlgEd25519, 4), asLeaf)
	stranger := issue(t, nil, newKey(t, cose.AlgESP256, 5), asCA("root")) // same name, other key
	foreign := issue(t, &stranger, newKey(t, cose.AlgESP256, 6), asLeaf)
	old := issue(t, &root, newKey(t, cose.AlgESP256, 7), func(c *x509.Certificate) { c.NotAfter = testTime.Add(-time.Minute) })
	early := issue(t, &root, newKey(t, cose.AlgESP256, 7), func(c *x509.Certificate) { c.NotBefore = testTime.Add(time.Minute) })
	oldMiddle := issue(t, &root, newKey(t, cose.AlgESP256, 8), func(c *x509.Certificate) {
		asCA("old middle")(c)
		c.NotAfter = testTime.Add(-time.Minute)
	})
	underOld := issue(t, &oldMiddle, newKey(t, cose.AlgESP256, 9), asLeaf)
	notCA := issue(t, &leaf, newKey(t, cose.AlgESP256, 10), asLeaf)
	noSignature := issue(t, &root, newKey(t, cose.AlgESP256, 11), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	server := issue(t, &root, newKey(t, cose.AlgESP256, 12), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	later := testTime.Add(time.Hour)

	tests := []struct {
		name  string
		who   authority
		chain []authority
		crls  [][]byte
		usage []x509.ExtKeyUsage
		err   error
	}{
		{"under the root", direct, []authority{direct}, nil, nil, nil},
		{"with an intermediate", leaf, []authority{leaf, middle}, nil, nil, nil},
		{"with the root too", leaf, []authority{leaf, middle, root}, nil, nil, nil},
		{"others revoked", leaf, []authority{leaf, middle}, [][]byte{root.revoke(t, later, 9), middle.revoke(t, later, 8)}, nil, nil},
		{"no chain", leaf, nil, nil, nil, cose.ErrBadCertificate},
		{"intermediate missing", leaf, []authority{leaf}, nil, nil, cose.ErrBadCertificate},
		{"foreign root of the same name", foreign, []authority{foreign, stranger}, nil, nil, cose.ErrBadCertificate},
		{"expired", old, []authority{old}, nil, nil, cose.ErrCertificateExpired},
		{"not yet valid", early, []authority{early}, nil, nil, cose.ErrCertificateExpired},
		{"intermediate expired", underOld, []authority{underOld, oldMiddle}, nil, nil, cose.ErrCertificateExpired},
		{"issued by an end entity", notCA, []authority{notCA, leaf, middle}, nil, nil, cose.ErrBadCertificate},
		{"a CA as signer", root, []authority{root}, nil, nil, cose.ErrBadCertificate},
		{"key usage", noSignature, []authority{noSignature}, nil, nil, cose.ErrBadCertificate},
		{"extended key usage", server, []authority{server}, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, cose.ErrBadCertificate},
		{"revoked", leaf, []authority{leaf, middle}, [][]byte{middle.revoke(t, later, 7)}, nil, cose.ErrCertificateRevoked},
		{"intermediate revoked", leaf, []authority{leaf, middle}, [][]byte{root.revoke(t, later, 7)}, nil, cose.ErrCertificateRevoked},
		{"list outdated", direct, []authority{direct}, [][]byte{root.revoke(t, testTime.Add(-time.Second), 9)}, nil, cose.ErrRevocationList},
		{"list forged", direct, []authority{direct}, [][]byte{stranger.revoke(t, later)}, nil, cose.ErrRevocationList},
		{"another signer", leaf, []authority{direct}, nil, nil, cose.ErrBadCertificate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(root.cert)
			source, err := cose.NewCertificateKeys(cose.CertificateOptions{Roots: roots, Now: testClock, RevocationLists: tt.crls, ExtKeyUsages: tt.usage})
			if err != nil {
				t.Fatal(err)
			}
			var o cose.SignOptions
			for _, c := range tt.chain {
				o.X5Chain = append(o.X5Chain, c.cert.Raw)
			}
			msg := sign1(t, tt.who.key, "p", o)
			v, err := cose.Verify(msg, source, cose.VerifyOptions{})
			if tt.err == nil {
				if err != nil || !v.Key.Equal(tt.who.key) {
					t.Errorf("%v", err)
				}
				return
			}
			wantErr(t, err, tt.err, cose.ErrUnknownSigner)
		})
	}
}

func TestX5ChainOfAnotherKey(t *testing.T) {
	root := issue(t, nil, newKey(t, cose.AlgESP256, 1), asCA("root"))
	leaf := issue(t, &root, newKey(t, cose.AlgESP256, 3), asLeaf)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	source, err := cose.NewCertificateKeys(cose.CertificateOptions{Roots: roots, Now: testClock})
	if err != nil {
		t.Fatal(err)
	}
	known := newKey(t, cose.AlgESP256, 4)
	msg := sign1(t, known, "p", cose.SignOptions{X5Chain: [][]byte{leaf.cert.Raw}})
	_, err = cose.Verify(msg, source, cose.VerifyOptions{})
	wantErr(t, err, cose.ErrSignature)
	// Certificates and known keys together: either may verify, and the reason survives.
	if _, err = cose.Verify(msg, cose.AnyOf(source, newSet(t, known)), cose.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	_, err = cose.Verify(sign1(t, known, "p", cose.SignOptions{}), cose.AnyOf(newSet(t, leaf.key), source), cose.VerifyOptions{})
	wantErr(t, err, cose.ErrUnknownSigner, cose.ErrBadCertificate)
}

func TestX5ChainHeaderAndOptions(t *testing.T) {
	for name, value := range map[string]any{
		"array of one": [][]byte{{1}}, "empty array": [][]byte{}, "array of texts": []string{"a", "b"},
		"too many": make([][]byte, cose.MaxCertificates+1),
	} {
		var h cose.Header
		if err := h.Set(cose.LabelX5Chain, value); err != nil {
			t.Fatal(err)
		}
		if _, err := h.X5Chain(); !errors.Is(err, cose.ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
		source, err := cose.NewCertificateKeys(cose.CertificateOptions{Roots: x509.NewCertPool(), Now: testClock})
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.VerifiersOrReason(cose.AlgESP256, cose.Headers{Unprotected: h})
		wantErr(t, err, cose.ErrBadCertificate)
		if found := source.VerifiersFor(cose.AlgESP256, cose.Headers{Unprotected: h}); found != nil {
			t.Errorf("%s: %v", name, found)
		}
	}
	_, err := cose.NewCertificateKeys(cose.CertificateOptions{Now: testClock})
	wantErr(t, err, cose.ErrBadCertificate)
	_, err = cose.NewCertificateKeys(cose.CertificateOptions{Roots: x509.NewCertPool()})
	wantErr(t, err, cose.ErrBadCertificate)
	_, err = cose.NewCertificateKeys(cose.CertificateOptions{Roots: x509.NewCertPool(), Now: testClock, RevocationLists: [][]byte{{1}}})
	wantErr(t, err, cose.ErrRevocationList)
}
