package inspect

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
)

// certificate certifies a key for a year around 2026, by itself if there is no parent.
func certificate(t *testing.T, name string, key *cose.Key, parent *x509.Certificate, issuer *cose.Key, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent = template
	}
	public, err := key.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	private, err := issuer.CryptoPrivate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, private.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificateChains(t *testing.T) {
	root, key, other := newKey(t, cose.AlgESP256), newKey(t, cose.AlgESP256), newKey(t, cose.AlgESP256)
	asCA := func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }
	ca := certificate(t, "root", root, nil, root, asCA)
	foreign := certificate(t, "foreign", other, nil, other, asCA)
	good := certificate(t, "agent", key, ca, root, nil)
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		chain [][]byte
		now   time.Time
		want  string // "" for none
	}{
		"good":               {[][]byte{good.Raw}, now, ""},
		"with its authority": {[][]byte{good.Raw, ca.Raw}, now, ""},
		"expired":            {[][]byte{good.Raw}, now.AddDate(1, 0, 0), "TEEP §4.6: the certificate expired on 2027-01-01"},
		"not yet valid":      {[][]byte{good.Raw}, now.AddDate(-1, 0, 0), "TEEP §4.6: the certificate is not valid before 2026-01-01"},
		"time not judged":    {[][]byte{good.Raw}, time.Time{}, ""},
		"another authority":  {[][]byte{good.Raw, foreign.Raw}, now, "RFC 9360 §2: not signed by the certificate that follows"},
		"authority first":    {[][]byte{ca.Raw, good.Raw}, now, "the end entity comes first"},
		"another key":        {[][]byte{certificate(t, "agent", other, ca, root, nil).Raw}, now, "TEEP §5: the kid is not the thumbprint of the certified key"},
		"not for signatures": {[][]byte{certificate(t, "agent", key, ca, root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }).Raw}, now, "RFC 5280 §4.2.1.3"},
		"garbage":            {[][]byte{[]byte("certificate")}, now, "RFC 9360 §2: not an X.509 certificate in DER"},
	} {
		t.Run(name, func(t *testing.T) {
			message := signed(t, key, fromNotation(t, update8), cose.SignOptions{X5Chain: c.chain})
			r := inspected(t, message, Options{Now: c.now, Keys: []*cose.Key{key.Public()}})
			var all []string
			for _, f := range r.Findings {
				all = append(all, f.String())
			}
			text := strings.Join(all, "\n")
			if c.want == "" && len(all) != 0 || !strings.Contains(text, c.want) {
				t.Errorf("findings:\n%s\nwant %q", text, c.want)
			}
			certificates := 0
			for _, p := range r.Parts {
				if p.Kind == KindCertificate && strings.HasPrefix(p.Path, "x5chain") {
					certificates++
				}
			}
			if name != "garbage" && certificates != len(c.chain) {
				t.Errorf("%d certificates among the parts: %+v", certificates, r.Parts)
			}
		})
	}
	// In the notation of someone else's encoder.
	for text, want := range map[string]string{
		"18([<< {1: -9} >>, {33: [h'00']}, << [3, {}] >>, h'00'])": "a single one is a byte string by itself",
		"18([<< {1: -9} >>, {33: 7}, << [3, {}] >>, h'00'])":       "not a byte string with a certificate",
		"18([<< {1: -9} >>, {33: []}, << [3, {}] >>, h'00'])":      "an array of 0 certificates",
	} {
		r := inspected(t, fromNotation(t, text), Options{})
		found := false
		for _, f := range r.Findings {
			found = found || strings.Contains(f.Problem, want)
		}
		if !found {
			t.Errorf("%s: %v", text, r.Findings)
		}
	}
}
