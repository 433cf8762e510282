//go:build linux

package main_test

import (
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
)

// ask sends one message of the TAM to a running agent, and returns what comes back.
func (d device) ask(m teep.Message, s cose.Signer) (cose.Algorithm, teep.Message) {
	d.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(d.dir, "agent.sock"))
	must(d.t, err)
	client := link.NewClient(conn, link.ClientOptions{})
	defer client.Close()
	data, err := teep.Protect(rand.Reader, m, s)
	must(d.t, err)
	first, err := client.RequestPolicyCheck(d.t.Context())
	must(d.t, err)
	answer, err := client.ProcessTeepMessage(d.t.Context(), first.Session, data)
	must(d.t, err)
	payload, err := cose.UnverifiedPayload(answer.Message)
	must(d.t, err)
	opened, err := teep.Decode(payload)
	must(d.t, err)
	headers, _, err := cose.UnverifiedHeaders(answer.Message)
	must(d.t, err)
	return headers.Protected.Algorithm(), opened
}

// TestOlderPeers: a TAM of an earlier draft is refused, and accepted where a flag says so.
func TestOlderPeers(t *testing.T) {
	q := &teep.QueryRequest{
		CipherSuites: []teep.CipherSuite{teep.CipherSuiteSign1(cose.AlgES256)}, SUITProfiles: teep.MandatorySUITProfiles(),
		Token: []byte("a token of a TAM"), DataItems: teep.DataTrustedComponents,
	}
	for _, insecure := range []bool{false, true} {
		d := newDevice(t, "")
		key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
		must(t, err)
		pem, err := key.Public().MarshalPEM()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(d.dir, "tam.pem"), pem, 0o600))
		var flags []string
		if insecure {
			flags = []string{"--insecure-older-peers"}
		}
		_, out := d.serve(flags...)
		older, err := key.SignerFor(cose.AlgES256)
		must(t, err)
		alg, m := d.ask(q, older)
		switch m := m.(type) {
		case *teep.Error:
			if insecure || m.Code != teep.ErrUnsupportedCipherSuites || alg != cose.AlgESP256 {
				t.Errorf("insecure %v: %v %q in %v", insecure, m.Code, m.Message, alg)
			}
		case *teep.QueryResponse:
			if !insecure || alg != cose.AlgES256 {
				t.Errorf("insecure %v: answered in %v", insecure, alg)
			}
		default:
			t.Errorf("insecure %v: %v", insecure, m.Type())
		}
		if insecure != strings.Contains(out.String(), "insecure: ES256") {
			t.Errorf("insecure %v: the log says\n%s", insecure, out)
		}
	}
}

func TestCertificateFilesRefused(t *testing.T) {
	for more, want := range map[string]string{
		"certificates: none.pem\n":         "none.pem",
		"certificates: trust.yaml\n":       "no PEM block of type CERTIFICATE",
		"certificates: tam.pem\n":          "keep certificates alone",
		"revocation-lists: [none.crl]\n":   "none.crl",
		"revocation-lists: [trust.yaml]\n": "not an X.509 CRL",
		"revocation-lists: trust.yaml\n":   "not a list",
		"policy: {passport-age: -1s}\n":    "negative",
		"policy: {timestamps: perhaps}\n":  "true or false",
		"insecure-older-peers: true\n":     "unknown key",
		"policy: {passports: perhaps}\n":   "true or false",
		"revocation-list: [x]\n":           "unknown key",
	} {
		cmd := newDevice(t, more).command("serve")
		stop := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() }) // it serves where it should refuse
		out, err := cmd.CombinedOutput()
		stop.Stop()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", more, err, out)
		}
	}
}
