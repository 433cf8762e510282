package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.cert, a.key = a.sign(template)
	return a
}

// sign makes a certificate; the first is the authority's own.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	if template.SerialNumber == nil {
		template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
		must(a.t, err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(a.t, err)
	c, err := x509.ParseCertificate(der)
	must(a.t, err)
	return c, key
}

// client issues a client certificate.
func (a *authority) client(change func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "ci"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	c, key := a.sign(template)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func (a *authority) crl(next time.Time, revoked ...*x509.Certificate) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: next}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	must(a.t, err)
	return der
}

func file(t *testing.T, kind string, ders ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	var data []byte
	for _, der := range ders {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

// served asks a real TLS server that asks for certificates who one is from.
func served(t *testing.T, a *Certificates) func(tls.Certificate) (*api.Caller, error) {
	t.Helper()
	var c *api.Caller
	var err error
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c, err = a.Authenticate(r) }))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return func(cert tls.Certificate) (*api.Caller, error) {
		t.Helper()
		transport := server.Client().Transport.(*http.Transport).Clone()
		// Whatever the server hints at: a liar sends what it likes.
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		defer transport.CloseIdleConnections()
		c, err = nil, nil
		res, getErr := (&http.Client{Transport: transport}).Get(server.URL)
		must(t, getErr)
		must(t, res.Body.Close())
		return c, err
	}
}

func newCertificates(t *testing.T, c CertificatesConfig) *Certificates {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	c.Grants = []Grant{
		{Match: "ci", Scopes: []api.Scope{api.ScopePublisher}, Publisher: "acme"},
		{Match: "spiffe://example/operator", Scopes: []api.Scope{api.ScopeOperator}},
	}
	a, err := NewCertificates(c)
	must(t, err)
	return a
}

func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t, "operators"), newAuthority(t, "operators")
	revoked, client := ca.client(nil), ca.client(nil)
	a := newCertificates(t, CertificatesConfig{
		CAs: []string{file(t, "CERTIFICATE", ca.cert.Raw)}, CRLs: []string{file(t, "X509 CRL", ca.crl(time.Now().Add(time.Hour), revoked.Leaf))},
	})
	ask := served(t, a)
	c, err := ask(ca.client(nil))
	must(t, err)
	if c.Name != "ci" || !slices.Equal(c.Subjects, []string{"ci"}) || c.Publisher != "acme" || len(c.Scopes) != 1 || c.Scopes[0] != api.ScopePublisher {
		t.Fatalf("caller %+v", c)
	}
	c, err = ask(ca.client(func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example", Path: "/operator"}}
	}))
	must(t, err)
	if c.Name != "spiffe://example/operator" || c.Scopes[0] != api.ScopeOperator || len(c.Scopes) != 1 {
		t.Fatalf("with a name, the common name counted: %+v", c)
	}
	if c, err := ask(tls.Certificate{}); c != nil || err != nil {
		t.Fatalf("no certificate: %+v, %v", c, err)
	}
	for name, test := range map[string]struct {
		cert   tls.Certificate
		status int
	}{
		"revoked":             {revoked, 401},
		"other CA, same name": {other.client(nil), 401},
		"expired":             {ca.client(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Unix(1, 0), time.Unix(2, 0) }), 401},
		"not yet": {ca.client(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}), 401},
		"a server's":           {ca.client(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), 401},
		"no grant":             {ca.client(func(c *x509.Certificate) { c.Subject.CommonName = "stranger" }), 403},
		"name where none is":   {ca.client(func(c *x509.Certificate) { c.DNSNames = []string{"stranger"} }), 403},
		"name of another kind": {ca.client(func(c *x509.Certificate) { c.Subject.CommonName = "ci "; c.Subject.Organization = []string{"ci"} }), 403},
		"signed by a client":   {(&authority{t: t, cert: client.Leaf, key: client.PrivateKey.(*ecdsa.PrivateKey)}).client(nil), 401},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ask(test.cert)
			if c != nil {
				t.Fatalf("accepted as %+v", c)
			}
			wantStatus(t, err, test.status)
		})
	}
}

// TestRevocationListsHaveToBeInDate: one that is not renewed lets nobody in, and no list that another
// authority signed counts.
func TestRevocationListsHaveToBeInDate(t *testing.T) {
	ca, other := newAuthority(t, "operators"), newAuthority(t, "operators")
	for name, crl := range map[string][]byte{
		"old": ca.crl(time.Now().Add(-time.Hour)), "of another": other.crl(time.Now().Add(time.Hour)),
	} {
		a := newCertificates(t, CertificatesConfig{CAs: []string{file(t, "CERTIFICATE", ca.cert.Raw)}, CRLs: []string{file(t, "X509 CRL", crl)}})
		c, err := served(t, a)(ca.client(nil))
		if c != nil {
			t.Fatalf("%s: accepted as %+v", name, c)
		}
		wantStatus(t, err, http.StatusUnauthorized)
	}
	// An old list still says who was revoked.
	lost := ca.client(nil)
	a := newCertificates(t, CertificatesConfig{CAs: []string{file(t, "CERTIFICATE", ca.cert.Raw)},
		CRLs: []string{file(t, "X509 CRL", ca.crl(time.Now().Add(-time.Hour), lost.Leaf)), file(t, "X509 CRL", ca.crl(time.Now().Add(time.Hour)))}})
	if c, _ := served(t, a)(lost); c != nil {
		t.Fatal("a newer list without the certificate brought it back")
	}
}

func TestHeaderCountsBeforeCertificate(t *testing.T) {
	ca := newAuthority(t, "operators")
	a := newCertificates(t, CertificatesConfig{CAs: []string{file(t, "CERTIFICATE", ca.cert.Raw)}})
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.client(nil).Leaf}}
	if c, err := a.Authenticate(r); err != nil || c == nil {
		t.Fatalf("%v, %v", c, err)
	}
	r.Header.Set("Authorization", "Bearer x")
	if c, err := a.Authenticate(r); c != nil || err != nil {
		t.Fatalf("%v, %v", c, err)
	}
}

func TestCertificateFiles(t *testing.T) {
	ca := newAuthority(t, "operators")
	leaf := ca.client(nil).Leaf
	good := file(t, "CERTIFICATE", ca.cert.Raw)
	for name, c := range map[string]CertificatesConfig{
		"no CA":         {},
		"no file":       {CAs: []string{good + "x"}},
		"empty":         {CAs: []string{file(t, "CERTIFICATE")}},
		"a client's":    {CAs: []string{file(t, "CERTIFICATE", leaf.Raw)}},
		"a key":         {CAs: []string{file(t, "PRIVATE KEY", []byte{1})}},
		"garbage":       {CAs: []string{file(t, "CERTIFICATE", []byte{1})}},
		"CRL garbage":   {CAs: []string{good}, CRLs: []string{file(t, "X509 CRL", []byte{1})}},
		"CRL not there": {CAs: []string{good}, CRLs: []string{good + "x"}},
	} {
		if _, err := NewCertificates(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
