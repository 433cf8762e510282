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
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	b.Manifest.Common.SharedSequence.Commands = forClass(shared)
	b.Manifest.Install.Commands = suit.Sequence{suit.OverrideParameters(install), suit.Directive(suit.DirFetch, 0), suit.Condition(suit.CondImageMatch, 0)}
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

// aged makes every stored payload older.
func (s *service) aged(by time.Duration) {
	s.t.Helper()
	then := time.Now().Add(-by)
	files, err := filepath.Glob(filepath.Join(s.payloadDir, "*"))
	must(s.t, err)
	for _, f := range files {
		must(s.t, os.Chtimes(f, then, then))
	}
}

func (s *service) upload(payload string) {
	s.t.Helper()
	_, err := s.client(ScopePublisher).UploadPayload(s.t.Context(), strings.NewReader(payload), int64(len(payload)), sha256.Sum256([]byte(payload)))
	must(s.t, err)
}

// stored are the payloads that are listed, and whether they are needed.
func (s *service) stored() map[string]bool {
	s.t.Helper()
	list, err := s.client(ScopeAuditor).PayloadList(s.t.Context(), "")
	must(s.t, err)
	needed := map[string]bool{}
	for _, p := range list.Items {
		needed[p.URI] = p.Needed
	}
	return needed
}

// TestPayloadsThatNobodyNeedsGo: what no version needs goes after a while, and nothing else does.
func TestPayloadsThatNobodyNeedsGo(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.now = time.Now() // payloads are as old as the clock of their store says
	s.addAuthor("acme", s.author)
	c := s.client(ScopePublisher)
	sweep := func(want int) {
		t.Helper()
		gone, err := s.core().SweepPayloads(ctx, time.Hour)
		if err != nil || gone != want {
			t.Errorf("%d payloads went, want %d: %v", gone, want, err)
		}
	}
	for _, payload := range []string{"kept", "withdrawn", "never published", "new"} {
		s.upload(payload)
	}
	sweep(0)
	for i, payload := range []string{"kept", "withdrawn"} {
		_, err := c.Publish(ctx, s.detached(uint64(i+1), uriOf(payload), suit.NewDigest([]byte(payload))))
		must(t, err)
	}
	s.aged(2 * time.Hour)
	s.upload("new") // again
	equalMaps(t, s.stored(), map[string]bool{uriOf("kept"): true, uriOf("withdrawn"): true, uriOf("never published"): false, uriOf("new"): false})
	sweep(1)
	must(t, s.client(ScopeOperator).Withdraw(ctx, appManifest, 2, "faulty"))
	sweep(0) // devices may be fetching it
	s.now = s.now.Add(90 * time.Minute)
	s.upload("new")
	equalMaps(t, s.stored(), map[string]bool{uriOf("kept"): true, uriOf("withdrawn"): false, uriOf("new"): false})
	must(t, os.Chtimes(filepath.Join(s.payloadDir, strings.TrimPrefix(uriOf("new"), payloadURI+"/")), s.now, s.now))
	sweep(1)
	equalMaps(t, s.stored(), map[string]bool{uriOf("kept"): true, uriOf("new"): false})
	// An envelope that cannot be read may need any of them.
	s.now = s.now.Add(48 * time.Hour)
	files, err := filepath.Glob(filepath.Join(s.blobDir, "*"))
	must(t, err)
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() {
			must(t, os.Remove(f))
		}
	}
	if gone, err := s.core().SweepPayloads(ctx, time.Hour); err == nil || gone != 0 {
		t.Errorf("without envelopes %d payloads went, %v", gone, err)
	}
}

func equalMaps(t *testing.T, got, want map[string]bool) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestPayloadsOfDependenciesStay: a payload that is an envelope itself needs what it names.
func TestPayloadsOfDependenciesStay(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.now = time.Now()
	s.addAuthor("acme", s.author)
	s.upload("inner")
	dependency := s.detached(7, uriOf("inner"), suit.NewDigest([]byte("inner")))
	s.upload(string(dependency))
	_, err := s.client(ScopePublisher).Publish(ctx, s.detached(1, uriOf(string(dependency)), suit.NewDigest(dependency)))
	must(t, err)
	s.aged(2 * time.Hour)
	if gone, err := s.core().SweepPayloads(ctx, time.Hour); err != nil || gone != 0 {
		t.Errorf("%d payloads went, %v", gone, err)
	}
}

// TestPayloadQuota: payloads take no more space than they may, and what goes makes room.
func TestPayloadQuota(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.config.Payloads = tam.NewPayloadQuota(s.config.Payloads, 10, func() time.Time { return s.now })
	h, err := NewHandler(s.config)
	must(t, err)
	s.server.Config.Handler = h
	upload := func(payload string, known bool) error {
		size := int64(len(payload))
		if !known {
			size = -1
		}
		_, err := s.client(ScopePublisher).UploadPayload(ctx, strings.NewReader(payload), size, sha256.Sum256([]byte(payload)))
		return err
	}
	must(t, upload("123456", true))
	for _, known := range []bool{true, false} {
		err := upload("1234567", known)
		wantProblem(t, err, http.StatusInsufficientStorage, "quota")
		if !strings.Contains(err.Error(), "6 of 10 bytes") {
			t.Errorf("%v", err)
		}
	}
	must(t, upload("7890", true)) // a refused one took no space
	wantProblem(t, upload("x", true), http.StatusInsufficientStorage, "quota")
	list, err := s.client(ScopeAuditor).PayloadList(ctx, "")
	must(t, err)
	if list.Used != 10 || list.Limit != 10 || len(list.Items) != 2 {
		t.Errorf("%+v", list)
	}
	must(t, s.config.Payloads.Delete(ctx, sha256.Sum256([]byte("7890")), time.Now().Add(time.Hour)))
	s.now = s.now.Add(2 * time.Minute) // it is counted again
	must(t, upload("x", true))
	left, err := filepath.Glob(filepath.Join(s.payloadDir, "*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}
