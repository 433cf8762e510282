package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/go-teep/teep/tam/identity/oidctest"
)

// services are those of others, which a TAM uses: an identity provider and a bucket. All scripts share them.
type services struct {
	provider *oidctest.Provider
	bucket   *httptest.Server
}

func startServices(t *testing.T) *services {
	t.Helper()
	s := &services{provider: oidctest.New(t)}
	s.provider.Claims = map[string]any{"sub": "e2e", "name": "End to End", "groups": []string{"tam-admins"}}
	backend := s3mem.New()
	must(t, backend.CreateBucket("teep"))
	s.bucket = httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(s.bucket.Close)
	return s
}

// setenv sets $ISSUER and $OIDC_SECRET, and $S3, which is the endpoint of a bucket called teep.
func (s *services) setenv(env *testscript.Env) {
	env.Setenv("ISSUER", s.provider.Issuer)
	env.Setenv("OIDC_SECRET", s.provider.ClientSecret)
	env.Setenv("S3", s.bucket.URL)
}

// logIn TAM: logs in to a console by the identity provider, and then once more with a code that is none.
func logIn(ts *testscript.TestScript, _ bool, args []string) {
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	visit := func(path string) (status int, at string) {
		res, err := client.Get(args[0] + path)
		ts.Check(err)
		ts.Check(res.Body.Close())
		return res.StatusCode, res.Request.URL.Path
	}
	if status, at := visit("/console/login/oidc"); status != http.StatusOK {
		ts.Fatalf("the login ended at %s with %d", at, status)
	}
	if _, at := visit("/console/"); at != "/console/" {
		ts.Fatalf("after the login, the console leads to %s", at)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Get(args[0] + "/console/login/oidc")
	ts.Check(err)
	ts.Check(res.Body.Close())
	to, err := res.Location()
	ts.Check(err)
	if status, _ := visit("/console/login/callback?code=none&state=" + url.QueryEscape(to.Query().Get("state"))); status < 400 {
		ts.Fatalf("a code that is none logs in: %d", status)
	}
}

// receiveTraces NAME OUT: receives spans by OTLP over HTTP and writes them into a file, as protocol buffers; $NAME is
// the URL.
func receiveTraces(ts *testscript.TestScript, _ bool, args []string) {
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	ln := listenLocally(ts)
	var mu sync.Mutex
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		unzipped, err := gzip.NewReader(r.Body)
		if err == nil {
			_, err = io.Copy(&body, io.LimitReader(unzipped, 8<<20))
		}
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			_, err = out.Write(body.Bytes())
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})}
	go func() { _ = server.Serve(ln) }()
	ts.Defer(func() { _ = server.Close(); _ = out.Close() })
	ts.Setenv(args[0], "http://"+ln.Addr().String()+"/v1/traces")
}
