package tam_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// ignored checks that a message is answered with nothing and changes nothing.
func (a *agent) ignored(data []byte, says string) {
	a.w.t.Helper()
	before := a.device()
	mark := len(a.w.log.String())
	if reply := a.sendRaw(data); reply != nil {
		a.w.t.Fatalf("answered with a %v", reply.Type())
	}
	after := a.device()
	if (before == nil) != (after == nil) || before != nil && before.Revision != after.Revision {
		a.w.t.Fatalf("the device changed from %+v to %+v", before, after)
	}
	if logged := a.w.log.String()[mark:]; !strings.Contains(logged, says) || !strings.Contains(logged, "message ignored") {
		a.w.t.Errorf("the log does not say %q:\n%s", says, logged)
	}
}

func TestReplayedQueryResponse(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	data := a.protect(a.response(a.connect()))
	if _, ok := a.sendRaw(data).(*teep.Update); !ok {
		t.Fatal("no Update")
	}
	a.ignored(data, "replayed")

	// Neither another replica nor a restart forgets.
	w.tam, w.store = w.replica()
	a.ignored(data, "replayed")

	// After the challenge expired it is refused for its age, whatever became of the record.
	w.clock.advance(13 * time.Hour)
	must(t, w.tam.Sweep(ctx(), 24*time.Hour))
	a.ignored(data, "expired")
}

func TestReplayedSuccess(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	u := a.update()
	data := a.protect(&teep.Success{Token: u.Token})
	a.sendRaw(data)
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})
	a.ignored(data, "replayed")
	a.ignored(a.protect(&teep.Error{Token: u.Token, Code: teep.ErrPermanentError}), "replayed")
	w.tam, w.store = w.replica()
	a.ignored(data, "replayed")
}

func TestConcurrentReplaysCountOnce(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	other, _ := w.replica()
	replicas := []*tam.TAM{w.tam, other}
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	data := a.protect(a.response(a.connect()))
	var mu sync.Mutex
	answers := 0
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			reply, err := replicas[i%2].ProcessTeepMessage(ctx(), data)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if len(reply) > 0 {
				answers++
			}
		})
	}
	wg.Wait()
	if answers != 1 || len(a.device().Pending) != 1 {
		t.Fatalf("%d answers, %d Updates outstanding; want one of each", answers, len(a.device().Pending))
	}
}

// TestTokens goes through tokens and challenges that are not what they should be.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	foreign := newWorld(t)
	a, b := w.agent(cose.AlgESP256).requests(componentID("app")), w.agent(cose.AlgESP256)
	b.session()
	u := a.update()
	challenge := a.connect().Challenge
	success := func(token []byte) []byte { return a.protect(&teep.Success{Token: token}) }
	query := func(token []byte) []byte {
		return a.protect(&teep.QueryResponse{Token: token, TrustedComponents: a.components})
	}
	attested := func(nonce []byte) []byte {
		return a.protect(&teep.QueryResponse{
			AttestationFormat: a.mediaType, AttestationPayload: a.evidence(nonce), TrustedComponents: a.components,
		})
	}
	changed := func(at int) []byte {
		c := bytes.Clone(u.Token)
		c[at] ^= 1
		return c
	}
	for _, test := range []struct {
		name string
		data []byte
		says string
	}{
		{"Success without token", success(nil), "not made by this TAM"},
		{"Success with a random token", success(bytes.Repeat([]byte{7}, 44)), "not made by this TAM"},
		{"Success with a short token", success(u.Token[:16]), "not made by this TAM"},
		{"Success with a challenge", success(challenge), "not made by this TAM"},
		{"Success with another TAM's challenge", success(foreign.agent(cose.AlgESP256).connect().Challenge), "not made by this TAM"},
		{"Success with another purpose", success(changed(0)), "not made by this TAM"},
		{"Success with another key generation", success(changed(5)), "not made by this TAM"},
		{"Success with another time", success(changed(11)), "not made by this TAM"},
		{"Success with another random part", success(changed(20)), "not made by this TAM"},
		{"Success with another MAC", success(changed(43)), "not made by this TAM"},
		{"another device's Success", b.protect(&teep.Success{Token: u.Token}), "not made by this TAM"},
		{"QueryResponse with an Update's token", query(u.Token), "not made by this TAM"},
		{"QueryResponse with a challenge as token", query(challenge), "another purpose"},
		{"Evidence with an Update's token as nonce", attested(u.Token), "not made by this TAM"},
		{"Evidence with another TAM's challenge", attested(foreign.agent(cose.AlgESP256).connect().Challenge), "not made by this TAM"},
		{"Evidence with a nonce of its own", attested([]byte("12345678")), "not made by this TAM"},
		{"Evidence without a nonce", attested(nil), "neither token nor challenge"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t, a.w = t, w
			a.ignored(test.data, test.says)
		})
	}
	a.succeed(u) // after all that, the real one still counts
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})
}

func TestExpiredTokens(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	late := a.connect()
	u := a.update()
	w.clock.advance(12 * time.Hour)
	a.ignored(a.protect(a.response(late)), "expired")
	a.ignored(a.protect(&teep.Success{Token: u.Token}), "expired")
}

// TestTokenKeyRotation: tokens made under the old key are good until they expire, at every replica,
// and old keys go.
func TestTokenKeyRotation(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	old, _ := w.replica()
	w.clock.advance(23 * time.Hour)
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	before := a.connect()
	w.clock.advance(2 * time.Hour)
	after := a.connect() // rotates
	keys, err := w.store.TokenKeys(ctx())
	must(t, err)
	if len(keys) != 2 {
		t.Fatalf("%d keys, want the old and the new", len(keys))
	}
	w.tam = old // another replica, which has not seen the new key yet
	if _, ok := a.send(a.response(after)).(*teep.Update); !ok {
		t.Fatalf("a challenge under the new key is refused elsewhere; log:\n%s", w.log)
	}
	if _, ok := a.send(a.response(before)).(*teep.Update); !ok {
		t.Fatalf("a challenge under the old key is refused; log:\n%s", w.log)
	}
	w.clock.advance(30 * time.Hour)
	a.connect()
	keys, err = w.store.TokenKeys(ctx())
	must(t, err)
	if len(keys) != 2 || keys[0].Generation != 2 {
		t.Fatalf("keys of generations %+v are kept", keys[0].Generation)
	}
}

// TestPendingUpdatesAreBounded: a device that never answers does not fill its record.
func TestPendingUpdatesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	first := a.update()
	var last *teep.Update
	for range tam.MaxPendingUpdates + 2 {
		last = a.update()
	}
	if n := len(a.device().Pending); n != tam.MaxPendingUpdates {
		t.Fatalf("%d Updates outstanding", n)
	}
	a.ignored(a.protect(&teep.Success{Token: first.Token}), "gave way")
	a.succeed(last)
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})
}

func TestInvalidMessages(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	a.session()
	valid := a.protect(a.response(a.connect()))
	payload, err := teep.Encode(a.response(a.connect()))
	must(t, err)
	older, err := a.key.SignerFor(cose.AlgES256)
	must(t, err)
	es256, err := cose.Sign1(rand.Reader, payload, older, cose.SignOptions{})
	must(t, err)
	unknownSuite := w.agent(cose.AlgMLDSA65)
	request, err := w.tam.ProcessConnect(ctx())
	must(t, err)
	for name, data := range map[string][]byte{
		"empty":                      {},
		"garbage":                    []byte("POST / HTTP/1.1"),
		"not signed":                 payload,
		"truncated":                  valid[:len(valid)/2],
		"followed by more":           append(bytes.Clone(valid), 0),
		"signature changed":          append(bytes.Clone(valid[:len(valid)-1]), valid[len(valid)-1]^1),
		"ES256 of older peers":       es256,
		"algorithm that is not ours": unknownSuite.protect(unknownSuite.response(a.connect())),
		"the TAM's own message":      request,
		"an Update":                  a.protect(&teep.Update{Token: bytes.Repeat([]byte{1}, 16), ErrorCode: 1}),
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			a.ignored(data, "")
		})
	}
}

func TestIncompleteQueryResponse(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	for name, change := range map[string]func(m *teep.QueryResponse){
		"tc-list missing": func(m *teep.QueryResponse) { m.TrustedComponents = nil },
		"tc-list not understood": func(m *teep.QueryResponse) {
			m.TrustedComponents = []teep.RawMessage{{0xa2, 0x00, 0x81, 0x41, 0x01, 0x03, 0x41, 0x01}}
		},
		"SUIT Report not understood": func(m *teep.QueryResponse) { m.SUITReports = [][]byte{{0xa0}} },
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			m := a.response(a.connect())
			change(m)
			u, ok := a.send(m).(*teep.Update)
			if !ok || u.ErrorCode != teep.ErrPermanentError || u.ErrorMessage == "" {
				t.Fatalf("answer %+v", u)
			}
		})
	}
}

// TestReports holds what TEEP §4.5 and §7.1.2 say of SUIT Reports.
func TestReports(t *testing.T) {
	report := key(t, cose.AlgEd25519)
	for _, test := range []struct {
		name string
		make func(a *agent, u *teep.Update, raw []byte) []byte
		says string // empty: accepted
	}{
		{"unprotected", func(_ *agent, _ *teep.Update, raw []byte) []byte { return raw }, ""},
		{"signed by a report key", func(a *agent, _ *teep.Update, raw []byte) []byte { return sign(a.w.t, raw, report, false) }, ""},
		{"signed, without tag", func(a *agent, _ *teep.Update, raw []byte) []byte { return sign(a.w.t, raw, report, false)[1:] }, ""},
		{"with a MAC", func(a *agent, _ *teep.Update, raw []byte) []byte { return mac(a.w.t, raw) }, ""},
		{"with a MAC, without tag", func(a *agent, _ *teep.Update, raw []byte) []byte { return mac(a.w.t, raw)[1:] }, ""},
		{"encrypted, without tag", func(a *agent, _ *teep.Update, raw []byte) []byte {
			return seal(a.w.t, raw, a.w.encrypt, "SUIT Report Encryption")[2:]
		}, ""},
		{"encrypted and signed", func(a *agent, _ *teep.Update, raw []byte) []byte {
			return sign(a.w.t, seal(a.w.t, raw, a.w.encrypt, "SUIT Report Encryption"), report, false)
		}, ""},
		{"encrypted", func(a *agent, _ *teep.Update, raw []byte) []byte {
			return seal(a.w.t, raw, a.w.encrypt, "SUIT Report Encryption")
		}, ""},
		{"encrypted under the context of EATs", func(a *agent, _ *teep.Update, raw []byte) []byte {
			return seal(a.w.t, raw, a.w.encrypt, "EAT Encryption")
		}, "decrypt"},
		{"encrypted to somebody else", func(a *agent, _ *teep.Update, raw []byte) []byte {
			return seal(a.w.t, raw, key(a.w.t, cose.AlgECDHESA128KW), "SUIT Report Encryption")
		}, "decrypt"},
		{"signed with the message's key", func(a *agent, _ *teep.Update, raw []byte) []byte { return sign(a.w.t, raw, a.key, false) }, "another key is required"},
		{"signed with it, without tag", func(a *agent, _ *teep.Update, raw []byte) []byte { return sign(a.w.t, raw, a.key, false)[1:] }, "another key is required"},
		{"signed with it, without kid", func(a *agent, _ *teep.Update, raw []byte) []byte { return sign(a.w.t, raw, a.key, true) }, "another key is required"},
		{"signed twice", func(a *agent, _ *teep.Update, raw []byte) []byte {
			return sign(a.w.t, sign(a.w.t, raw, report, false), report, false)
		}, "no key is trusted"},
		{"without nonce", func(a *agent, u *teep.Update, _ []byte) []byte { return a.report(u.Manifests[0], nil, nil) }, "nonce"},
		{"with another nonce", func(a *agent, u *teep.Update, _ []byte) []byte {
			return a.report(u.Manifests[0], bytes.Repeat([]byte{1}, 44), nil)
		}, "nonce"},
		{"empty map", func(*agent, *teep.Update, []byte) []byte { return []byte{0xa0} }, "report"},
		{"truncated", func(_ *agent, _ *teep.Update, raw []byte) []byte { return raw[:len(raw)-1] }, "message"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			a := w.agent(cose.AlgESP256).requests(componentID("app"))
			u := a.update()
			payload := &teep.Success{Token: u.Token, SUITReports: [][]byte{test.make(a, u, a.report(u.Manifests[0], u.Token, nil))}}
			data, err := teep.Protect(rand.Reader, payload, signer(t, a.key))
			if err != nil {
				t.Skipf("an agent cannot send it: %v", err)
			}
			if test.says != "" {
				a.ignored(data, test.says)
				return
			}
			if a.sendRaw(data) != nil {
				t.Fatal("answered")
			}
			a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})
		})
	}
}

func sign(t testing.TB, data []byte, k *cose.Key, omitKeyID bool) []byte {
	t.Helper()
	signed, err := cose.Sign1(rand.Reader, data, signer(t, k), cose.SignOptions{OmitKeyID: omitKeyID})
	must(t, err)
	return signed
}

func mac(t testing.TB, data []byte) []byte {
	t.Helper()
	message, err := suit.MACReport(data, key(t, cose.AlgHMAC256))
	must(t, err)
	return message
}

func seal(t testing.TB, data []byte, to *cose.Key, context string) []byte {
	t.Helper()
	sealed, _, err := cose.Encrypt(rand.Reader, data, cose.AlgA128CTR,
		[]cose.Recipient{cose.ECDHESRecipient(to.Public(), context)}, cose.EncryptOptions{})
	must(t, err)
	return sealed
}

// TestErrorsForUpdates goes through what an Error does to what is offered next.
func TestErrorsForUpdates(t *testing.T) {
	covered := make(map[teep.ErrorCode]bool)
	defer func() { coversAssigned(t, covered, teep.ErrAttestationRequired) }() // see TestAttestationRequiredForAnUpdate
	for _, test := range []struct {
		code  teep.ErrorCode
		after time.Duration // when the version is offered again
	}{
		{teep.ErrPermanentError, time.Hour},
		{teep.ErrUnsupportedExtension, time.Hour},
		{teep.ErrBadCertificate, time.Hour},
		{teep.ErrCertificateExpired, time.Hour},
		{teep.ErrTemporaryError, time.Minute},
		{teep.ErrManifestProcessingFailed, time.Hour},
		{teep.ErrUnsupportedCipherSuites, time.Hour}, // the text has no Update answered with these four
		{teep.ErrUnsupportedFreshnessMechanisms, time.Hour},
		{teep.ErrUnsupportedMsgVersion, time.Hour},
		{teep.ErrUnsupportedSUITReport, time.Hour},
		{teep.ErrorCode(22), time.Hour},  // not assigned
		{teep.ErrorCode(999), time.Hour}, // beyond the range: handled all the same
	} {
		covered[test.code] = true
		t.Run(test.code.String(), func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			w.publish(release{name: "other", sequence: 1, payload: "one"})
			a := w.agent(cose.AlgESP256).requests(componentID("app"))
			failure := &teep.Error{
				Token: a.update().Token, Code: test.code, Message: "why",
				CipherSuites: teep.MandatoryCipherSuites(), SUITProfiles: teep.MandatorySUITProfiles(),
				FreshnessMechanisms: []teep.FreshnessMechanism{teep.FreshnessNonce}, Versions: []teep.Version{0},
			}
			a.send(failure)
			a.expect()
			w.clock.advance(test.after - time.Second)
			if a.session() != nil {
				t.Fatal("offered again at once")
			}
			if a.requests(componentID("other")).update(); a.device().Failures[0].Count != 1 {
				t.Fatal("something else is held back too")
			}
			w.clock.advance(time.Second)
			u := a.requests(componentID("app")).update()
			failure.Token = u.Token
			a.send(failure)
			w.clock.advance(2*test.after - time.Second)
			if a.session() != nil {
				t.Fatal("the pause did not double")
			}
			w.publish(release{name: "app", sequence: 2, payload: "two"})
			a.succeed(a.update()) // another version is another matter
			a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 2})
		})
	}
}

// TestAttestationRequiredForAnUpdate: that the TAM has to attest itself before its Update is no
// failure of what is in it (TEEP §7.1.2).
func TestAttestationRequiredForAnUpdate(t *testing.T) {
	w := newWorld(t, func(c *tam.Config) { c.Attester = &tamAttester{} })
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	u := a.update()
	demand := &teep.Error{Token: u.Token, Code: teep.ErrAttestationRequired, Challenge: []byte("12345678")}
	q, ok := a.send(demand).(*teep.QueryRequest)
	if !ok || string(q.AttestationPayload) != "evidence of the TAM" {
		t.Fatalf("answered with %+v", q)
	}
	if u, ok := a.send(a.response(q)).(*teep.Update); !ok || len(u.Manifests) != 1 {
		t.Fatalf("not offered again: %+v", u)
	}
	if a.device().Failures != nil {
		t.Fatalf("failures %+v", a.device().Failures)
	}
}

// TestPartialFailure: reports tell which manifest failed; the other one is installed.
func TestPartialFailure(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "runtime", sequence: 1, payload: "rt"})
	w.publish(release{name: "app", sequence: 1, payload: "one", dependencies: []string{"runtime"}})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	u := a.update()
	if len(u.Manifests) != 2 {
		t.Fatalf("%d manifests, want the dependency first and then the application", len(u.Manifests))
	}
	failure := &suit.Failure{Reason: suit.ReasonConditionFailed, Record: suit.Record{Section: suit.LabelInstall}}
	a.send(&teep.Error{
		Token: u.Token, Code: teep.ErrManifestProcessingFailed,
		SUITReports: [][]byte{a.report(u.Manifests[0], u.Token, nil), a.report(u.Manifests[1], u.Token, failure)},
	})
	a.expect(tam.Installed{Manifest: manifestID("runtime"), Sequence: 1})
	f := a.device().Failures
	if len(f) != 1 || !f[0].Manifest.Equal(manifestID("app")) || !strings.Contains(f[0].Reason, "condition-failed") {
		t.Fatalf("failures %+v", f)
	}
}
