package api

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// detached is an envelope whose payload lies at uri, and is what matches digest.
func (s *service) detached(sequence uint64, uri string, digest suit.Digest) []byte {
	s.t.Helper()
	var shared, install suit.Parameters
	shared.SetDigest(digest)
	install.SetURI(uri)
	var b suit.Builder
	b.Manifest.SequenceNumber = sequence
	b.Manifest.ComponentID = suit.NewComponentID("acme", "app", "suit")
	b.Manifest.Common.Components = []suit.ComponentID{suit.NewComponentID("acme", "app")}
	b.Manifest.Common.SharedSequence.Commands = suit.Sequence{suit.OverrideParameters(shared)}
	b.Manifest.Install.Commands = suit.Sequence{suit.OverrideParameters(install), suit.Directive(suit.DirFetch, 0)}
	e, err := b.Build()
	must(s.t, err)
	signer, err := s.author.Signer()
	must(s.t, err)
	must(s.t, e.Sign(rand.Reader, signer))
	return e.Encode()
}

func uriOf(payload string) string {
	sum := sha256.Sum256([]byte(payload))
	return payloadURI + "/" + hex.EncodeToString(sum[:])
}

func TestPayloadIsUploadedAndPublished(t *testing.T) {
	s := newService(t)
	s.addAuthor("acme", s.author)
	c, payload := s.client(ScopePublisher), "code of the application"
	stored, err := c.UploadPayload(t.Context(), strings.NewReader(payload), int64(len(payload)), sha256.Sum256([]byte(payload)))
	must(t, err)
	if stored.URI != uriOf(payload) || stored.Size != int64(len(payload)) || !strings.HasSuffix(stored.URI, "/"+stored.SHA256) {
		t.Fatalf("%+v", stored)
	}
	again, err := c.UploadPayload(t.Context(), strings.NewReader(payload), int64(len(payload)), sha256.Sum256([]byte(payload)))
	if err != nil || *again != *stored {
		t.Fatalf("uploading it again: %+v, %v", again, err)
	}
	_, err = c.Publish(t.Context(), s.detached(1, stored.URI, suit.NewDigest([]byte(payload))))
	must(t, err)
	longer, err := suit.NewDigestWith(cose.AlgSHA512, []byte(payload))
	must(t, err)
	_, err = c.Publish(t.Context(), s.detached(2, stored.URI, longer))
	must(t, err)
	// What lies elsewhere is not the TAM's to check.
	_, err = c.Publish(t.Context(), s.detached(3, "https://elsewhere.example/code", suit.NewDigest([]byte(payload))))
	must(t, err)
}

// TestPublishedPayloadsAreChecked: no version is offered whose payload this TAM would not serve, or whose
// payload no device would take.
func TestPublishedPayloadsAreChecked(t *testing.T) {
	s := newService(t)
	s.addAuthor("acme", s.author)
	c := s.client(ScopePublisher)
	_, err := c.UploadPayload(t.Context(), strings.NewReader("code"), 4, sha256.Sum256([]byte("code")))
	must(t, err)
	wrong, err := suit.NewDigestWith(cose.AlgSHA384, []byte("other"))
	must(t, err)
	for name, x := range map[string]struct {
		uri    string
		digest suit.Digest
		code   string
	}{
		"not uploaded":           {uriOf("other"), suit.NewDigest([]byte("other")), "envelope"},
		"another payload":        {uriOf("code"), suit.NewDigest([]byte("other")), "tampered"},
		"another, by SHA-384":    {uriOf("code"), wrong, "tampered"},
		"no name":                {payloadURI + "/", suit.NewDigest([]byte("code")), "envelope"},
		"a file name":            {payloadURI + "/code.wasm", suit.NewDigest([]byte("code")), "envelope"},
		"the name in upper case": {payloadURI + "/" + strings.ToUpper(strings.TrimPrefix(uriOf("code"), payloadURI+"/")), suit.NewDigest([]byte("code")), "envelope"},
		"more behind the name":   {uriOf("code") + "?x", suit.NewDigest([]byte("code")), "envelope"},
	} {
		_, err := c.Publish(t.Context(), s.detached(1, x.uri, x.digest))
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity || p.Code != x.code {
			t.Errorf("%s: got %v, want %s", name, err, x.code)
		}
	}
}

func TestUploadsAreRefused(t *testing.T) {
	s := newService(t)
	auth := "Bearer " + s.token(ScopePublisher)
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	}
	for name, x := range map[string]struct {
		media, digest, body string
		status              int
		code                string
	}{
		"no media type":         {"", "", "code", 415, "media-type"},
		"another media type":    {"application/json", "", "{}", 415, "media-type"},
		"empty":                 {payloadMediaType, "", "", 400, "empty"},
		"too large":             {payloadMediaType, "", strings.Repeat("x", 1<<20+1), 413, "too-large"},
		"of another digest":     {payloadMediaType, digest("other"), "code", 400, "content-digest"},
		"of several digests":    {payloadMediaType, "sha-512=:AAAA:, " + digest("other"), "code", 400, "content-digest"},
		"digest not in colons":  {payloadMediaType, "sha-256=AAAA", "code", 400, "content-digest"},
		"digest too short":      {payloadMediaType, "sha-256=:AAAA:", "code", 400, "content-digest"},
		"digest of no encoding": {payloadMediaType, "sha-256=:!:", "code", 400, "content-digest"},
	} {
		header := http.Header{}
		if x.media != "" {
			header.Set("Content-Type", x.media)
		}
		if x.digest != "" {
			header.Set(contentDigest, x.digest)
		}
		status, p := s.request("POST", "/v1/payloads", auth, header, x.body)
		if status != x.status || p.Code != x.code || p.Next == "" {
			t.Errorf("%s: %d %+v", name, status, p)
		}
		if _, err := s.config.Payloads.Open(t.Context(), sha256.Sum256([]byte(x.body))); !errors.Is(err, tam.ErrNotFound) {
			t.Errorf("%s: it was stored: %v", name, err)
		}
	}
	// Without a length the limit is found while reading.
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.server.URL+"/v1/payloads", io.MultiReader(bytes.NewReader(make([]byte, 1<<20+1))))
	must(t, err)
	req.ContentLength = -1
	req.Header = http.Header{"Authorization": {auth}, "Content-Type": {payloadMediaType}}
	res, err := s.server.Client().Do(req)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("without a length: %d", res.StatusCode)
	}
}

// TestBrokenOffUploadIsNotStored: the part that arrived is a payload of its own digest, and nobody's.
func TestBrokenOffUploadIsNotStored(t *testing.T) {
	s := newService(t)
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	must(t, err)
	_, err = fmt.Fprintf(conn, "POST /v1/payloads HTTP/1.1\r\nHost: tam\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nhalf",
		s.token(ScopePublisher), payloadMediaType)
	must(t, err)
	must(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	must(t, err)
	if !bytes.Contains(answer, []byte("400 Bad Request")) || !bytes.Contains(answer, []byte("broke off")) {
		t.Errorf("answered %s", answer)
	}
	if _, err := s.config.Payloads.Open(t.Context(), sha256.Sum256([]byte("half"))); !errors.Is(err, tam.ErrNotFound) {
		t.Errorf("the half was stored: %v", err)
	}
}

func TestTAMWithoutPayloadsSaysSo(t *testing.T) {
	s := newService(t)
	s.config.Payloads = nil
	h, err := NewHandler(s.config)
	must(t, err)
	s.server = httptest.NewServer(h)
	defer s.server.Close()
	_, err = s.client(ScopePublisher).UploadPayload(t.Context(), strings.NewReader("code"), 4, sha256.Sum256([]byte("code")))
	wantProblem(t, err, http.StatusNotImplemented, "no-payloads")
}
