package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

// service is the API over a real TAM, store and HTTP server.
type service struct {
	t      *testing.T
	config Config
	server *httptest.Server
	author *cose.Key
	// recipient is what deposits are encrypted to.
	recipient *cose.Key
	now       time.Time
	log       bytes.Buffer
	// blobDir has the envelopes, payloadDir the payloads.
	blobDir, payloadDir string
}

// payloadURI is where payloads would be served.
const payloadURI = "https://cdn.example/payloads"

// nobody appraises nothing: the API does not need it.
type nobody struct{ attest.Verifier }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(t *testing.T, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	must(t, err)
	return k
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, author: key(t, cose.AlgESP256), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	store, err := sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	s.blobDir, s.payloadDir = t.TempDir(), t.TempDir()
	blobs, err := blobfs.Open(s.blobDir)
	must(t, err)
	payloads, err := blobfs.OpenPayloads(s.payloadDir)
	must(t, err)
	var signers []cose.Signer
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		signer, err := key(t, alg).Signer()
		must(t, err)
		signers = append(signers, signer)
	}
	clock := func() time.Time { return s.now }
	logger := slog.New(slog.NewTextHandler(&s.log, nil))
	s.recipient = key(t, cose.AlgECDHESA128KW)
	distributor, err := key(t, cose.AlgESP256).Signer()
	must(t, err)
	core, err := tam.New(t.Context(), tam.Config{
		Signers: signers, Verifier: nobody{}, Store: store, Blobs: blobs, Clock: clock, Logger: logger,
		Payloads: payloads, PayloadURIs: []string{payloadURI},
		DecryptionKeys: []*cose.Key{s.recipient},
		Distribution:   &tam.Distribution{Signer: distributor, Prefix: suit.NewComponentID("keys")},
	})
	must(t, err)
	s.config = Config{TAM: core, Store: store, Clock: clock,
		Keys:   func() (decryption, verification []*cose.Key) { return []*cose.Key{s.recipient}, nil },
		Logger: logger, MaxEnvelope: 4096, Timeout: time.Minute, Ending: over(),
		Payloads: payloads, PayloadURI: payloadURI, MaxPayload: 1 << 20}
	handler, err := NewHandler(s.config)
	must(t, err)
	s.server = httptest.NewServer(handler)
	t.Cleanup(func() { s.server.Close(); store.Close(); blobs.Close(); payloads.Close() })
	return s
}

// over is a service about to end, whose streams do so when they have said what there is.
func over() <-chan struct{} {
	ending := make(chan struct{})
	close(ending)
	return ending
}

// goesOn is a service whose streams go on.
func (s *service) goesOn() *service {
	s.t.Helper()
	s.config.Ending = nil
	h, err := NewHandler(s.config)
	must(s.t, err)
	s.server.Config.Handler = h
	return s
}

// token makes a token with the given scopes.
func (s *service) token(scopes ...Scope) string {
	s.t.Helper()
	secret, _, err := IssueToken(s.t.Context(), s.config.Store,
		TokenRequest{Name: "test", Owner: "test@example.com", Scopes: scopes, Lifetime: time.Hour}, s.now, rand.Reader)
	must(s.t, err)
	return secret
}

func (s *service) client(scopes ...Scope) *Client {
	s.t.Helper()
	return &Client{BaseURL: s.server.URL, Token: s.token(scopes...), HTTP: s.server.Client()}
}

// request sends a request and returns the status and, for a refusal, the problem.
func (s *service) request(method, path, authorization string, header http.Header, body string) (int, *Problem) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, strings.NewReader(body))
	must(s.t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := s.server.Client().Do(req)
	must(s.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(s.t, err)
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := res.Header.Get(name); got != want {
			s.t.Errorf("%s %s: %s is %q", method, path, name, got)
		}
	}
	if res.StatusCode < 400 {
		return res.StatusCode, nil
	}
	p := &Problem{}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		s.t.Errorf("%s %s: refused as %q", method, path, got)
	}
	must(s.t, json.Unmarshal(data, p))
	if challenge := res.Header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Bearer ") != (res.StatusCode == http.StatusUnauthorized) {
		s.t.Errorf("%s %s: %d with the challenge %q", method, path, res.StatusCode, challenge)
	}
	if p.Status != res.StatusCode || p.Code == "" || p.Title == "" || p.Detail == "" {
		s.t.Errorf("%s %s: incomplete problem %s", method, path, data)
	}
	return res.StatusCode, p
}

// concrete turns a pattern into a method and a path.
func concrete(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	for _, r := range [][2]string{
		{"{manifest}", "%27acme%27%2F%27app%27"}, {"{sequence}", "1"}, {"{id}", "0123"}, {"{name}", "acme"}, {"{key}", strings.Repeat("00", 32)},
	} {
		path = strings.ReplaceAll(path, r[0], r[1])
	}
	return method, path
}

// TestEveryRouteIsGuarded goes through the whole API with no, wrong, expired, revoked and foreign
// credentials, and with each scope.
func TestEveryRouteIsGuarded(t *testing.T) {
	s := newService(t)
	expired, _, err := IssueToken(t.Context(), s.config.Store,
		TokenRequest{Name: "old", Scopes: Scopes(), Lifetime: time.Second}, s.now.Add(-time.Minute), rand.Reader)
	must(t, err)
	revoked, record, err := IssueToken(t.Context(), s.config.Store,
		TokenRequest{Name: "gone", Scopes: Scopes(), Lifetime: time.Hour}, s.now, rand.Reader)
	must(t, err)
	must(t, s.config.Store.RevokeAPIToken(t.Context(), record.ID, s.now))
	foreign := newService(t).token(Scopes()...)
	good := s.token(Scopes()...)
	scoped := make(map[Scope]string)
	for _, scope := range Scopes() {
		scoped[scope] = s.token(scope)
	}
	public := 0
	for _, r := range s.config.routes() {
		t.Run(r.pattern, func(t *testing.T) {
			s.t = t
			method, path := concrete(r.pattern)
			if r.public {
				public++
				if status, _ := s.request(method, path, "", nil, ""); status >= 400 {
					t.Fatalf("public, but %d", status)
				}
				return
			}
			for name, authorization := range map[string]string{
				"none":           "",
				"empty":          "Bearer ",
				"garbage":        "Bearer teep_x",
				"another scheme": "Basic " + good,
				"no scheme":      good,
				"foreign":        "Bearer " + foreign,
				"expired":        "Bearer " + expired,
				"revoked":        "Bearer " + revoked,
				"token ID":       "Bearer " + record.ID,
				"changed":        "Bearer " + good[:len(good)-1] + "!",
				"longer":         "Bearer " + good + "A",
				"not a token":    "Bearer " + strings.Repeat("x", 100),
			} {
				if status, p := s.request(method, path, authorization, nil, ""); status != http.StatusUnauthorized || p.Next == "" {
					t.Errorf("%s: %d %+v", name, status, p)
				}
			}
			for _, scope := range Scopes() {
				may := scope == ScopeAdministrator
				for _, granted := range r.scopes {
					may = may || granted == scope
				}
				status, p := s.request(method, path, "Bearer "+scoped[scope], nil, "")
				if !may && (status != http.StatusForbidden || p.Code != "scope") || may && (status == http.StatusForbidden || status == http.StatusUnauthorized) {
					t.Errorf("scope %s: %d, allowed %v", scope, status, may)
				}
			}
		})
	}
	if public != 4 {
		t.Errorf("%d public routes, want health and the document alone", public)
	}
	if strings.Contains(s.log.String(), good) {
		t.Error("a token is in the log")
	}
}

// TestRouteGrants pins who may do what, so that a change of the table is a change of this test.
func TestRouteGrants(t *testing.T) {
	for _, r := range newService(t).config.routes() {
		method, _ := concrete(r.pattern)
		if method == http.MethodGet {
			continue
		}
		for _, s := range r.scopes {
			if s == ScopeAuditor {
				t.Errorf("%s: an auditor changes nothing", r.pattern)
			}
			if s == ScopePublisher && r.pattern != "POST /v1/components" && r.pattern != "POST /v1/content-keys" && r.pattern != "POST /v1/payloads" {
				t.Errorf("%s: a publisher publishes", r.pattern)
			}
			if strings.Contains(r.pattern, "/v1/tokens") || strings.Contains(r.pattern, "/v1/publishers") {
				t.Errorf("%s: trust is the administrator's alone", r.pattern)
			}
		}
	}
}

// forClass begins a shared sequence as devices want it: with what the manifest is for.
func forClass(p suit.Parameters) suit.Sequence {
	vendor := suit.VendorID{UUID: suit.NewVendorID("example.com")}
	p.SetVendorID(vendor)
	p.SetClassID(suit.NewClassID(vendor, []byte("class")))
	return suit.Sequence{suit.SetComponentIndex(0), suit.OverrideParameters(p),
		suit.Condition(suit.CondVendorIdentifier, suit.ReportAll), suit.Condition(suit.CondClassIdentifier, suit.ReportAll)}
}

func (s *service) envelope(sequence uint64, by *cose.Key) []byte {
	s.t.Helper()
	var shared, install suit.Parameters
	shared.SetDigest(suit.NewDigest([]byte("code")))
	install.SetURI("#p")
	b := suit.Builder{Integrated: map[string][]byte{"#p": []byte("code")}}
	b.Manifest.SequenceNumber = sequence
	b.Manifest.ComponentID = suit.NewComponentID("acme", "app", "suit")
	b.Manifest.Common.Components = []suit.ComponentID{suit.NewComponentID("acme", "app")}
	b.Manifest.Common.SharedSequence.Commands = forClass(shared)
	b.Manifest.Install.Commands = suit.Sequence{suit.OverrideParameters(install), suit.Directive(suit.DirFetch, 0), suit.Condition(suit.CondImageMatch, 0)}
	e, err := b.Build()
	must(s.t, err)
	signer, err := by.Signer()
	must(s.t, err)
	must(s.t, e.Sign(rand.Reader, signer))
	return e.Encode()
}

func (s *service) addAuthor(name string, k *cose.Key) {
	s.t.Helper()
	pem, err := k.Public().MarshalPEM()
	must(s.t, err)
	_, err = s.client(ScopeAdministrator).AddPublisher(s.t.Context(), NewPublisher{
		Name: name, Keys: []string{string(pem)}, Prefixes: []string{"'acme'"},
	})
	must(s.t, err)
}

func wantProblem(t *testing.T, err error, status int, code string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Status != status || p.Code != code {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
}

func TestComponents(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.addAuthor("acme", s.author)
	publisher := s.client(ScopePublisher)
	v, err := publisher.Publish(ctx, s.envelope(1, s.author))
	must(t, err)
	if v.Manifest != "'acme'/'app'/'suit'" || v.Sequence != 1 || v.Publisher != "acme" || len(v.Digest) != 64 {
		t.Fatalf("published as %+v", v)
	}
	_, err = publisher.Publish(ctx, s.envelope(1, s.author))
	wantProblem(t, err, http.StatusConflict, "sequence-number")
	_, err = publisher.Publish(ctx, s.envelope(2, key(t, cose.AlgESP256)))
	wantProblem(t, err, http.StatusUnprocessableEntity, "unknown-signer")
	changed := s.envelope(2, s.author)
	changed = bytes.Replace(changed, []byte("Dcode"), []byte("Dc0de"), 1)
	_, err = publisher.Publish(ctx, changed)
	wantProblem(t, err, http.StatusUnprocessableEntity, "tampered")
	_, err = publisher.Publish(ctx, []byte("garbage"))
	wantProblem(t, err, http.StatusUnprocessableEntity, "envelope")
	_, err = publisher.Publish(ctx, make([]byte, 5000))
	wantProblem(t, err, http.StatusRequestEntityTooLarge, "too-large")
	_, err = (&Client{BaseURL: s.server.URL}).Publish(ctx, s.envelope(2, s.author))
	wantProblem(t, err, http.StatusUnauthorized, "token")
	for _, kind := range []string{"", "text/plain", "multipart/form-data"} {
		status, _ := s.request("POST", "/v1/components", "Bearer "+publisher.Token, http.Header{"Content-Type": {kind}}, "x")
		if status != http.StatusUnsupportedMediaType {
			t.Errorf("content type %q: %d", kind, status)
		}
	}

	other, _, err := IssueToken(ctx, s.config.Store, TokenRequest{
		Name: "other", Scopes: []Scope{ScopePublisher}, Publisher: "other", Lifetime: time.Hour,
	}, s.now, rand.Reader)
	must(t, err)
	_, err = (&Client{BaseURL: s.server.URL, Token: other}).Publish(ctx, s.envelope(2, s.author))
	wantProblem(t, err, http.StatusForbidden, "other-publisher")

	for n := range uint64(3) {
		_, err := publisher.Publish(ctx, s.envelope(n+2, s.author))
		must(t, err)
	}
	var seen []uint64
	for after, more := "", true; more; {
		status, _ := s.request("GET", "/v1/components?limit=3", "Bearer "+publisher.Token, nil, "")
		if status != http.StatusOK {
			t.Fatal(status)
		}
		p, err := publisher.Versions(ctx, after)
		must(t, err)
		for _, v := range p.Items {
			seen = append(seen, v.Sequence)
		}
		after, more = p.Next, p.Next != ""
	}
	if fmt.Sprint(seen) != "[1 2 3 4]" {
		t.Fatalf("listed %v", seen)
	}

	operator := s.client(ScopeOperator)
	must(t, operator.Withdraw(ctx, v.Manifest, 1, "faulty"))
	wantProblem(t, operator.Withdraw(ctx, v.Manifest, 9, "faulty"), http.StatusNotFound, "not-found")
	wantProblem(t, operator.Withdraw(ctx, v.Manifest, 1, ""), http.StatusBadRequest, "reason")
	p, err := operator.Versions(ctx, "")
	must(t, err)
	if p.Items[0].Withdrawn == nil || p.Items[0].WithdrawnReason != "faulty" || p.Items[1].Withdrawn != nil {
		t.Fatalf("withdrawn: %+v", p.Items)
	}

	must(t, s.client(ScopeAdministrator).RevokePublisher(ctx, "acme"))
	_, err = publisher.Publish(ctx, s.envelope(9, s.author))
	wantProblem(t, err, http.StatusUnprocessableEntity, "unknown-signer")
}

func TestPages(t *testing.T) {
	s := newService(t)
	for n := range 5 {
		s.addAuthor(fmt.Sprintf("p%d", n), key(t, cose.AlgESP256))
	}
	var seen []string
	after := ""
	for range 3 {
		req, err := http.NewRequest("GET", s.server.URL+"/v1/publishers?limit=2&after="+after, nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+s.token(ScopeAuditor))
		res, err := s.server.Client().Do(req)
		must(t, err)
		var p Page[Publisher]
		must(t, json.NewDecoder(res.Body).Decode(&p))
		res.Body.Close()
		for _, item := range p.Items {
			seen = append(seen, item.Name)
		}
		after = p.Next
	}
	if strings.Join(seen, " ") != "p0 p1 p2 p3 p4" || after != "" {
		t.Fatalf("saw %v, next %q", seen, after)
	}
	auth := "Bearer " + s.token(ScopeAdministrator)
	for _, query := range []string{"limit=0", "limit=-1", "limit=1001", "limit=x"} {
		if status, p := s.request("GET", "/v1/publishers?"+query, auth, nil, ""); status != http.StatusBadRequest || p.Code != "limit" {
			t.Errorf("%s: %d", query, status)
		}
	}
	for _, path := range []string{"/v1/components?after=x", "/v1/components?after=1@%27", "/v1/components?after=1@"} {
		if status, p := s.request("GET", path, auth, nil, ""); status != http.StatusBadRequest || p.Code != "after" {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func (s *service) device(ctx context.Context) *tam.Device {
	s.t.Helper()
	d := &tam.Device{
		ID: "0123", KeyThumbprint: bytes.Repeat([]byte{1}, 32), AgentKey: []byte{1}, Status: tam.DevicePending,
		FirstSeen: s.now, LastSeen: s.now, UEID: []byte{1, 2}, HWVersion: `1.0"<script>`,
		Attestation: tam.Attestation{Status: attest.StatusAffirming, At: s.now,
			Reasons: []attest.Reason{{Claim: "measurement", Status: attest.StatusAffirming, Text: "known"}}},
		Inventory: []tam.Installed{{Manifest: suit.NewComponentID("acme", "app", "suit"), Sequence: 1<<64 - 1}},
	}
	must(s.t, s.config.Store.CommitExchange(ctx, tam.Exchange{Device: d, Reindex: true,
		Event: &tam.Event{DeviceID: d.ID, At: s.now, Kind: tam.EventAttested, Detail: "first"}}))
	return d
}

func TestDevices(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	s.device(ctx)
	operator, auditor := s.client(ScopeOperator), s.client(ScopeAuditor)
	page, err := auditor.Devices(ctx, "")
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].ID != "0123" {
		t.Fatalf("devices %+v", page)
	}
	d, err := auditor.Device(ctx, "0123")
	must(t, err)
	if d.Status != tam.DevicePending || d.Attestation.Status != "affirming" || len(d.Attestation.Claims) != 1 ||
		d.Attestation.Claims[0].Text != "known" || d.Inventory[0].Sequence != 1<<64-1 || d.UEID != "0102" {
		t.Fatalf("device %+v", d)
	}
	_, err = auditor.Device(ctx, "nobody")
	wantProblem(t, err, http.StatusNotFound, "not-found")
	_, err = auditor.Events(ctx, "nobody", "")
	wantProblem(t, err, http.StatusNotFound, "not-found")
	_, err = auditor.ChangeDevice(ctx, "0123", DeviceChange{Status: tam.DeviceAccepted})
	wantProblem(t, err, http.StatusForbidden, "scope")
	_, err = operator.ChangeDevice(ctx, "0123", DeviceChange{Status: "superb"})
	wantProblem(t, err, http.StatusBadRequest, "status")
	d, err = operator.ChangeDevice(ctx, "0123", DeviceChange{Status: tam.DeviceAccepted})
	must(t, err)
	if d.Status != tam.DeviceAccepted {
		t.Fatalf("device is %v", d.Status)
	}
	events, err := auditor.Events(ctx, "0123", "")
	must(t, err)
	if len(events.Items) != 2 || events.Items[0].Kind != tam.EventStatus || !strings.Contains(events.Items[0].Detail, "test") {
		t.Fatalf("events %+v", events)
	}

	auth := "Bearer " + operator.Token
	same := http.Header{"If-None-Match": {fmt.Sprintf(`"%d"`, d.Revision)}}
	if status, _ := s.request("GET", "/v1/devices/0123", auth, same, ""); status != http.StatusNotModified {
		t.Errorf("unchanged: %d", status)
	}
	stale := http.Header{"If-Match": {`"1"`}, "Content-Type": {"application/json"}}
	if status, _ := s.request("PATCH", "/v1/devices/0123", auth, stale, `{"status":"blocked"}`); status != http.StatusPreconditionFailed {
		t.Errorf("stale: %d", status)
	}
}

func TestPolicy(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	c := s.client(ScopeOperator)
	const id = "'acme'/h'00ff'/'it\\'s'"
	set, err := c.SetPolicy(ctx, id, NewPolicy{Mode: tam.ModeRequired, Devices: []string{"b", "a", "b"}})
	must(t, err)
	if set.Manifest != id || strings.Join(set.Devices, "") != "ab" {
		t.Fatalf("set %+v", set)
	}
	list, err := c.Policies(ctx, "")
	must(t, err)
	if len(list.Items) != 1 || list.Items[0].Mode != tam.ModeRequired {
		t.Fatalf("policies %+v", list)
	}
	for _, manifest := range []string{"'zoo'", "'abc'/'d'"} {
		_, err = c.SetPolicy(ctx, manifest, NewPolicy{Mode: tam.ModeForbidden})
		must(t, err)
	}
	var paged []string
	token := s.token(ScopeAuditor)
	for after := ""; ; {
		var p Page[Policy]
		r := s.do("GET", "/v1/policy?limit=1&after="+url.QueryEscape(after), token, nil, "")
		must(t, json.Unmarshal([]byte(r.body), &p))
		if len(p.Items) != 1 {
			t.Fatalf("a page of one: %d %s", r.status, r.body)
		}
		paged = append(paged, p.Items[0].Manifest)
		if after = p.Next; after == "" {
			break
		}
	}
	if whole, err := c.Policies(ctx, ""); err != nil || len(whole.Items) != 3 || len(paged) != 3 ||
		!slices.EqualFunc(whole.Items, paged, func(p Policy, manifest string) bool { return p.Manifest == manifest }) {
		t.Errorf("page by page %v, at once %+v, %v", paged, whole, err)
	}
	_, err = c.Policies(ctx, "'open")
	wantProblem(t, err, http.StatusBadRequest, "component-identifier")
	_, err = c.SetPolicy(ctx, id, NewPolicy{Mode: "perhaps"})
	wantProblem(t, err, http.StatusBadRequest, "mode")
	_, err = c.SetPolicy(ctx, "'open", NewPolicy{Mode: tam.ModeRequired})
	wantProblem(t, err, http.StatusBadRequest, "component-identifier")
	_, err = c.SetPolicy(ctx, id, NewPolicy{Mode: tam.ModeRequired, Devices: make([]string, 1001)})
	wantProblem(t, err, http.StatusBadRequest, "devices")
	must(t, c.DeletePolicy(ctx, id))
	wantProblem(t, c.DeletePolicy(ctx, id), http.StatusNotFound, "not-found")
}
