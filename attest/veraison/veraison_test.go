package veraison_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/veraison"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/transport/challengeresponse"
)

const reportType = "application/vnd.example.chip"

var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

var ueid = append([]byte{1}, bytes.Repeat([]byte{7}, 16)...)

// chip "reports" the binding in the clear: only the remote verifier of the test can judge it.
type chip struct{}

func (chip) MediaType() string                                         { return reportType }
func (chip) Report(_ context.Context, b bound.Binding) ([]byte, error) { return b[:], nil }

// server is a remote verifier that can be made to lie in each thing it says.
type server struct {
	*httptest.Server
	key     *cose.Key
	signKey *cose.Key // differs where it lies
	alg     jose.SignatureAlgorithm
	claims  func(map[string]any) // before signing
	token   func(string) string
	session func(map[string]any)
	header  func(http.Header)
	status  map[string]int // by method and kind
	pending int32
	ended   atomic.Int32
	nonce   []byte
}

func newServer(t testing.TB) *server {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{key: k, signKey: k, alg: jose.ES256, status: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/challenge-response/v1/newSession", func(w http.ResponseWriter, r *http.Request) {
		s.nonce, err = base64.URLEncoding.DecodeString(r.URL.Query().Get("nonce"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", "session/42")
		s.answer(w, "new", http.StatusCreated, map[string]any{"nonce": s.nonce, "status": "waiting", "accept": []string{reportType}})
	})
	mux.HandleFunc("POST /api/challenge-response/v1/session/42", func(w http.ResponseWriter, r *http.Request) {
		report, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != reportType || !bytes.Equal(report, s.nonce) {
			s.answer(w, "evidence", http.StatusOK, map[string]any{"nonce": s.nonce, "status": "failed"})
			return
		}
		s.result(t, w, "evidence")
	})
	mux.HandleFunc("GET /api/challenge-response/v1/session/42", func(w http.ResponseWriter, _ *http.Request) { s.result(t, w, "poll") })
	mux.HandleFunc("DELETE /api/challenge-response/v1/session/42", func(w http.ResponseWriter, _ *http.Request) { s.ended.Add(1); w.WriteHeader(http.StatusNoContent) })
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) result(t testing.TB, w http.ResponseWriter, kind string) {
	if s.pending > 0 {
		s.pending--
		s.answer(w, kind, http.StatusAccepted-map[bool]int{true: 2}[kind == "poll"], map[string]any{"nonce": s.nonce, "status": "processing"})
		return
	}
	s.answer(w, kind, http.StatusOK, map[string]any{"nonce": s.nonce, "status": "complete", "result": s.ear(t)})
}

func (s *server) answer(w http.ResponseWriter, kind string, code int, session map[string]any) {
	w.Header().Set("Content-Type", "application/vnd.veraison.challenge-response-session+json")
	if s.header != nil {
		s.header(w.Header())
	}
	if s.session != nil {
		s.session(session)
	}
	if c := s.status[kind]; c != 0 {
		code = c
	}
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(session); err != nil {
		panic(err)
	}
}

func (s *server) ear(t testing.TB) string {
	claims := map[string]any{
		"eat_profile": "tag:ietf.org,2026:rats/ear#03", "iat": testNow.Unix(), "exp": testNow.Add(time.Hour).Unix(),
		"eat_nonce": base64.RawURLEncoding.EncodeToString(s.nonce), "ear_verifier_id": map[string]string{"developer": "x", "build": "1"},
		"submods": map[string]any{"CHIP": map[string]any{"ear_status": "affirming", "ueid": base64.RawURLEncoding.EncodeToString(ueid),
			"ear_trustworthiness_vector": map[string]int{"instance-identity": 2, "hardware": 2, "executables": 3}}},
	}
	if s.claims != nil {
		s.claims(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Error(err)
	}
	var private any
	if private, err = s.signKey.CryptoPrivate(); err != nil {
		t.Error(err)
	}
	if s.alg == jose.HS256 {
		private = []byte("0123456789abcdef0123456789abcdef")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: private}, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Error(err)
		return ""
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Error(err)
	}
	if s.token != nil {
		token = s.token(token)
	}
	return token
}

func (s *server) config(t testing.TB) veraison.Config {
	t.Helper()
	u, err := url.Parse(s.URL + "/api")
	if err != nil {
		t.Fatal(err)
	}
	return veraison.Config{Endpoint: u, Client: s.Client(), Owner: "Remote", Keys: []*cose.Key{s.key.Public()}, MediaType: reportType, Class: class(t), Poll: time.Millisecond}
}

func class(t testing.TB) appraisal.Class {
	t.Helper()
	oemid, err := attest.ParseOEMID("pen:64242")
	if err != nil {
		t.Fatal(err)
	}
	return appraisal.Class{OEMID: oemid, HWModel: []byte{1}}
}

func (s *server) bench(t testing.TB) *boundtest.Bench {
	t.Helper()
	return boundtest.New(t, boundtest.Device{UEID: ueid, Class: class(t), Reporter: chip{}, Now: testNow, Unbound: attest.ErrUntrusted,
		Reports: func(*appraisal.Store) (bound.Reports, error) { return veraison.New(s.config(t)) }})
}

// TestBehaves: a server that does what it should, at once or after a while, in both spellings.
func TestBehaves(t *testing.T) {
	s := newServer(t)
	s.bench(t).Bindings()
	s.pending = 3
	boundtest.Says(t, s.bench(t).Result(), attest.StatusAffirming, "CHIP hardware", attest.StatusAffirming, "Remote")
	s.claims = func(c map[string]any) {
		c["eat_profile"] = "tag:github.com,2023:veraison/ear"
		c["submods"] = map[string]any{"CHIP": map[string]any{"ear.status": "affirming", "ueid": base64.StdEncoding.EncodeToString(ueid),
			"ear.trustworthiness-vector": map[string]int{"hardware": 2}}}
	}
	boundtest.Says(t, s.bench(t).Result(), attest.StatusAffirming, "CHIP", attest.StatusAffirming, "Remote")
	if s.ended.Load() == 0 {
		t.Error("no session was given back")
	}
}

func chipOf(c map[string]any) map[string]any {
	return c["submods"].(map[string]any)["CHIP"].(map[string]any)
}

// TestVerdicts: what the remote verifier does not affirm is not affirmed here.
func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		claims func(map[string]any)
		want   attest.Status
	}{
		"contraindicated":     {func(c map[string]any) { chipOf(c)["ear_status"] = "contraindicated" }, attest.StatusContraindicated},
		"warning by number":   {func(c map[string]any) { chipOf(c)["ear_status"] = 32 }, attest.StatusWarning},
		"no verdict":          {func(c map[string]any) { chipOf(c)["ear_status"] = "none" }, attest.StatusContraindicated},
		"vector is worse":     {func(c map[string]any) { chipOf(c)["ear_trustworthiness_vector"] = map[string]int{"executables": 99} }, attest.StatusContraindicated},
		"as a whole is worse": {func(c map[string]any) { c["ear_status"] = "warning" }, attest.StatusWarning},
		"another attester is": {func(c map[string]any) { c["submods"].(map[string]any)["GPU"] = map[string]any{"ear_status": "warning"} }, attest.StatusWarning},
	} {
		s := newServer(t)
		s.claims = c.claims
		if r := s.bench(t).Result(); r.Status != c.want {
			t.Errorf("%s: %v", name, r.Status)
		}
	}
}

// TestLies: a server that lies in each thing it says, and what is made of it.
func TestLies(t *testing.T) {
	other, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	set := func(key string, value any) func(*server) {
		return func(s *server) { s.claims = func(c map[string]any) { c[key] = value } }
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, c := range map[string]struct {
		lie  func(*server)
		want error
	}{
		"signed with another key":  {func(s *server) { s.signKey = other }, attest.ErrSignature},
		"signed with a shared key": {func(s *server) { s.alg = jose.HS256 }, attest.ErrSignature},
		"not signed": {func(s *server) {
			s.token = func(t string) string { return none + "." + strings.Split(t, ".")[1] + "." }
		}, attest.ErrSignature},
		"signature cut": {func(s *server) { s.token = func(t string) string { return t[:len(t)-2] } }, attest.ErrSignature},
		"payload changed": {func(s *server) {
			s.token = func(t string) string {
				p := strings.Split(t, ".")
				return p[0] + "." + p[1][:8] + "A" + p[1][9:] + "." + p[2]
			}
		}, attest.ErrSignature},
		"no result":         {func(s *server) { s.token = func(string) string { return "" } }, attest.ErrSignature},
		"for another nonce": {set("eat_nonce", base64.RawURLEncoding.EncodeToString(make([]byte, 64))), attest.ErrKeyBinding},
		"an answer of yesterday, replayed": {func(s *server) {
			nonce := s.nonce
			s.nonce = make([]byte, 64)
			earlier := s.ear(t)
			s.nonce, s.token = nonce, func(string) string { return earlier }
		}, attest.ErrKeyBinding},
		"for no nonce":      {func(s *server) { s.claims = func(c map[string]any) { delete(c, "eat_nonce") } }, attest.ErrKeyBinding},
		"for a short nonce": {func(s *server) { s.claims = func(c map[string]any) { c["eat_nonce"] = c["eat_nonce"].(string)[:16] } }, attest.ErrKeyBinding},
		"of another device": {func(s *server) {
			s.claims = func(c map[string]any) { chipOf(c)["ueid"] = base64.RawURLEncoding.EncodeToString([]byte("1234567")) }
		}, attest.ErrUntrusted},
		"of no device": {func(s *server) { s.claims = func(c map[string]any) { delete(chipOf(c), "ueid") } }, attest.ErrUntrusted},
		"of two devices": {func(s *server) {
			s.claims = func(c map[string]any) { m := c["submods"].(map[string]any); m["B"] = maps.Clone(chipOf(c)) }
		}, attest.ErrUntrusted},
		"issued long ago":      {set("iat", testNow.Add(-time.Hour).Unix()), attest.ErrNotFresh},
		"issued in the future": {set("iat", testNow.Add(time.Hour).Unix()), attest.ErrNotFresh},
		"never issued":         {set("iat", 0), attest.ErrNotFresh},
		"expired":              {set("exp", testNow.Add(-time.Hour).Unix()), attest.ErrNotFresh},
		"expires in part":      {set("exp", 1.5), attest.ErrFormat},
		"another profile":      {set("eat_profile", "tag:example.com,2026:x"), attest.ErrFormat},
		"no appraisal":         {set("submods", map[string]any{}), attest.ErrFormat},
		"no status":            {func(s *server) { s.claims = func(c map[string]any) { delete(chipOf(c), "ear_status") } }, attest.ErrFormat},
		"unknown status":       {func(s *server) { s.claims = func(c map[string]any) { chipOf(c)["ear_status"] = "great" } }, attest.ErrFormat},
		"status out of range":  {func(s *server) { s.claims = func(c map[string]any) { chipOf(c)["ear_status"] = 300 } }, attest.ErrFormat},
		"vector out of range": {func(s *server) {
			s.claims = func(c map[string]any) { chipOf(c)["ear_trustworthiness_vector"] = map[string]int{"hardware": 1000} }
		}, attest.ErrFormat},
		"session of another nonce": {func(s *server) { s.session = func(m map[string]any) { m["nonce"] = []byte("12345678") } }, veraison.ErrRemote},
		"session on another server": {func(s *server) {
			s.header = func(h http.Header) { h.Set("Location", "https://example.com/session/42") }
		}, veraison.ErrRemote},
		"session nowhere":      {func(s *server) { s.header = func(h http.Header) { h.Del("Location") } }, veraison.ErrRemote},
		"takes other Evidence": {func(s *server) { s.session = func(m map[string]any) { m["accept"] = []string{"application/x"} } }, veraison.ErrRemote},
		"refuses the session":  {func(s *server) { s.status["new"] = http.StatusForbidden }, veraison.ErrRemote},
		"redirects":            {func(s *server) { s.status["new"] = http.StatusTemporaryRedirect }, veraison.ErrRemote},
		"breaks down":          {func(s *server) { s.status["evidence"] = http.StatusInternalServerError }, veraison.ErrRemote},
		"says it failed":       {func(s *server) { s.session = func(m map[string]any) { m["status"] = "failed" } }, attest.ErrUntrusted},
		"says something else":  {func(s *server) { s.session = func(m map[string]any) { m["status"] = "fine" } }, veraison.ErrRemote},
		"never ends":           {func(s *server) { s.pending = 1 << 30 }, veraison.ErrRemote},
		"answers HTML":         {func(s *server) { s.header = func(h http.Header) { h.Set("Content-Type", "text/html") } }, veraison.ErrRemote},
		"answers without end": {func(s *server) {
			s.session = func(m map[string]any) { m["x"] = strings.Repeat("x", challengeresponse.MaxAnswerBytes) }
		}, veraison.ErrRemote},
		"is gone": {func(s *server) { s.Close() }, veraison.ErrRemote},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			b := s.bench(t)
			c.lie(s)
			b.Refused(name, b.Evidence(), c.want)
		})
	}
}

func TestConfiguration(t *testing.T) {
	s := newServer(t)
	rsa := func(c *veraison.Config) { c.Keys = []*cose.Key{cose.NewSymmetricKey(make([]byte, 32))} }
	for name, change := range map[string]func(*veraison.Config){
		"no endpoint":    func(c *veraison.Config) { c.Endpoint = nil },
		"no client":      func(c *veraison.Config) { c.Client = nil },
		"no keys":        func(c *veraison.Config) { c.Keys = nil },
		"no name":        func(c *veraison.Config) { c.Owner = "" },
		"no vendor":      func(c *veraison.Config) { c.Class = appraisal.Class{} },
		"no media type":  func(c *veraison.Config) { c.MediaType = "" },
		"shared key":     rsa,
		"not encrypted":  func(c *veraison.Config) { c.Endpoint = &url.URL{Scheme: "http", Host: "verifier.example.com"} },
		"another scheme": func(c *veraison.Config) { c.Endpoint = &url.URL{Scheme: "file", Host: "localhost"} },
	} {
		c := s.config(t)
		change(&c)
		if v, err := veraison.New(c); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	s.pending = 1 << 30
	c := s.config(t)
	c.Poll = time.Hour
	v, err := veraison.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	b := bound.Bind(nil)
	if r, err := v.Read(ctx, b[:], bound.Beside{Binding: b, Now: testNow}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", r, err)
	}
}

// FuzzResult: what a server answers is refused, or was signed.
func FuzzResult(f *testing.F) {
	s := newServer(f)
	s.nonce = make([]byte, bound.BindingSize)
	f.Add(s.ear(f))
	f.Add("a.b.c")
	c := s.config(f)
	c.Client = &http.Client{Transport: answering(func(token string) map[string]any {
		return map[string]any{"nonce": s.nonce, "status": "complete", "result": token}
	})}
	v, err := veraison.New(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		ctx := context.WithValue(context.Background(), answerKey{}, token)
		if r, err := v.Read(ctx, nil, bound.Beside{Now: testNow}); err == nil && strings.Count(token, ".") != 2 {
			t.Fatal(r)
		}
	})
}

// answerKey is where a request carries the token that it is answered with.
type answerKey struct{}

// answering is a server without a socket.
type answering func(token string) map[string]any

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/vnd.veraison.challenge-response-session+json")
	w.Header().Set("Location", "session/42")
	if strings.HasSuffix(r.URL.Path, "newSession") {
		w.WriteHeader(http.StatusCreated)
	}
	token, ok := r.Context().Value(answerKey{}).(string)
	if !ok {
		return nil, errors.New("no token")
	}
	if err := json.NewEncoder(w).Encode(a(token)); err != nil {
		return nil, err
	}
	return w.Result(), nil
}
