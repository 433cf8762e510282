package conform_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/teeptest"
	"github.com/go-teep/teep/teeptest/conform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is an HTTP client without connections that outlive the test.
func client(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func target(t *testing.T, w *teeptest.World) conform.TAM {
	t.Helper()
	d, err := conform.NewDevice(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return conform.TAM{
		URI: w.URI, Keys: []*cose.Key{w.ESP256.Public(), w.Ed25519.Public()}, Encryption: w.Encryption.Public(),
		Device: d, Now: w.Clock.Now, Client: client(t),
	}
}

func byID(results []conform.Result) map[string]conform.Result {
	all := map[string]conform.Result{}
	for _, r := range results {
		all[r.ID] = r
	}
	return all
}

func show(t *testing.T, results []conform.Result) {
	t.Helper()
	var b bytes.Buffer
	if err := conform.WriteTable(&b, results); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
}

// TestThisTAM runs the suite against this project's TAM. Nothing may fail, and nothing be skipped
// but what is named here.
func TestThisTAM(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	w.Publish(w.Component("hello", 1, "hello"))
	to := target(t, w)
	to.Component = teep.ComponentID{[]byte("hello")}
	known, err := to.Device.Collateral(w.Clock.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	w.Endorse(known)
	results, err := conform.CheckTAM(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	show(t, results)
	mayBe := map[string]conform.Outcome{
		"http-tls":         conform.Warning, // the test's server speaks plain HTTP
		"query-report-key": conform.Skip,    // this TAM sends no SUIT Reports
	}
	for _, r := range results {
		if want, listed := mayBe[r.ID]; r.Outcome != conform.Pass && (!listed || r.Outcome != want) {
			t.Errorf("%s: %s: %s (%s)", r.ID, r.Outcome, r.Requirement, r.Detail)
		}
	}
}

// TestThisTAMWithTokens does so with the policy that asks for attestation only when it is old.
func TestThisTAMWithTokens(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{TAMPolicy: tam.Policy{Query: tam.QueryToken}})
	w.Publish(w.Component("hello", 1, "hello"))
	to := target(t, w)
	to.Component = teep.ComponentID{[]byte("hello")}
	known, err := to.Device.Collateral(w.Clock.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	w.Endorse(known)
	results, err := conform.CheckTAM(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	show(t, results)
	if conform.Failed(results) {
		t.Error("a MUST is not met")
	}
}

// A device that nobody endorsed sees less, and that is said.
func TestStrangerIsSkippedNotFailed(t *testing.T) {
	w := teeptest.New(t, teeptest.Options{})
	to := target(t, w)
	to.Component = teep.ComponentID{[]byte("hello")}
	results, err := conform.CheckTAM(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	all := byID(results)
	for _, id := range []string{"update-valid", "challenge-replayed", "cnf-other-key"} {
		if all[id].Outcome != conform.Skip || all[id].Detail == "" {
			t.Errorf("%s: %+v", id, all[id])
		}
	}
	if conform.Failed(results) {
		show(t, results)
	}
}

// fault is a TAM with one thing wrong: it stands between the suite and a right one.
type fault struct {
	name   string
	change func(next http.Handler) http.Handler
	finds  []string // the checks that must notice
}

func rewrite(f func(rec *httptest.ResponseRecorder, w http.ResponseWriter)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			for name, values := range rec.Header() {
				w.Header()[name] = values
			}
			f(rec, w)
		})
	}
}

// TestSuiteFindsFaults: a suite that finds nothing wrong with what is wrong is worth nothing.
func TestSuiteFindsFaults(t *testing.T) {
	faults := []fault{
		{"cookies and no headers", rewrite(func(rec *httptest.ResponseRecorder, w http.ResponseWriter) {
			w.Header().Set("Set-Cookie", "a=b")
			w.Header().Del("Referrer-Policy")
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes()) //nolint:errcheck // the suite notices
		}), []string{"http-cookies", "http-headers"}},
		{"200 for everything", rewrite(func(rec *httptest.ResponseRecorder, w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			w.Write(rec.Body.Bytes()) //nolint:errcheck // as above
		}), []string{"http-method", "http-415", "http-415-absent", "http-accept", "http-204"}},
		{"another media type", rewrite(func(rec *httptest.ResponseRecorder, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/cbor")
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes()) //nolint:errcheck // as above
		}), []string{"http-content-type"}},
		{"a broken signature", rewrite(func(rec *httptest.ResponseRecorder, w http.ResponseWriter) {
			b := rec.Body.Bytes()
			if len(b) > 0 {
				b[len(b)-1] ^= 1
			}
			w.WriteHeader(rec.Code)
			w.Write(b) //nolint:errcheck // as above
		}), []string{"query-signatures", "response-incomplete"}},
		{"the same answer again and again", repeat, []string{"query-fresh", "query-random"}},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			w := teeptest.New(t, teeptest.Options{})
			server := httptest.NewServer(f.change(w.Server.Config.Handler))
			defer server.Close()
			to := target(t, w)
			to.URI = server.URL + "/teep"
			results, err := conform.CheckTAM(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			all := byID(results)
			for _, id := range f.finds {
				if r := all[id]; r.Outcome != conform.Fail && r.Outcome != conform.Warning {
					t.Errorf("%s did not notice: %+v", id, r)
				}
			}
		})
	}
}

// repeat is a TAM that says to everybody what it said first.
func repeat(next http.Handler) http.Handler {
	var first *httptest.ResponseRecorder
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first == nil {
			first = httptest.NewRecorder()
			next.ServeHTTP(first, r)
		}
		for name, values := range first.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(first.Code)
		w.Write(first.Body.Bytes()) //nolint:errcheck // the suite notices
	})
}

func TestUnusableTargets(t *testing.T) {
	d, err := conform.NewDevice(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]conform.TAM{
		"no URI":    {Keys: []*cose.Key{d.Agent.Public()}, Device: d},
		"no keys":   {URI: "http://127.0.0.1:1/", Device: d},
		"no device": {URI: "http://127.0.0.1:1/", Keys: []*cose.Key{d.Agent.Public()}},
	} {
		if _, err := conform.CheckTAM(context.Background(), to); err == nil || !strings.HasPrefix(err.Error(), "conform: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnreachableTAMFails(t *testing.T) {
	d, err := conform.NewDevice(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	results, err := conform.CheckTAM(t.Context(), conform.TAM{
		URI: server.URL, Keys: []*cose.Key{d.Agent.Public()}, Device: d, Client: client(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Outcome == conform.Pass {
			t.Errorf("%s passes against nobody", r.ID)
		}
	}
	if !conform.Failed(results) {
		t.Error("nothing failed")
	}
}
