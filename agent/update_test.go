package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
)

func (w *world) wantRun(code string) {
	w.t.Helper()
	got, err := w.run("code", nil, "hello")
	if err != nil || got != code {
		w.t.Fatalf("ran %q (%v), want %q", got, err, code)
	}
}

// reports opens the SUIT Reports of an answer as its TAM does.
func (w *world) reports(to *tam, data [][]byte) []*suit.Report {
	w.t.Helper()
	keys, err := cose.NewKeySet(w.device.keys[tee.KeyReport].Public())
	if err != nil {
		w.t.Fatal(err)
	}
	var out []*suit.Report
	for _, d := range data {
		o, err := suit.OpenReport(d, suit.OpenReportOptions{
			Keys: keys, DecryptKeys: cose.DecryptKeys{to.encryption}, RequireEncryption: !to.noEncryption,
		})
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, o.Report)
	}
	return out
}

func unlink(t testing.TB, ids ...[][]byte) *teep.Update {
	u := &teep.Update{Token: token(t)}
	for _, id := range ids {
		u.UnneededManifests = append(u.UnneededManifests, id)
	}
	return u
}

func TestInstallRunUpdateLeave(t *testing.T) {
	w := newWorld(t)
	w.start()
	u := install(t, w.hello(1, "app one"))
	s, ok := w.exchange(w.one, u).(*teep.Success)
	if !ok || !bytes.Equal(s.Token, u.Token) {
		t.Fatalf("got %#v", s)
	}
	// The report's key is not the message's, and the token is its nonce (TEEP §4.5).
	if r := w.reports(w.one, s.SUITReports); len(r) != 1 || r[0].Failure != nil || !bytes.Equal(r[0].Nonce, u.Token) {
		t.Errorf("report %+v", r)
	}
	w.wantRun("app one")
	if _, err := w.run("put", []byte("secret"), "hello"); err != nil {
		t.Fatal(err)
	}
	w.mustInstall(w.one, w.hello(2, "app two"))
	w.wantRun("app two")
	if got, err := w.run("get", nil, "hello"); err != nil || got != "secret" {
		t.Errorf("an update lost the application's data: %q, %v", got, err)
	}
	if m, ok := w.exchange(w.one, unlink(t, id("hello", "manifest"))).(*teep.Success); !ok {
		t.Fatalf("got %#v", m)
	}
	if _, err := w.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotInstalled) {
		t.Errorf("runs although it left: %v", err)
	}
	if list := w.inventory(w.one); len(list) != 0 {
		t.Errorf("inventory still has %x", list)
	}
	// Who comes after does not find what was sealed before.
	w.mustInstall(w.one, w.hello(3, "app three"))
	if got, err := w.run("get", nil, "hello"); err != nil || got != "" {
		t.Errorf("sealed data outlived its component: %q, %v", got, err)
	}
}

func TestFetchInChunksWithBreaks(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Chunk = 10
	w.start()
	content := "app " + strings.Repeat("0123456789", 10)
	ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, content))))
	broken := 0
	for err == nil && ask.Fetch != nil {
		c := w.chunk(ask)
		if ask.Fetch.Length != 10 {
			t.Fatalf("asked for %d bytes", ask.Fetch.Length)
		}
		if ask.Fetch.Offset > 0 && broken < int(ask.Fetch.Offset/10) {
			broken++
			c.Data, c.Last, c.Err = nil, false, "connection reset"
		}
		ask, err = w.agent.Deliver(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := w.decode(ask).(*teep.Success); !ok {
		t.Fatalf("got %#v", m)
	}
	if broken < 5 {
		t.Errorf("only %d breaks", broken)
	}
	w.wantRun(content)
}

func TestUpdateRefused(t *testing.T) {
	foreign := newKey(t, cose.AlgESP256)
	tests := map[string]struct {
		manifest func(w *world) []byte
		text     string
		reason   suit.Reason
	}{
		"downgrade": {func(w *world) []byte { return w.hello(4, "app old") }, "not higher", 0},
		"unknown signer": {func(w *world) []byte {
			dev := w.dev
			defer func() { w.dev = dev }()
			w.dev = foreign
			return w.hello(9, "app")
		}, "", suit.ReasonUnauthorised},
		"signer outside its prefixes": {func(w *world) []byte {
			return w.simple("other", 9, "app", "integrated: true")
		}, "", suit.ReasonComponentUnauthorised},
		"tampered manifest": {func(w *world) []byte {
			m := w.hello(9, "app")
			m[len(m)/3] ^= 1
			return m
		}, "", 0},
		"tampered payload": {func(w *world) []byte {
			m := w.hello(9, "app is whole")
			i := bytes.Index(m, []byte("app is whole"))
			m[i] ^= 1
			return m
		}, "", suit.ReasonConditionFailed},
		"tampered fetched payload": {func(w *world) []byte {
			m := w.fetchedHello(9, "app is whole")
			w.payloads["https://dev.example/hello-9"] = []byte("app is w0ole")
			return m
		}, "", suit.ReasonConditionFailed},
		"payload longer than it says": {func(w *world) []byte {
			m := w.fetchedHello(9, "app")
			w.payloads["https://dev.example/hello-9"] = []byte("application")
			return m
		}, "", 0},
		"payload that is not there": {func(w *world) []byte {
			m := w.fetchedHello(9, "app")
			clear(w.payloads)
			return m
		}, "could not be fetched", suit.ReasonOperationFailed},
		"wrong class": {func(w *world) []byte {
			return w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 9
vendor: {domain: example.com}
class: {name: another}
components: [{id: [hello], payload: {file: it, integrated: true}}]
`, map[string]string{"it": "app"})
		}, "", suit.ReasonConditionFailed},
		"wrong vendor": {func(w *world) []byte {
			return w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 9
vendor: {domain: example.org}
class: {name: sandbox}
components: [{id: [hello], payload: {file: it, integrated: true}}]
`, map[string]string{"it": "app"})
		}, "", suit.ReasonConditionFailed},
		"oversize payload": {func(w *world) []byte {
			return w.fetchedHello(9, "app"+strings.Repeat(".", 2000))
		}, "limit", 0},
		"no envelope": {func(*world) []byte { return []byte{0xa0} }, "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Limits.Processor.Payload = 1000
			w.start()
			w.mustInstall(w.one, w.hello(5, "app five"))
			u := install(t, tt.manifest(w))
			e, ok := w.exchange(w.one, u).(*teep.Error)
			if !ok || e.Code != teep.ErrManifestProcessingFailed || !bytes.Equal(e.Token, u.Token) {
				t.Fatalf("got %#v", e)
			}
			if len(e.Message) == 0 || len(e.Message) > teep.MaxText || !strings.Contains(e.Message, tt.text) {
				t.Errorf("err-msg %q, want it to contain %q", e.Message, tt.text)
			}
			reports := w.reports(w.one, e.SUITReports)
			if len(reports) != 1 || reports[0].Failure == nil || !bytes.Equal(reports[0].Nonce, u.Token) {
				t.Fatalf("reports %+v", reports)
			}
			if tt.reason != 0 && reports[0].Failure.Reason != tt.reason {
				t.Errorf("reason %v, want %v", reports[0].Failure.Reason, tt.reason)
			}
			w.wantRun("app five")
			w.start()
			w.wantRun("app five")
		})
	}
}

func TestPartialFailureIsReportedPerManifest(t *testing.T) {
	w := newWorld(t)
	w.start()
	bad := w.simple("other", 1, "app", "integrated: true")
	e, ok := w.exchange(w.one, install(t, bad, w.hello(1, "app"))).(*teep.Error)
	if !ok || !strings.HasPrefix(e.Message, "1 of 2 failed") {
		t.Fatalf("got %#v", e)
	}
	if r := w.reports(w.one, e.SUITReports); len(r) != 2 || (r[0].Failure == nil) == (r[1].Failure == nil) {
		t.Errorf("reports %+v", r)
	}
	w.wantRun("app")
}

func TestDowngradeAfterRemoval(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(5, "app five"))
	w.exchange(w.one, unlink(t, id("hello", "manifest")))
	w.start()
	if e, ok := w.exchange(w.one, install(t, w.hello(4, "app four"))).(*teep.Error); !ok {
		t.Fatalf("got %#v", e)
	}
}

func TestSelectedSuiteOnly(t *testing.T) {
	w := newWorld(t)
	w.start()
	u := install(t, w.hello(1, "app"))
	ask := w.connect(w.one)
	ask, err := w.agent.ProcessTeepMessage(t.Context(), ask.Session, w.protectWith(u, w.one.ed))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := w.decode(ask).(*teep.Error)
	if !ok || e.Code != teep.ErrUnsupportedCipherSuites || len(e.CipherSuites) != 1 || !e.CipherSuites[0].Equal(teep.CipherSuiteSign1ESP256()) {
		t.Fatalf("got %#v", e)
	}
	if _, err := w.run("code", nil, "hello"); err == nil {
		t.Error("installed")
	}
}

func TestReplayedUpdate(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app"))
	raw := w.protect(w.one, unlink(t, id("hello", "manifest")))
	send := func() teep.Message {
		ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, raw)
		if err != nil {
			t.Fatal(err)
		}
		return w.decode(ask)
	}
	if s, ok := send().(*teep.Success); !ok {
		t.Fatalf("got %#v", s)
	}
	w.mustInstall(w.one, w.hello(2, "app again"))
	w.inventory(w.one)
	// An uninstall has no sequence number that would give the replay away.
	if e, ok := send().(*teep.Error); !ok || e.Code != teep.ErrPermanentError {
		t.Fatalf("got %#v", e)
	}
	w.wantRun("app again")
	w.start()
	if e, ok := send().(*teep.Error); !ok || e.Code != teep.ErrPermanentError {
		t.Fatalf("after a restart: %#v", e)
	}
	w.wantRun("app again")
}

func TestLostAnswerIsRepeated(t *testing.T) {
	w := newWorld(t)
	w.start()
	raw := w.protect(w.one, install(t, w.hello(1, "app")))
	first, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.agent.ProcessError(t.Context(), first.Session, first.TAMURI, "network unreachable"); err != nil {
		t.Fatal(err)
	}
	w.device.now = w.device.now.Add(time.Hour)
	again, err := w.agent.RequestPolicyCheck(t.Context())
	if err != nil || !bytes.Equal(again.Message, first.Message) {
		t.Fatalf("got %+v, %v", again, err)
	}
	if again.TAMURI == first.TAMURI {
		t.Errorf("the URI that failed is tried again: %s", again.TAMURI)
	}
	// Delivered: it does not come a third time.
	for range 5 {
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err != nil || ask.Message != nil {
			t.Fatalf("got %+v, %v", ask, err)
		}
	}
}

func TestUnlinkWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	w.start()
	if s, ok := w.exchange(w.one, unlink(t, id("hello", "manifest"))).(*teep.Success); !ok {
		t.Fatalf("got %#v", s)
	}
}

func TestUpdateWithoutWork(t *testing.T) {
	w := newWorld(t)
	w.start()
	u := &teep.Update{Token: token(t), AttestationFormat: teep.EATMediaType, AttestationPayload: []byte("\x40")}
	if s, ok := w.exchange(w.one, u).(*teep.Success); !ok || !bytes.Equal(s.Token, u.Token) {
		t.Fatalf("got %#v", s)
	}
	w.exchange(w.one, &teep.Update{Token: token(t), ErrorCode: teep.ErrPermanentError, ErrorMessage: "no"})
	w.device.now = w.device.now.Add(time.Hour)
	for {
		ask, err := w.agent.RequestPolicyCheck(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(ask.TAMURI, w.one.uri) {
			t.Fatal("a TAM that reported a permanent error is contacted at once")
		}
		if ask.TAMURI == "" {
			return
		}
	}
}

func TestDependenciesComeFirst(t *testing.T) {
	w := newWorld(t)
	w.start()
	lib := w.simple("shared", 1, "library", "integrated: true")
	app := w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [hello], payload: {file: it, integrated: true}}]
dependencies: [{id: [shared, manifest], file: lib.suit, uri: "https://dev.example/lib.suit"}]
`, map[string]string{"it": "app", "lib.suit": string(lib)})
	w.mustInstall(w.one, app, lib)
	w.wantRun("app")
	if len(w.fetched) != 0 {
		t.Errorf("fetched %v although it came along", w.fetched)
	}
	if got := len(w.inventory(w.one)); got != 2 {
		t.Errorf("%d components", got)
	}
}

func TestTooManyManifests(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Manifests = 2
	w.start()
	m := w.hello(1, "app")
	if e, ok := w.exchange(w.one, install(t, m, m, m)).(*teep.Error); !ok || e.Code != teep.ErrPermanentError {
		t.Fatalf("got %#v", e)
	}
}

func TestRecordLimit(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Record = 6000
	w.start()
	var failed bool
	for i := range 20 {
		m := w.exchange(w.one, install(t, w.simple("hello", i+1, fmt.Sprint("app ", i), "integrated: true"),
			w.manifest(w.dev, fmt.Sprintf(`
manifest-component-id: [two, "%d"]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [two, "%d", x], payload: {file: it, integrated: true}}]
`, i, i), map[string]string{"it": "x"})))
		if _, failed = m.(*teep.Error); failed {
			break
		}
	}
	if !failed {
		t.Error("the record grows without bound")
	}
	w.start()
	w.inventory(w.one)
}
