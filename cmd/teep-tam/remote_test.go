package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/veraison"
	"github.com/go-teep/teep/cose"
)

// echoChip reports nothing but the binding: its verifier is elsewhere.
type echoChip struct{}

func (echoChip) MediaType() string { return bound.SEVSNPReport }

func (echoChip) Report(_ context.Context, b bound.Binding) ([]byte, error) { return b[:], nil }

// remoteServer is a verifier with the challenge-response API over TLS, which signs what it says with key.
func remoteServer(t *testing.T, ueid []byte, key func() *cose.Key) *httptest.Server {
	t.Helper()
	const sessionType = "application/vnd.veraison.challenge-response-session+json"
	var nonce []byte
	answer := func(w http.ResponseWriter, code int, session map[string]any) {
		w.Header().Set("Content-Type", sessionType)
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(session); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /challenge-response/v1/newSession", func(w http.ResponseWriter, r *http.Request) {
		nonce, _ = base64.URLEncoding.DecodeString(r.URL.Query().Get("nonce"))
		w.Header().Set("Location", "session/1")
		answer(w, http.StatusCreated, map[string]any{"nonce": nonce, "status": "waiting"})
	})
	mux.HandleFunc("POST /challenge-response/v1/session/1", func(w http.ResponseWriter, r *http.Request) {
		report, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/vnd.example.report" || !bytes.Equal(report, nonce) {
			t.Errorf("asked about %x as %q", report, r.Header.Get("Content-Type"))
		}
		payload, err := json.Marshal(map[string]any{
			"eat_profile": "tag:ietf.org,2026:rats/ear#03", "iat": time.Now().Unix(), "eat_nonce": base64.RawURLEncoding.EncodeToString(nonce),
			"submods": map[string]any{"CPU": map[string]any{"ear_status": "affirming", "ueid": base64.RawURLEncoding.EncodeToString(ueid), "ear_trustworthiness_vector": map[string]int{"hardware": 2}}},
		})
		if err != nil {
			t.Error(err)
		}
		private, err := key().CryptoPrivate()
		if err != nil {
			t.Error(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		jws, err := signer.Sign(payload)
		if err != nil {
			t.Error(err)
			return
		}
		token, err := jws.CompactSerialize()
		if err != nil {
			t.Error(err)
		}
		answer(w, http.StatusOK, map[string]any{"nonce": nonce, "status": "complete", "result": token})
	})
	mux.HandleFunc("DELETE /challenge-response/v1/session/1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := httptest.NewTLSServer(mux)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

// TestRemoteVerifier: tam.yaml leads to a verifier elsewhere, whose results count when they are signed
// with the configured key, and come over TLS from the configured authority.
func TestRemoteVerifier(t *testing.T) {
	ueid := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	ear, agent, signing := newKey(t), newKey(t), newKey(t)
	server := remoteServer(t, ueid, func() *cose.Key { return signing })
	amd := []byte{0x19, 0x0e, 0x78}
	class := appraisal.Class{OEMID: amd, HWModel: []byte("Milan")}
	known, err := (&appraisal.Collateral{Owner: "Operator", Expires: time.Now().Add(time.Hour),
		References: []appraisal.Reference{{Class: class, Name: "teep-agent", Algorithm: cose.AlgSHA256, Digest: make([]byte, 32), Status: attest.StatusAffirming}}}).YAML()
	if err != nil {
		t.Fatal(err)
	}
	attester, err := bound.NewAttester(eat.Identity{UEID: ueid, OEMID: amd, HWModel: class.HWModel, HWVersion: "1", AgentName: "teep-agent", Measurement: make([]byte, 32)}, echoChip{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("a challenge of the TAM")
	e, err := attester.Attest(t.Context(), "", attest.Request{Nonce: nonce, AgentKey: agent.Public()})
	if err != nil {
		t.Fatal(err)
	}
	appraise := func(ca []byte) (*attest.Result, error) {
		path := made(t, "verifier:", fmt.Sprintf("verifier:\n  formats: [sev-snp]\n  remote: [{url: %q, owner: Remote, keys: [ear.pem], ca: ca.pem, format: sev-snp, their-type: application/vnd.example.report, oemid: 'pen:3704'}]", server.URL))
		dir := filepath.Dir(path)
		write(t, filepath.Join(dir, "collateral.yaml"), known)
		write(t, filepath.Join(dir, "ear.pem"), pemOf(t, ear.Public()))
		write(t, filepath.Join(dir, "ca.pem"), ca)
		c, err := load(path)
		if err != nil {
			t.Fatal(err)
		}
		files, err := openCollateral(&c.Verifier, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.newVerifier(files)
		if err != nil {
			t.Fatal(err)
		}
		return v.Appraise(t.Context(), e, attest.Expectation{Nonce: nonce, AgentKey: agent.Public()})
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	signing = ear
	if r, err := appraise(ca); err != nil || r.Status != attest.StatusAffirming || len(r.Token) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	signing = newKey(t)
	if r, err := appraise(ca); !errors.Is(err, attest.ErrSignature) || r != nil {
		t.Errorf("signed with another key: %+v, %v", r, err)
	}
	signing = ear
	if r, err := appraise(otherAuthority(t)); !errors.Is(err, veraison.ErrRemote) || r != nil {
		t.Errorf("TLS of another authority: %+v, %v", r, err)
	}
}

// otherAuthority is a certificate that vouches for nobody here.
func otherAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
