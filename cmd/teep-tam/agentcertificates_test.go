package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
)

// certifier certifies agents, and what certifies them.
type certifier struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// issue makes a certificate by c, or by itself where c is nil.
func (c *certifier) issue(t *testing.T, name string, serial int64, ca bool) *certifier {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	by := &certifier{key, template}
	if c != nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &certifier{key, cert}
}

// revoke makes a list with one serial number.
func (c *certifier) revoke(t *testing.T, number, serial int64) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: time.Now().Add(time.Duration(number-100) * time.Second), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()}},
	}, c.cert, c.key)
	must(t, err)
	return der
}

// TestListsOfIntermediatesOutliveARestart: what an issuer below an authority revoked stays revoked, once a chain
// has shown whose list it is, also where the list is left out or an older one is in its place.
func TestListsOfIntermediatesOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	root := (*certifier)(nil).issue(t, "root", 1, true)
	middle := root.issue(t, "middle", 2, true)
	below := middle.issue(t, "below", 3, true)
	agent := below.issue(t, "agent", 4, false)
	other := below.issue(t, "another agent", 5, false)
	stranger := (*certifier)(nil).issue(t, "stranger", 1, true)
	chain := func(leaf *certifier, issuers ...*certifier) [][]byte {
		all := [][]byte{leaf.cert.Raw}
		for _, c := range issuers {
			all = append(all, c.cert.Raw)
		}
		return all
	}
	o := agentOptions{Authorities: []string{filepath.Join(dir, "root.pem")}, RevocationMemory: filepath.Join(dir, "seen.pem")}
	must(t, os.WriteFile(o.Authorities[0], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.cert.Raw}), 0o600))
	var log bytes.Buffer
	open := func(lists ...[]byte) (*agentCertificates, error) {
		t.Helper()
		o.RevocationLists = nil
		if len(lists) > 0 {
			o.RevocationLists = []string{filepath.Join(dir, "lists.pem")}
			var text []byte
			for _, der := range lists {
				text = append(text, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
			}
			must(t, os.WriteFile(o.RevocationLists[0], text, 0o600))
		}
		return openAgentCertificates(o, slog.New(slog.NewTextHandler(&log, nil)))
	}
	opened := func(lists ...[]byte) *agentCertificates {
		t.Helper()
		a, err := open(lists...)
		must(t, err)
		return a
	}
	revoked := func(why string, a *agentCertificates, want bool) {
		t.Helper()
		if _, err := a.Validate(chain(agent, below, middle)); errors.Is(err, cose.ErrCertificateRevoked) != want || !want && err != nil {
			t.Errorf("%s: %v", why, err)
		}
	}
	list, foreign := below.revoke(t, 10, 4), stranger.revoke(t, 10, 4)

	opened(list, foreign)
	revoked("nobody showed whose list it was", opened(), false)
	a := opened(list, foreign)
	if _, err := a.Validate(chain(stranger.issue(t, "agent", 4, false), stranger)); !errors.Is(err, cose.ErrBadCertificate) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := os.Stat(o.RevocationMemory); err == nil {
		t.Error("a list is remembered whose issuer leads to no authority")
	}
	var all sync.WaitGroup
	for range 8 { // many agents at once
		all.Go(func() { _, _ = a.Validate(chain(other, below, middle)) })
	}
	all.Wait()
	revoked("the list in force", a, true)
	for range 2 {
		revoked("left out, after a restart", opened(), true)
	}
	if _, err := open(below.revoke(t, 9, 99)); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older list: %v", err)
	}
	revoked("a newer list", opened(below.revoke(t, 11, 99)), false)
	revoked("which is the one that counts now", opened(), false)
	a = opened(below.revoke(t, 12, 4), middle.revoke(t, 1, 99))
	revoked("lists of both", a, true)
	revoked("lists of both are left out", opened(), true)
	if text, err := os.ReadFile(o.RevocationMemory); err != nil || bytes.Count(text, []byte("X509 CRL")) != 4 || bytes.Count(text, []byte("CERTIFICATE")) != 4 {
		t.Errorf("%v, the memory is\n%s", err, text)
	}
	if log.Len() > 0 {
		t.Errorf("the log says\n%s", log.String())
	}
	for name, text := range map[string]string{
		"no PEM": "x", "another block": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})),
		"no certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})),
		"no list":        string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte{1}})),
	} {
		must(t, os.WriteFile(o.RevocationMemory, []byte(text), 0o600))
		if _, err := open(); err == nil {
			t.Errorf("%s: a memory that is damaged is taken for an empty one", name)
		}
	}
}
