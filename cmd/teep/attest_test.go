package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/program"
)

// attestFiles is a folder with Evidence and all that its verifier needs.
func attestFiles(t *testing.T) (dir string, nonce string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keyFor := func(alg cose.Algorithm, name string) *cose.Key {
		k, err := cose.GenerateKey(rand.Reader, alg)
		if err != nil {
			t.Fatal(err)
		}
		for file, k := range map[string]*cose.Key{name + ".pem": k, name + ".pub.pem": k.Public()} {
			data, err := k.MarshalPEM()
			if err != nil {
				t.Fatal(err)
			}
			write(file, data)
		}
		return k
	}
	key := func(name string) *cose.Key { return keyFor(cose.AlgESP256, name) }
	signer := func(k *cose.Key) cose.Signer {
		s, err := k.Signer()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	agent, attestation, owner := key("agent"), key("attestation"), key("owner")
	key("verifier")
	key("stranger")
	encryption := keyFor(cose.AlgECDHESA128KW, "encryption")
	keyFor(cose.AlgECDHESA128KW, "verifier-ecdh")
	keyFor(cose.AlgECDHESA128KW, "stranger-ecdh")
	oemid, err := attest.ParseOEMID("ieee:89-48-23")
	if err != nil {
		t.Fatal(err)
	}
	measurement := sha256.Sum256([]byte("agent"))
	id := eat.Identity{UEID: append([]byte{1}, make([]byte, 16)...), OEMID: oemid, HWModel: []byte{1}, HWVersion: "1", AgentName: "teep-agent",
		Measurement: measurement[:], Debug: eat.DebugDisabled}
	a, err := eat.NewAttester(eat.AttesterConfig{Identity: id, Signer: signer(attestation), Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	challenge := []byte("challenge")
	e, err := a.Attest(context.Background(), "", attest.Request{Nonce: challenge, AgentKey: agent.Public()})
	if err != nil {
		t.Fatal(err)
	}
	write("evidence.cbor", e.Payload)
	named, err := a.Attest(context.Background(), "", attest.Request{Nonce: challenge, AgentKey: agent.Public(), EncryptionKey: encryption.Public()})
	if err != nil {
		t.Fatal(err)
	}
	write("evidence-with-key.cbor", named.Payload)
	wrapped, err := cmw.Wrap(e)
	if err != nil {
		t.Fatal(err)
	}
	write("evidence.cmw", wrapped.Payload)
	class := appraisal.Class{OEMID: oemid, HWModel: id.HWModel}
	collateral, err := (&appraisal.Collateral{Owner: "Maker", Expires: time.Now().Add(time.Hour),
		Endorsements: []appraisal.Endorsement{{UEID: id.UEID, Key: attestation.Public(), Class: class}},
		References:   []appraisal.Reference{{Class: class, Name: "teep-agent", Version: "1", Algorithm: cose.AlgSHA256, Digest: measurement[:], Status: attest.StatusAffirming}},
	}).YAML()
	if err != nil {
		t.Fatal(err)
	}
	write("devices.yaml", collateral)
	signed, err := appraisal.Sign(rand.Reader, collateral, signer(owner))
	if err != nil {
		t.Fatal(err)
	}
	write("devices.cose", signed)
	head := "id: https://example.com/p\nclasses:\n  - oemid: ieee:89-48-23\n    affirming:\n      - if: "
	write("good.yaml", []byte(head+"debug == \"disabled\"\n"))
	write("strict.yaml", []byte(head+"measurements.exists(m, m.name == \"sev-snp-launch\")\n"))
	write("broken.yaml", []byte(head+"debug == 1\n"))
	return dir, hex.EncodeToString(challenge)
}

func TestAttestAppraise(t *testing.T) {
	dir, nonce := attestFiles(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	base := []string{"--collateral", in("devices.yaml"), "--nonce", nonce, "--agent-key", in("agent.pub.pem")}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"affirming":          {append([]string{in("evidence.cbor")}, base...), program.ExitOK, "affirming        measurements teep-agent"},
		"wrapped":            {append([]string{in("evidence.cmw")}, base...), program.ExitOK, "affirming"},
		"policy affirms":     {append([]string{in("evidence.cbor"), "--policy", in("good.yaml")}, base...), program.ExitOK, "policy https://example.com/p: line 5"},
		"policy refuses":     {append([]string{in("evidence.cbor"), "--policy", in("strict.yaml")}, base...), program.ExitError, "none of the 1 rules"},
		"policy broken":      {append([]string{in("evidence.cbor"), "--policy", in("broken.yaml")}, base...), program.ExitUsage, "no matching overload"},
		"by age":             {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--max-age", "1m", "--agent-key", in("agent.pub.pem")}, program.ExitOK, "affirming"},
		"insecure":           {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--insecure-any-nonce", "--insecure-any-agent-key"}, program.ExitOK, "insecure: the agent key"},
		"signed collateral":  {[]string{in("evidence.cbor"), "--collateral", in("devices.cose"), "--owner", "Maker=" + in("owner.pub.pem"), "--nonce", nonce, "--agent-key", in("agent.pub.pem")}, program.ExitOK, "affirming"},
		"owner unknown":      {[]string{in("evidence.cbor"), "--collateral", in("devices.cose"), "--nonce", nonce, "--agent-key", in("agent.pub.pem")}, program.ExitUsage, "accepted owners"},
		"signed by another":  {[]string{in("evidence.cbor"), "--collateral", in("devices.cose"), "--owner", "Maker=" + in("stranger.pub.pem"), "--nonce", nonce, "--agent-key", in("agent.pub.pem")}, program.ExitUsage, "signed the file"},
		"old challenge":      {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--nonce", "0102030405060708", "--agent-key", in("agent.pub.pem")}, program.ExitError, "not fresh"},
		"another agent":      {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--nonce", nonce, "--agent-key", in("stranger.pub.pem")}, program.ExitError, "does not name the key"},
		"no collateral":      {[]string{in("evidence.cbor"), "--nonce", nonce, "--agent-key", in("agent.pub.pem")}, program.ExitUsage, "--collateral is missing"},
		"no freshness":       {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--agent-key", in("agent.pub.pem")}, program.ExitUsage, "how fresh"},
		"two freshnesses":    {append([]string{in("evidence.cbor"), "--insecure-any-nonce"}, base...), program.ExitUsage, "how fresh"},
		"no key":             {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--nonce", nonce}, program.ExitUsage, "whose Evidence"},
		"output without key": {append([]string{in("evidence.cbor"), "-o", in("r")}, base...), program.ExitUsage, "go together"},
		"bad nonce":          {[]string{in("evidence.cbor"), "--collateral", in("devices.yaml"), "--nonce", "xyz", "--agent-key", in("agent.pub.pem")}, program.ExitUsage, "--nonce"},
		"not Evidence":       {append([]string{in("devices.yaml")}, base...), program.ExitError, "no verdict"},
		"another type":       {append([]string{in("evidence.cbor"), "--media-type", "application/x"}, base...), program.ExitError, "no verifier"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := runTeep(append([]string{"attest", "appraise"}, c.args...)...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d:\n%s", code, out)
			}
		})
	}
	result := in("result.cbor")
	if code, out := runTeep(append([]string{"attest", "appraise", in("evidence.cbor"), "--key", in("verifier.pem"), "-o", result}, base...)...); code != 0 {
		t.Fatal(out)
	}
	token, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readKeySet([]string{in("verifier.pub.pem")})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := readKey(in("agent.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := eat.CheckResult(token, eat.ResultExpectation{Verifiers: keys, Key: agent, Now: time.Now()})
	if err != nil || r.Status != attest.StatusAffirming {
		t.Error(r, err)
	}
}

func TestAttestCheckPolicy(t *testing.T) {
	dir, _ := attestFiles(t)
	for name, want := range map[string]int{"good.yaml": 0, "strict.yaml": 0, "broken.yaml": 1, "evidence.cbor": 1, "absent": 1} {
		if code, out := runTeep("attest", "check-policy", filepath.Join(dir, name)); code != want {
			t.Errorf("%s: exit code %d: %s", name, code, out)
		}
	}
}

// runTeep runs the command and returns all that it prints.
func runTeep(args ...string) (int, string) {
	var out bytes.Buffer
	c := root()
	c.SetOut(&out)
	code := program.Main(c, args, &out)
	return code, out.String()
}
