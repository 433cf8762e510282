package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientCertificate makes files of a certificate and its key.
func clientCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ops"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "ops.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(t, "ops.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

// TestLoginWithACertificate: no token goes along, and the TAM's own certificate has to lead to what the flags say.
func TestLoginWithACertificate(t *testing.T) {
	var seen string
	tam := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = fmt.Sprintf("%d %q", len(r.TLS.PeerCertificates), r.Header.Values("Authorization"))
		if len(r.TLS.PeerCertificates) > 0 {
			seen = r.TLS.PeerCertificates[0].Subject.CommonName + seen[1:]
		}
		if r.URL.Path != "/v1/audit/export" {
			fmt.Fprint(w, `{"items":[]}`)
		}
	}))
	tam.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	tam.Config.ErrorLog = nil
	tam.StartTLS()
	t.Cleanup(tam.Close)
	certificate, key := clientCertificate(t)
	_, other := clientCertificate(t)
	token := write(t, "token", []byte("teep_x"))
	ca := write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tam.Certificate().Raw}))
	login := []string{"--client-certificate", certificate, "--client-key", key, "--tam-ca", ca}
	for name, test := range map[string]struct {
		args  []string
		url   string
		seen  string
		fault string
	}{
		"certificate":             {args: append([]string{"devices"}, login...), seen: `ops []`},
		"export":                  {args: append([]string{"audit", "export", "-o", filepath.Join(t.TempDir(), "new")}, login...), seen: `ops []`},
		"token":                   {args: []string{"devices", "--token-file", token, "--tam-ca", ca}, seen: `0 ["Bearer teep_x"]`},
		"both":                    {args: append([]string{"devices", "--token-file", token}, login...), seen: `ops ["Bearer teep_x"]`},
		"neither":                 {args: []string{"devices", "--tam-ca", ca}, fault: "--token-file is missing"},
		"unknown authority":       {args: []string{"devices", "--client-certificate", certificate, "--client-key", key}, fault: "certificate"},
		"another key":             {args: []string{"devices", "--client-certificate", certificate, "--client-key", other, "--tam-ca", ca}, fault: "--client-key"},
		"no key":                  {args: []string{"devices", "--client-certificate", certificate, "--tam-ca", ca}, fault: "--client-key"},
		"no certificate":          {args: []string{"devices", "--token-file", token, "--client-key", key, "--tam-ca", ca}, fault: "--client-certificate"},
		"an authority of nothing": {args: append([]string{"devices"}, append(login[:4:4], "--tam-ca", token)...), fault: "has no certificate"},
		"without TLS":             {args: append([]string{"devices"}, login...), url: strings.Replace(tam.URL, "https", "http", 1), fault: "https"},
	} {
		seen = ""
		c := root()
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		url := tam.URL
		if test.url != "" {
			url = test.url
		}
		c.SetArgs(append(test.args, "--tam", url))
		err := c.ExecuteContext(t.Context())
		if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%s: %v", name, err)
		}
		if seen != test.seen {
			t.Errorf("%s: the TAM saw %s, want %s", name, seen, test.seen)
		}
	}
}
