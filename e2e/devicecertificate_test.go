package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var ueidLine = regexp.MustCompile(`ueid: "?([0-9a-f]+)"?`)

// certifyDevice, as certify KEY COLLATERAL CHAIN MAKERS REVOKED: a maker certifies a public key for the device that the
// collateral names, writes the chain, collateral with its root, and the same with a CRL that revokes
// what it certified.
func certifyDevice(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0])))
	if block == nil {
		ts.Fatalf("%s holds no key", args[0])
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	ts.Check(err)
	named := ueidLine.FindStringSubmatch(ts.ReadFile(args[1]))
	if named == nil {
		ts.Fatalf("%s names no device", args[1])
	}
	name, err := url.Parse("urn:dev:ueid:" + named[1])
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	now := time.Now()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{1},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	ts.Check(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "attestation key"}, URIs: []*url.URL{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, public, key)
	ts.Check(err)
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: now}}}
	crlDER, err := x509.CreateRevocationList(rand.Reader, list, root, key)
	ts.Check(err)
	indented := func(kind string, der []byte) string {
		text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		return "|\n      " + strings.ReplaceAll(text, "\n", "\n      ") + "\n"
	}
	makers := fmt.Sprintf("owner: Maker\nexpires: %s\nmanufacturers:\n  - oemid: pen:32473\n    roots: %s", now.Add(time.Hour).UTC().Format(time.RFC3339), indented("CERTIFICATE", rootDER))
	for path, text := range map[string]string{
		args[2]: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})),
		args[3]: makers,
		args[4]: makers + "    crls: " + indented("X509 CRL", crlDER),
	} {
		ts.Check(os.WriteFile(ts.MkAbs(path), []byte(text), 0o600))
	}
}
