package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/go-teep/teep/cose"
)

// authorities are the certificate authorities of the scripts, by folder and name.
var authorities sync.Map

type authority struct {
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	mu     sync.Mutex
	serial int64
}

// authorityFile NAME: makes a certificate authority, and NAME.pem with its certificate.
func authorityFile(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[0]},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	cert, err := x509.ParseCertificate(der)
	ts.Check(err)
	authorities.Store(ts.MkAbs(args[0]), &authority{key: key, cert: cert, serial: 1})
	writePEM(ts, args[0]+".pem", "CERTIFICATE", der)
}

func authorityOf(ts *testscript.TestScript, name string) *authority {
	a, ok := authorities.Load(ts.MkAbs(name))
	if !ok {
		ts.Fatalf("no authority %s", name)
	}
	return a.(*authority)
}

func writePEM(ts *testscript.TestScript, name, kind string, der []byte) {
	ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// certify AUTHORITY PUBLIC-KEY NAME OUT [expired | agreement | server]: certifies a key, and sets $serial.
func certify(ts *testscript.TestScript, _ bool, args []string) {
	a := authorityOf(ts, args[0])
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	key, err := cose.ParsePEM(data)
	ts.Check(err)
	public, err := key.CryptoPublic()
	ts.Check(err)
	der := a.issue(ts, public, args[2], func(c *x509.Certificate) {
		switch {
		case slices.Contains(args[4:], "expired"):
			c.NotAfter = time.Now().Add(-time.Hour)
		case slices.Contains(args[4:], "agreement"):
			c.KeyUsage = x509.KeyUsageKeyAgreement
		case slices.Contains(args[4:], "server"):
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
	})
	writePEM(ts, args[3], "CERTIFICATE", der)
}

func (a *authority) issue(ts *testscript.TestScript, public any, name string, change func(*x509.Certificate)) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	ts.Check(err)
	ts.Setenv("serial", template.SerialNumber.String())
	return der
}

// certify-server AUTHORITY NAME PREFIX: makes PREFIX.pem and PREFIX.key for an HTTPS server.
func certifyServer(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der := authorityOf(ts, args[0]).issue(ts, &key.PublicKey, args[1], func(*x509.Certificate) {})
	writePEM(ts, args[2]+".pem", "CERTIFICATE", der)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	writePEM(ts, args[2]+".key", "PRIVATE KEY", private)
}

// revoke AUTHORITY OUT MINUTES [SERIAL…]: makes a revocation list, dated so many minutes from now.
func revoke(ts *testscript.TestScript, _ bool, args []string) {
	a := authorityOf(ts, args[0])
	minutes, err := time.ParseDuration(args[2])
	ts.Check(err)
	at := time.Now().Add(minutes)
	list := &x509.RevocationList{Number: big.NewInt(at.UnixNano()), ThisUpdate: at, NextUpdate: at.Add(time.Hour * 24)}
	for _, text := range args[3:] {
		serial, ok := new(big.Int).SetString(text, 10)
		if !ok {
			ts.Fatalf("serial number %q", text)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: at})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	ts.Check(err)
	writePEM(ts, args[1], "X509 CRL", der)
}
