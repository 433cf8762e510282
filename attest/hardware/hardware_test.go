package hardware_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/builtin"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/hardware"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/attest/tpm/tpmtest"
	"github.com/go-teep/teep/attest/tsm"
	"github.com/go-teep/teep/cose"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	return k
}

func signer(t testing.TB, k *cose.Key) cose.Signer {
	t.Helper()
	s, err := k.Signer()
	must(t, err)
	return s
}

func identity(ueid []byte) eat.Identity {
	return eat.Identity{UEID: ueid, OEMID: []byte{0x19, 0x7e, 0xd9}, HWModel: []byte("board"), HWVersion: "1",
		AgentName: "teep-agent", Measurement: bytes.Repeat([]byte{3}, 32)}
}

var class = appraisal.Class{OEMID: []byte{0x19, 0x7e, 0xd9}, HWModel: []byte("board")}

func TestConfigRefuses(t *testing.T) {
	for text, c := range map[string]hardware.Config{
		"no format":          {Formats: []string{"sgx"}},
		"named twice":        {Formats: []string{"eat", "eat"}},
		"choose one of them": {Formats: []string{"tpm", "tsm"}},
		"does not name tpm":  {TPM: hardware.TPMConfig{Device: "/dev/tpm0"}},
		"which formats":      {Formats: []string{"tpm"}, CertificateChain: "chain.pem"},
		"there is no PCR 24": {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{PCRs: []int{24}}},
		"there is no PCR -1": {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{PCRs: []int{-1}}},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", c, err, text)
		}
		if _, err := hardware.New(t.Context(), c, hardware.Material{}, nil, nil); err == nil {
			t.Errorf("%+v was used", c)
		}
	}
	c := hardware.Config{}
	must(t, c.Check())
	if !slices.Equal(c.Formats, []string{"eat"}) {
		t.Error(c.Formats)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		must(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	key := newKey(t)
	private, err := key.MarshalPEM()
	must(t, err)
	for name, c := range map[string]hardware.Config{
		"no TPM":              {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{Device: filepath.Join(dir, "none")}},
		"no chain":            {CertificateChain: filepath.Join(dir, "none")},
		"a key as chain":      {CertificateChain: file("key.pem", string(private))},
		"no certificate":      {CertificateChain: file("text", "hello")},
		"no event log":        {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{EventLog: filepath.Join(dir, "none")}},
		"a log that is none":  {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{EventLog: file("log", "hello")}},
		"a log of great size": {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{EventLog: file("long", strings.Repeat("x", 1<<20))}},
		"no AK certificate":   {Formats: []string{"tpm"}, TPM: hardware.TPMConfig{CertificateChain: filepath.Join(dir, "none")}},
	} {
		must(t, c.Check())
		if o, err := c.Open(); err == nil {
			t.Errorf("%s was opened", name)
			must(t, o.Close())
		}
	}
	if _, err := hardware.New(t.Context(), hardware.Config{Formats: []string{"tpm"}}, hardware.Material{}, nil, nil); err == nil {
		t.Error("a TPM that was not opened is used")
	}
	if _, err := hardware.New(t.Context(), hardware.Config{Formats: []string{"tsm"}}, hardware.Material{}, nil, nil); err == nil {
		t.Error("a processor that was not opened is used")
	}
}

// certify makes a certificate of an attestation key for a device.
func certify(t testing.TB, key *cose.Key, ueid []byte) []byte {
	t.Helper()
	ca, pub := newKey(t), key
	private, err := ca.CryptoPrivate()
	must(t, err)
	public, err := pub.CryptoPublic()
	must(t, err)
	name, err := url.Parse(fmt.Sprintf("urn:dev:ueid:%x", ueid))
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "AK"}, URIs: []*url.URL{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	must(t, err)
	return der
}

func TestCertifiedKeyOfTheTEE(t *testing.T) {
	key, ueid := newKey(t), []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for name, c := range map[string]struct {
		chain [][]byte
		text  string
	}{
		"the key's own":      {[][]byte{certify(t, key, ueid)}, ""},
		"of another key":     {[][]byte{certify(t, newKey(t), ueid)}, "have that one certified"},
		"for another device": {[][]byte{certify(t, key, []byte{1, 2, 3, 4, 5, 6, 7, 9})}, "names the device"},
	} {
		h, err := hardware.New(t.Context(), hardware.Config{}, hardware.Material{Chain: c.chain}, nil, nil)
		must(t, err)
		_, err = h.Attester(identity(ueid), signer(t, key), time.Now, rand.Reader)
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
		must(t, h.Close())
	}
}

// fakeChip is an AMD processor as far as the agent's side can tell.
type fakeChip struct{ broken error }

func (fakeChip) MediaType() string { return bound.SEVSNPReport }

func (f fakeChip) Report(_ context.Context, b bound.Binding) ([]byte, error) {
	report := make([]byte, 1184)
	copy(report[0x50:], b[:])
	copy(report[0x1a0:], bytes.Repeat([]byte{0xc5}, 64))
	return report, f.broken
}

// TestProcessorBehindAWall: the reports come through a relay, as in a confined process.
func TestProcessorBehindAWall(t *testing.T) {
	outside, inside := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- tsm.Serve(context.Background(), outside, fakeChip{}) }()
	relay, err := tsm.NewRelay(inside)
	must(t, err)
	h, err := hardware.New(t.Context(), hardware.Config{Formats: []string{"tsm", "eat"}}, hardware.Material{}, nil, relay)
	must(t, err)
	if want := tsm.ChipUEID(bytes.Repeat([]byte{0xc5}, 64)); !bytes.Equal(h.UEID(), want) {
		t.Errorf("UEID %x, want %x", h.UEID(), want)
	}
	if _, err := h.Attester(identity([]byte{1, 2, 3, 4, 5, 6, 7, 8}), signer(t, newKey(t)), time.Now, rand.Reader); err == nil {
		t.Error("a TEE that was made for another device attests by this hardware")
	}
	a, err := h.Attester(identity(h.UEID()), signer(t, newKey(t)), time.Now, rand.Reader)
	must(t, err)
	if got, want := a.MediaTypes(), []string{bound.MediaType, bound.SEVSNPReport, eat.MediaType}; !slices.Equal(got, want) {
		t.Errorf("offers %q, want %q", got, want)
	}
	agent := newKey(t).Public()
	for asked, want := range map[string]string{"": bound.MediaType, bound.SEVSNPReport: bound.MediaType, eat.MediaType: eat.MediaType} {
		e, err := a.Attest(t.Context(), asked, attest.Request{Nonce: make([]byte, 32), AgentKey: agent})
		if err != nil || e.MediaType != want {
			t.Errorf("asked for %q: %q, %v", asked, e.MediaType, err)
		}
	}
	if e, err := a.Attest(t.Context(), bound.TDXQuote, attest.Request{Nonce: make([]byte, 32), AgentKey: agent}); !errors.Is(err, attest.ErrUnknownType) {
		t.Errorf("%+v, %v", e, err)
	}
	must(t, inside.Close())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// socket manufactures a TPM and returns the socket of its emulator.
func socket(t testing.TB) string {
	t.Helper()
	tpmtest.Require(t)
	dir, err := os.MkdirTemp("", "tpm") // short: the names of sockets are bounded
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	maker, err := tpmtest.NewMaker(dir)
	must(t, err)
	return maker.ManufactureSocket(t)
}

// TestTPMByItsFile: a TPM that is known by its open file attests, and what it is endorsed with
// where it stands is what a verifier accepts.
func TestTPMByItsFile(t *testing.T) {
	c := hardware.Config{Formats: []string{"tpm", "eat"}, TPM: hardware.TPMConfig{Device: socket(t), PCRs: []int{0, 9}}}
	must(t, c.Check())
	o, err := c.Open()
	must(t, err)
	defer o.Close()
	h, err := hardware.New(t.Context(), c, o.Material, o.TPM, nil)
	must(t, err)
	defer h.Close()
	again, err := tpm.ReadUEID(tpm.Stream(o.TPM))
	if err != nil || !bytes.Equal(again, h.UEID()) || len(again) != 33 {
		t.Errorf("UEID %x, then %x, %v", h.UEID(), again, err)
	}
	tee := newKey(t)
	known, err := h.Collateral("Maker", class, h.UEID(), tee.Public(), time.Now().Add(time.Hour))
	must(t, err)
	if len(known.Endorsements) != 2 || len(known.References) != 2 {
		t.Fatalf("%+v", known)
	}
	known.References = append(known.References, appraisal.Reference{Class: class, Name: "teep-agent", Algorithm: cose.AlgSHA256,
		Digest: identity(nil).Measurement, Status: attest.StatusAffirming})
	store, err := appraisal.NewStore(known)
	must(t, err)
	verifier, err := builtin.New(builtin.Config{Collateral: store, Signer: signer(t, newKey(t)), Developer: "tester", Build: "1", PCRs: []int{0, 9}})
	must(t, err)
	a, err := h.Attester(identity(h.UEID()), signer(t, tee), time.Now, rand.Reader)
	must(t, err)
	agent := newKey(t).Public()
	for _, asked := range a.MediaTypes() {
		nonce := []byte("a challenge " + asked[:12])
		e, err := a.Attest(t.Context(), asked, attest.Request{Nonce: nonce, AgentKey: agent})
		must(t, err)
		r, err := verifier.Appraise(t.Context(), e, attest.Expectation{Nonce: nonce, AgentKey: agent})
		if err != nil || r.Status != attest.StatusAffirming {
			t.Errorf("%s: %+v, %v", asked, r, err)
		}
		if _, err := verifier.Appraise(t.Context(), e, attest.Expectation{Nonce: []byte("another challenge"), AgentKey: agent}); !errors.Is(err, attest.ErrNotFresh) {
			t.Errorf("%s: %v", asked, err)
		}
	}
	// The certificate of another key is not taken for the TPM's.
	foreign := hardware.Material{AKChain: [][]byte{certify(t, newKey(t), h.UEID())}}
	if other, err := hardware.New(t.Context(), c, foreign, o.TPM, nil); err == nil {
		t.Error("a certificate of another key was taken")
		must(t, other.Close())
	}
	own := filepath.Join(t.TempDir(), "ak.pem")
	must(t, os.WriteFile(own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certify(t, h.Quoter().Key(), again)}), 0o600))
	c.TPM.CertificateChain = own
	certifiedOnes, err := c.Open()
	if err == nil { // the emulator serves one connection at a time, and the first is ours
		must(t, certifiedOnes.Close())
	}
	certified, err := hardware.New(t.Context(), c, certifiedOnes.Material, o.TPM, nil)
	must(t, err)
	if !bytes.Equal(certified.UEID(), again) {
		t.Errorf("UEID %x of the certificate, %x of the TPM", certified.UEID(), again)
	}
	must(t, certified.Close())
}
