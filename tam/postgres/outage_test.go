package postgres_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/postgres/pgtest"
	"github.com/go-teep/teep/transport"
)

// served is a TAM over PostgreSQL with its two faces, and one device.
type served struct {
	t                  *testing.T
	store              *postgres.Store
	tam                *tam.TAM
	agents, operators  *httptest.Server
	tamKeys            cose.KeySet
	device             *cose.Key
	signer             cose.Signer
	administratorToken string
}

func serve(t *testing.T, url string) *served {
	t.Helper()
	s := &served{t: t, store: open(t, url)}
	var signers []cose.Signer
	var keys []*cose.Key
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgESP256} {
		k, err := cose.GenerateKey(rand.Reader, alg)
		must(t, err)
		signer, err := k.Signer()
		must(t, err)
		keys, signers = append(keys, k), append(signers, signer)
	}
	s.device, s.signer = keys[2], signers[2]
	blobs, err := blobfs.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { blobs.Close() })
	s.tam, err = tam.New(t.Context(), tam.Config{Signers: signers[:2], Verifier: challengeVerifier{}, Store: s.store, Blobs: blobs})
	must(t, err)
	s.tamKeys, err = cose.NewKeySet(keys[:2]...)
	must(t, err)
	s.administratorToken, _, err = api.IssueToken(t.Context(), s.store,
		api.TokenRequest{Name: "test", Scopes: []api.Scope{api.ScopeAdministrator}, Lifetime: time.Hour}, time.Now(), rand.Reader)
	must(t, err)
	operators, err := api.NewHandler(api.Config{TAM: s.tam, Store: s.store, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	s.agents = httptest.NewServer(transport.NewHandler(s.tam, transport.HandlerOptions{Rate: -1}))
	s.operators = httptest.NewServer(operators)
	t.Cleanup(s.agents.Close)
	t.Cleanup(s.operators.Close)
	return s
}

// send posts a device's message.
func (s *served) send(message []byte) (status int, retryAfter string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.agents.URL, bytes.NewReader(message))
	must(s.t, err)
	r.Header.Set("Accept", transport.MediaType)
	r.Header.Set("Content-Type", transport.MediaType)
	return s.do(r)
}

// ask sends the operator API a request.
func (s *served) ask(method, path, body string) (status int, retryAfter string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.operators.URL+path, strings.NewReader(body))
	must(s.t, err)
	r.Header.Set("Authorization", "Bearer "+s.administratorToken)
	return s.do(r)
}

func (s *served) do(r *http.Request) (status int, retryAfter string) {
	s.t.Helper()
	response, err := http.DefaultClient.Do(r)
	must(s.t, err)
	defer response.Body.Close()
	return response.StatusCode, response.Header.Get("Retry-After")
}

// TestDatabaseDiesUnderService: without its database the TAM tells agents and operators when to come again;
// with the database back it serves both, with nothing restarted, and what it had acknowledged is there.
func TestDatabaseDiesUnderService(t *testing.T) {
	database := pgtest.Start(t)
	s := serve(t, database.Database(t))
	session := func() []byte {
		request, err := s.tam.ProcessConnect(t.Context())
		must(t, err)
		return answerTo(t, request, s.tamKeys, s.device, s.signer)
	}
	attested := func() (n int) {
		events, err := s.store.Events(t.Context(), tam.DeviceID(s.device.Thumbprint()), 0, 100)
		must(t, err)
		for _, e := range events {
			if e.Kind == tam.EventAttested {
				n++
			}
		}
		return n
	}
	for round := range 2 {
		if status, _ := s.send(session()); status/100 != 2 {
			t.Fatalf("a device was answered %d", status)
		}
		before, message := attested(), session()
		database.Stop(t)
		for range 3 {
			if status, after := s.send(message); status != http.StatusServiceUnavailable || after == "" {
				t.Fatalf("a device without a database: %d, Retry-After %q", status, after)
			}
			for _, path := range []string{"/v1/devices", "/v1/readyz"} {
				if status, after := s.ask("GET", path, ""); status != http.StatusServiceUnavailable || after == "" {
					t.Fatalf("%s without a database: %d, Retry-After %q", path, status, after)
				}
			}
			if status, _ := s.ask("GET", "/v1/livez", ""); status != http.StatusOK {
				t.Fatalf("the process does not live: %d", status)
			}
			// What takes no database goes on.
			if status, _ := s.send(nil); status != http.StatusOK {
				t.Fatalf("an empty message: %d", status)
			}
		}
		database.Run(t)
		// A connection of before, of which there are few, may first be found broken.
		status := 0
		for range 20 {
			if status, _ = s.send(message); status != http.StatusServiceUnavailable {
				break
			}
		}
		if status/100 != 2 {
			t.Fatalf("round %d: the same message with the database back: %d", round, status)
		}
		if got := attested(); got != before+1 {
			t.Fatalf("round %d: attested %d times, and %d before", round, got, before)
		}
		if status, _ := s.ask("GET", "/v1/devices", ""); status != http.StatusOK {
			t.Fatalf("round %d: the API with the database back: %d", round, status)
		}
	}
}
