package agent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// authority is a certificate authority that certifies TAMs.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, from time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: from, NotAfter: from.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func (a *authority) certify(t *testing.T, name string, key *cose.Key, until time.Time) []byte {
	t.Helper()
	public, err := key.CryptoPublic()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: a.cert.NotBefore, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestTAMByCertificate(t *testing.T) {
	w := newWorld(t)
	from := w.device.now.AddDate(-1, 0, 0)
	ca, otherCA := newAuthority(t, from), newAuthority(t, from)
	carrier := newTAM(t, "carrier")
	root := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})))
	set := strings.Replace(string(w.trust()), "signers:\n", fmt.Sprintf(
		"  - name: carrier\n    uris: [%s]\n    certificate-subject: tam.carrier.example\n    certificate-authority: |\n        %s\nsigners:\n",
		carrier.uri, strings.ReplaceAll(root, "\n", "\n        ")), 1)
	if _, err := w.tryStart([]byte(set)); err != nil {
		t.Fatal(err)
	}
	later := w.device.now.AddDate(1, 0, 0)
	send := func(chain ...[]byte) teep.Message {
		t.Helper()
		payload, err := teep.Encode(query(t, teep.DataTrustedComponents))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := carrier.p256.Signer()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := cose.Sign1(rand.Reader, payload, signer, cose.SignOptions{X5Chain: chain})
		if err != nil {
			t.Fatal(err)
		}
		ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(carrier).Session, raw)
		if err != nil {
			t.Fatal(err)
		}
		return w.decode(ask)
	}
	if m, ok := send(ca.certify(t, "tam.carrier.example", carrier.p256, later)).(*teep.QueryResponse); !ok {
		t.Fatalf("got %#v", m)
	}
	for name, tt := range map[string]struct {
		cert []byte
		code teep.ErrorCode
	}{
		"another authority": {otherCA.certify(t, "tam.carrier.example", carrier.p256, later), teep.ErrBadCertificate},
		"another name":      {ca.certify(t, "tam.other.example", carrier.p256, later), teep.ErrBadCertificate},
		"expired":           {ca.certify(t, "tam.carrier.example", carrier.p256, w.device.now.Add(-time.Hour)), teep.ErrCertificateExpired},
		"another key":       {ca.certify(t, "tam.carrier.example", w.dev, later), teep.ErrPermanentError},
		"no certificate":    {[]byte("certificate"), teep.ErrBadCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			if e, ok := send(tt.cert).(*teep.Error); !ok || e.Code != tt.code {
				t.Fatalf("got %#v", e)
			}
		})
	}
}
