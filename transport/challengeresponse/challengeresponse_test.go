package challengeresponse_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/transport/challengeresponse"
)

const evidenceType = `application/eat+cwt; eat_profile="x"`

// verifier appraises what is "good".
type verifier struct {
	wait chan struct{}
}

func (verifier) Types() []string { return []string{evidenceType, "x/other"} }

func (v verifier) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (challengeresponse.Result, error) {
	if v.wait != nil {
		select {
		case <-v.wait:
		case <-ctx.Done():
			return challengeresponse.Result{}, ctx.Err()
		}
	}
	if string(evidence) != "good" {
		return challengeresponse.Result{}, errors.New("bad, for a secret reason")
	}
	return challengeresponse.Result{MediaType: "result of " + mediaType, Data: append([]byte("signed "), nonce...)}, nil
}

func serve(t testing.TB, h http.Handler) (*challengeresponse.Client, *httptest.Server) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := challengeresponse.NewClient(u, s.Client(), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestBothEnds(t *testing.T) {
	c, _ := serve(t, challengeresponse.NewHandler(verifier{}, challengeresponse.HandlerOptions{MaxSessions: 1}))
	nonce := []byte("01234567\xff\xfe\xfd")
	for range 3 { // the client gives each session back, so that one place will do
		r, err := c.Appraise(t.Context(), evidenceType, []byte("good"), nonce)
		if err != nil || r.MediaType != "result of "+evidenceType || string(r.Data) != "signed "+string(nonce) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if r, err := c.Appraise(t.Context(), evidenceType, []byte("bad"), nonce); !errors.Is(err, challengeresponse.ErrFailed) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Appraise(t.Context(), "x/unknown", []byte("good"), nonce); !errors.Is(err, challengeresponse.ErrUnusable) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, size := range []int{0, 7, 65} {
		if r, err := c.Appraise(t.Context(), evidenceType, []byte("good"), make([]byte, size)); !errors.Is(err, challengeresponse.ErrUnusable) {
			t.Errorf("nonce of %d bytes: %+v, %v", size, r, err)
		}
	}
}

// post is a client that does as it likes.
func post(t *testing.T, method, u, contentType, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, u, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

func TestHandlerRefuses(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	_, s := serve(t, challengeresponse.NewHandler(verifier{}, challengeresponse.HandlerOptions{MaxSessions: 8, MaxEvidence: 8, Now: clock}))
	base := s.URL + "/challenge-response/v1/"
	begin := func() string {
		t.Helper()
		code, h, body := post(t, "POST", base+"newSession?nonceSize=32", "", "")
		var session struct {
			Nonce  []byte
			Expiry time.Time
			Accept []string
			Status string
		}
		if err := json.Unmarshal([]byte(body), &session); err != nil || code != http.StatusCreated || len(session.Nonce) != 32 ||
			!session.Expiry.After(clock()) || len(session.Accept) != 2 || session.Status != "waiting" {
			t.Fatalf("%d %s", code, body)
		}
		return base + h.Get("Location")
	}
	for name, c := range map[string]struct {
		method, url, contentType, body string
		want                           int
	}{
		"no nonce":         {"POST", base + "newSession", "", "", 400},
		"both":             {"POST", base + "newSession?nonce=MDEyMzQ1Njc&nonceSize=32", "", "", 400},
		"no base64":        {"POST", base + "newSession?nonce=%25%25", "", "", 400},
		"short nonce":      {"POST", base + "newSession?nonce=MDEy", "", "", 400},
		"long nonce":       {"POST", base + "newSession?nonce=" + strings.Repeat("A", 88), "", "", 400},
		"no number":        {"POST", base + "newSession?nonceSize=x", "", "", 400},
		"large number":     {"POST", base + "newSession?nonceSize=65", "", "", 400},
		"GET":              {"GET", base + "newSession?nonceSize=32", "", "", 405},
		"unknown session":  {"POST", base + "session/x", evidenceType, "good", 404},
		"unknown to GET":   {"GET", base + "session/x", "", "", 404},
		"no Evidence":      {"POST", begin(), evidenceType, "", 400},
		"no media type":    {"POST", begin(), "", "good", 415},
		"too large":        {"POST", begin(), evidenceType, "123456789", 413},
		"elsewhere":        {"POST", s.URL + "/", evidenceType, "good", 404},
		"DELETE of nobody": {"DELETE", base + "session/x", "", "", 204},
	} {
		if code, _, body := post(t, c.method, c.url, c.contentType, c.body); code != c.want {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	// One piece of Evidence in one session.
	u := begin()
	if code, _, body := post(t, "POST", u, evidenceType, "bad"); code != http.StatusOK || !strings.Contains(body, "failed") || strings.Contains(body, "secret") {
		t.Errorf("%d %s", code, body)
	}
	if code, _, _ := post(t, "POST", u, evidenceType, "good"); code != http.StatusConflict {
		t.Errorf("%d", code)
	}
	if code, _, body := post(t, "GET", u, "", ""); code != http.StatusOK || !strings.Contains(body, "failed") {
		t.Errorf("%d %s", code, body)
	}
	// Sessions are bounded, and end.
	for range 4 {
		begin()
	}
	code, h, _ := post(t, "POST", base+"newSession?nonceSize=32", "", "")
	if code != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("%d %v", code, h)
	}
	mu.Lock()
	now = now.Add(3 * time.Minute)
	mu.Unlock()
	if code, _, _ := post(t, "GET", u, "", ""); code != http.StatusNotFound {
		t.Errorf("%d", code)
	}
	begin()
}

func TestAppraisalsAreBounded(t *testing.T) {
	v := verifier{wait: make(chan struct{})}
	c, s := serve(t, challengeresponse.NewHandler(v, challengeresponse.HandlerOptions{MaxConcurrent: 1, Timeout: time.Minute}))
	first := make(chan error, 1)
	go func() {
		_, err := c.Appraise(context.Background(), evidenceType, []byte("good"), []byte("01234567"))
		first <- err
	}()
	base := s.URL + "/challenge-response/v1/"
	for {
		_, h, _ := post(t, "POST", base+"newSession?nonceSize=32", "", "")
		code, h, _ := post(t, "POST", base+h.Get("Location"), "", "good")
		if code == http.StatusServiceUnavailable && h.Get("Retry-After") != "" {
			break
		}
		if code != http.StatusUnsupportedMediaType {
			t.Fatalf("%d", code)
		}
	}
	close(v.wait)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestVerifierThatIsSlow: an appraisal that does not end is given up.
func TestVerifierThatIsSlow(t *testing.T) {
	v := verifier{wait: make(chan struct{})}
	c, _ := serve(t, challengeresponse.NewHandler(v, challengeresponse.HandlerOptions{Timeout: 10 * time.Millisecond}))
	if r, err := c.Appraise(t.Context(), evidenceType, []byte("good"), []byte("01234567")); !errors.Is(err, challengeresponse.ErrFailed) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestEndpoints(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://verifier.example/x": true, "http://127.0.0.1:1": true, "http://localhost": true,
		"http://verifier.example": false, "http://127.0.0.1.example": false, "file:///x": false, "https:///x": false, "": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := challengeresponse.NewClient(u, http.DefaultClient, 0); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := challengeresponse.NewClient(nil, http.DefaultClient, 0); err == nil {
		t.Error("no endpoint")
	}
}

// FuzzSession: whatever a server answers, the client ends with a result, or one of its errors.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		`{"nonce":"MDEyMzQ1Njc=","status":"complete","result":"a.b.c"}`,
		`{"nonce":"MDEyMzQ1Njc=","status":"complete","result":"AAAA","result-type":"x/y"}`,
		`{"nonce":"MDEyMzQ1Njc=","status":"complete","result":"A","result-type":"x/y"}`,
		`{"nonce":"MDEyMzQ1Njc=","status":"failed"}`, `{}`, `[]`, `{"nonce":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		u := &url.URL{Scheme: "https", Host: "verifier.example"}
		c, err := challengeresponse.NewClient(u, &http.Client{Transport: answering(answer)}, time.Nanosecond)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Appraise(context.Background(), evidenceType, []byte("x"), []byte("01234567"))
		switch {
		case err == nil && r.MediaType == "":
			t.Fatalf("%+v", r)
		case err != nil && !errors.Is(err, challengeresponse.ErrUnusable) && !errors.Is(err, challengeresponse.ErrFailed):
			t.Fatal(err)
		}
	})
}

// answering is a server without a socket.
type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", challengeresponse.SessionType)
	w.Header().Set("Location", "session/1")
	if strings.HasSuffix(r.URL.Path, "newSession") {
		nonce, err := base64.URLEncoding.DecodeString(r.URL.Query().Get("nonce"))
		if err != nil {
			return nil, err
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"nonce":%q,"status":"waiting"}`, base64.StdEncoding.EncodeToString(nonce))
		return w.Result(), nil
	}
	_, err := io.Copy(w, bytes.NewReader(a))
	return w.Result(), err
}
