package trust_test

import (
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

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/testca"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// authority is of a developer.
type authority struct{ *testca.Authority }

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	return authority{testca.New(t, name, time.Unix(0, 0), time.Unix(1<<32, 0))}
}

// certify issues a certificate of an authority, as changed.
func (a authority) certify(t *testing.T, public any, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "developer"}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if change != nil {
		change(template)
	}
	return a.Certify(t, template, public)
}

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// signedWith makes an envelope's signature with a chain, and returns how an authority takes it.
func signedWith(t *testing.T, key *cose.Key, chain [][]byte, authority processor.Authority) (processor.Rights, error) {
	t.Helper()
	s, err := key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	message, err := cose.Sign1(rand.Reader, []byte("manifest"), s, cose.SignOptions{X5Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	v, err := cose.Verify(message, authority, cose.VerifyOptions{})
	if err != nil {
		return processor.Rights{}, err
	}
	rights, ok := authority.Rights(v.Key)
	if !ok {
		t.Fatal("a signature holds whose key has no rights")
	}
	return rights, nil
}

// What a certificate has to be for its key to count as a signer's, now and once its manifest is installed.
func TestSignersByCertificate(t *testing.T) {
	ca, other, limited := newAuthority(t, "ca"), newAuthority(t, "other"), newAuthority(t, "limited")
	limited.Cert = reissue(t, limited, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"acme.example"}, true
	})
	key, stranger := newKey(t, cose.AlgESP256), newKey(t, cose.AlgESP256)
	public, err := key.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	f := newFiles(t)
	f["ca.pem"], f["limited.pem"] = []byte(certificatePEM(ca.Cert.Raw)), []byte(certificatePEM(limited.Cert.Raw))
	set := parse(t, f, `
version: 1
tams: [{name: tam, uris: [https://tam.example/], keys: [tam.pem]}]
signers:
  - {name: developer, certificate-authorities: [ca.pem], components: ["'hello'"], commands: [fetch]}
  - {name: acme, certificate-authorities: [limited.pem], components: ["'acme'"]}
`)
	intermediate := newAuthority(t, "intermediate")
	between := ca.certify(t, &intermediate.Key.PublicKey, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = pkix.Name{CommonName: "intermediate"}, true, true, x509.KeyUsageCertSign, nil
	})
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	names := func(n ...string) func(*x509.Certificate) { return func(c *x509.Certificate) { c.DNSNames = n } }
	leaf := func(change func(*x509.Certificate)) [][]byte { return [][]byte{ca.certify(t, public, change)} }
	good := leaf(nil)
	for name, c := range map[string]struct {
		chain     [][]byte
		key       *cose.Key
		at        time.Time
		crls      [][]byte
		want      error
		installed bool // it counts for what is installed
		prefix    string
	}{
		"good":                   {chain: good, installed: true, prefix: "hello"},
		"without usages":         {chain: leaf(func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil }), installed: true, prefix: "hello"},
		"through another":        {chain: [][]byte{intermediate.certify(t, public, nil), between}, installed: true, prefix: "hello"},
		"within constraints":     {chain: [][]byte{limited.certify(t, public, names("build.acme.example"))}, installed: true, prefix: "acme"},
		"expired":                {chain: good, at: noon.Add(2 * time.Hour), want: trust.ErrCertificateExpired, installed: true},
		"not valid yet":          {chain: good, at: noon.Add(-2 * time.Hour), want: trust.ErrCertificateExpired, installed: true},
		"of another authority":   {chain: [][]byte{other.certify(t, public, nil)}, want: trust.ErrBadCertificate},
		"same name, another key": {chain: [][]byte{newAuthority(t, "ca").certify(t, public, nil)}, want: trust.ErrBadCertificate},
		"intermediate missing":   {chain: [][]byte{intermediate.certify(t, public, nil)}, want: trust.ErrBadCertificate},
		"outside of constraints": {chain: [][]byte{limited.certify(t, public, names("build.evil.example"))}, want: trust.ErrBadCertificate},
		"not for signatures":     {chain: leaf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), want: trust.ErrBadCertificate},
		"for servers":            {chain: leaf(usage(x509.ExtKeyUsageServerAuth)), want: trust.ErrBadCertificate},
		"an authority itself":    {chain: leaf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), want: trust.ErrBadCertificate},
		"of another key":         {chain: good, key: stranger, want: cose.ErrSignature},
		"no chain":               {want: cose.ErrUnknownSigner},
		"no certificate":         {chain: [][]byte{[]byte("certificate")}, want: trust.ErrBadCertificate},
		"revoked":                {chain: good, crls: [][]byte{ca.revoked(t, noon, 7)}, want: trust.ErrBadCertificate},
		"another was revoked":    {chain: good, crls: [][]byte{ca.revoked(t, noon, 8)}, installed: true, prefix: "hello"},
		"expired and revoked":    {chain: good, at: noon.Add(2 * time.Hour), crls: [][]byte{ca.revoked(t, noon, 7)}, want: trust.ErrCertificateExpired},
		"list is overdue":        {chain: good, crls: [][]byte{ca.revoked(t, noon.AddDate(-1, 0, 0), 8)}, want: trust.ErrBadCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			if c.key == nil {
				c.key = key
			}
			if c.at.IsZero() {
				c.at = noon
			}
			rights, err := signedWith(t, c.key, c.chain, set.Authority(c.at, c.crls))
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err == nil && (len(rights.Components) != 1 || !rights.Components[0].Prefix.Equal(suit.NewComponentID(c.prefix))) {
				t.Errorf("rights %+v", rights)
			}
			if _, err := signedWith(t, c.key, c.chain, set.Authority(c.at, c.crls).Installed()); (err == nil) != c.installed {
				t.Errorf("installed: %v", err)
			}
		})
	}
}

// A certified key has the rights of its signer, and a key of its own no more than its own.
func TestRightsByCertificateAreApart(t *testing.T) {
	ca := newAuthority(t, "ca")
	f := newFiles(t)
	f["ca.pem"] = []byte(certificatePEM(ca.Cert.Raw))
	set := parse(t, f, `
version: 1
tams: [{name: tam, uris: [https://tam.example/], keys: [tam.pem]}]
signers:
  - {name: developer, certificate-authorities: [ca.pem], components: ["'hello'"]}
  - {name: direct, keys: [dev.pem], components: ["'direct'"]}
`)
	again, err := encoded(set)
	if err != nil || !again.Equal(set) || len(again.Authorities()) != 1 || len(again.Signers[0].Authorities) != 1 {
		t.Fatalf("the CBOR form: %v", err)
	}
	key := newKey(t, cose.AlgEd25519)
	public, err := key.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	authority := set.Authority(noon, nil)
	if _, ok := authority.Rights(key); ok {
		t.Error("a key has rights before a chain was shown")
	}
	if _, err := signedWith(t, key, [][]byte{ca.certify(t, public, nil)}, authority); err != nil {
		t.Fatal(err)
	}
	if _, ok := set.Authority(noon, nil).Rights(key); ok {
		t.Error("a certified key has rights in another run")
	}
	if r, ok := authority.Rights(set.Signers[1].Keys[0]); !ok || len(r.Components) != 1 || !r.Components[0].Prefix.Equal(suit.NewComponentID("direct")) {
		t.Errorf("rights of the direct key: %+v", r)
	}
}

func TestCertificateAuthoritiesRefused(t *testing.T) {
	ca := newAuthority(t, "ca")
	leaf := ca.certify(t, &newAuthority(t, "x").Key.PublicKey, nil)
	f := newFiles(t)
	f["ca.pem"], f["leaf.pem"] = []byte(certificatePEM(ca.Cert.Raw)), []byte(certificatePEM(leaf))
	f["both.pem"] = append(f["ca.pem"], f["leaf.pem"]...)
	for list, want := range map[string]string{
		"{name: a, certificate-authorities: [leaf.pem], components: ['*']}":                                                                  "not that of an authority",
		"{name: a, certificate-authorities: [dev.pem], components: ['*']}":                                                                   "type CERTIFICATE",
		"{name: a, certificate-authorities: [both.pem], components: ['*']}":                                                                  "exactly one PEM block",
		"{name: a, certificate-authorities: [none.pem], components: ['*']}":                                                                  "no file",
		"{name: a, certificate-authorities: ca.pem, components: ['*']}":                                                                      "expected a list",
		"{name: a, certificate-authorities: [], components: ['*']}":                                                                          "neither keys nor certificate-authorities",
		"{name: a, certificate-authorities: [ca.pem]}":                                                                                       "no components",
		"{name: a, certificate-authorities: [ca.pem, ca.pem], components: ['*']}":                                                            "belongs to one",
		"{name: a, certificate-authorities: [ca.pem], components: ['*']}, {name: b, certificate-authorities: [ca.pem], components: [hello]}": "belongs to one",
	} {
		text := fmt.Sprintf("version: 1\ntams: [{name: tam, uris: [https://tam.example/], keys: [tam.pem]}]\nsigners: [%s]\n", list)
		if _, err := trust.ParseYAML([]byte(text), f.read); !errors.Is(err, trust.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// Chains of manifests show the issuers whose revocation lists are to be kept.
func TestManifestsShowIssuers(t *testing.T) {
	ca, intermediate := newAuthority(t, "ca"), newAuthority(t, "intermediate")
	f := newFiles(t)
	f["ca.pem"] = []byte(certificatePEM(ca.Cert.Raw))
	set := parse(t, f, `
version: 1
tams: [{name: tam, uris: [https://tam.example/], keys: [tam.pem]}]
signers: [{name: developer, certificate-authorities: [ca.pem], components: ["*"]}]
`)
	key := newKey(t, cose.AlgESP256)
	public, err := key.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	between := ca.certify(t, &intermediate.Key.PublicKey, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = pkix.Name{CommonName: "intermediate"}, true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	})
	intermediate.Cert, err = x509.ParseCertificate(between)
	if err != nil {
		t.Fatal(err)
	}
	for _, crls := range [][][]byte{nil, {intermediate.revoked(t, noon, 7)}} {
		authority := set.Authority(noon, crls)
		_, err := signedWith(t, key, [][]byte{intermediate.certify(t, public, nil), between}, authority)
		if (err == nil) != (crls == nil) {
			t.Errorf("%v", err)
		}
		if shown := authority.Shown(); len(shown) != 1 || !shown[0].Equal(intermediate.Cert) {
			t.Errorf("shown: %v", shown)
		}
	}
	stranger := newAuthority(t, "stranger")
	authority := set.Authority(noon, nil)
	if _, err := signedWith(t, key, [][]byte{stranger.certify(t, public, nil), stranger.Cert.Raw}, authority); err == nil || len(authority.Shown()) != 0 {
		t.Errorf("a stranger's chain shows %v: %v", authority.Shown(), err)
	}
}

func encoded(s *trust.Set) (*trust.Set, error) {
	data, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return trust.ParseCBOR(data)
}

func reissue(t *testing.T, a authority, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := *a.Cert
	change(&template)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &a.Key.PublicKey, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a authority) revoked(t *testing.T, at time.Time, serial int64) []byte {
	t.Helper()
	return a.Revoke(t, 1, at, at.AddDate(0, 1, 0), serial)
}
