package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

// filled are databases with what fillWith puts there, by the text: made once each, and copied from then on.
var filled struct {
	sync.Mutex
	databases map[string][]byte
}

// newFilled is a service with a fleet whose texts are text.
func newFilled(t *testing.T, text string, change ...func(*Config)) *service {
	t.Helper()
	filled.Lock()
	defer filled.Unlock()
	database := filepath.Join(t.TempDir(), "tam.db")
	if filled.databases[text] == nil {
		if filled.databases == nil {
			filled.databases = map[string][]byte{}
		}
		first := sqlitetest.Database(t, t.TempDir())
		s := serviceOn(t, first)
		s.fillWith(t.Context(), text)
		must(t, s.store.Close())
		data, err := os.ReadFile(first)
		must(t, err)
		filled.databases[text] = data
	}
	must(t, os.WriteFile(database, filled.databases[text], 0o600))
	return serviceOn(t, database, change...)
}

// fillWith puts a fleet into the store whose texts are text, and a third device whose ID is.
func (s *service) fillWith(ctx context.Context, hostile string) {
	s.t.Helper()
	id := suit.NewComponentID("acme", hostile)
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(s.t, err)
	public, err := key.Public().MarshalCBOR()
	must(s.t, err)
	must(s.t, s.store.AddPublisher(ctx, tam.Publisher{Name: hostile, Keys: [][]byte{public}, Anchors: [][]byte{anchor}, Prefixes: []suit.ComponentID{id}, Created: s.now}))
	for n := range 2 {
		must(s.t, s.store.AddVersion(ctx, tam.Version{
			Manifest: id, Sequence: uint64(n + 1), Digest: bytes.Repeat([]byte{0x5a, byte(n)}, 16), Publisher: hostile, Signer: key.Thumbprint(), Anchor: thumbprint(anchor), Uploaded: s.now, Size: 400,
			Components: []tam.VersionComponent{{ID: id, Digest: bytes.Repeat([]byte{3}, 32), Size: 1_234_567}}, Dependencies: []suit.ComponentID{id},
		}))
	}
	must(s.t, s.store.WithdrawVersion(ctx, id, 1, hostile, s.now))
	must(s.t, s.store.PutAssignment(ctx, tam.Assignment{Manifest: id, Mode: tam.ModeRequired, Devices: []string{hostile}}))
	for n, status := range []attest.Status{attest.StatusAffirming, attest.StatusContraindicated, attest.StatusWarning} {
		d := &tam.Device{
			ID: []string{"0123", "4567", hostile}[n], KeyThumbprint: bytes.Repeat([]byte{byte(n)}, 32), AgentKey: []byte{1}, Status: tam.DeviceAccepted,
			FirstSeen: s.now, LastSeen: s.now, UEID: []byte{1, 2}, HWVersion: hostile,
			Attestation: tam.Attestation{Status: status, At: s.now, Measurement: []byte{9},
				Reasons: []attest.Reason{{Claim: hostile, Status: status, Text: hostile}}},
			Inventory: []tam.Installed{{Manifest: id, Sequence: 2}},
			Failures:  []tam.Failure{{Manifest: id, Sequence: 2, Count: 1, Until: s.now, Reason: hostile}},
			Labels:    map[string]string{"site": hostile, hostile: "x"}, DecidedBy: "rule " + hostile,
			Deliveries: []tam.Delivery{{Manifest: id, Version: 2}},
		}
		must(s.t, s.store.CommitExchange(ctx, tam.Exchange{Device: d,
			Event: &tam.Event{DeviceID: d.ID, At: s.now, Kind: tam.EventFailed, Detail: hostile}}))
	}
	s.record(ctx, key, hostile)
	s.govern(ctx, id.String(), hostile)
	s.tell(ctx, id, hostile)
	for h := range 40 {
		must(s.t, s.store.AddField(ctx, s.now.Add(time.Duration(h-39)*time.Hour), []tam.InstalledCount{
			{Manifest: id, Sequence: 1, Devices: int64(1000 - 20*h)}, {Manifest: id, Sequence: 2, Devices: int64(20 * h)},
			{Manifest: id, Sequence: 0, Devices: 3},
		}))
		must(s.t, s.store.AddActivity(ctx, []tam.Activity{
			{Hour: s.now.Add(-time.Duration(h) * time.Hour), Kind: tam.EventAttested, Count: int64(20 + h*h%37)},
			{Hour: s.now.Add(-time.Duration(h) * time.Hour), Kind: tam.EventFailed, Count: int64(h % 5)},
		}))
	}
}

// govern puts a group, a rollout and a removal into the store, which speak of a manifest and a text.
func (s *service) govern(ctx context.Context, manifest, text string) {
	s.t.Helper()
	match := "hwversion != " + strconv.QuoteToASCII(text+"!")
	person := policy.Person{ID: "0", Name: text}
	_, err := s.tam.SetGroup(ctx, policy.Group{Name: "edge", Match: match, Priority: 3,
		Components: []policy.Component{{Manifest: "'acme'/'other'", Mode: policy.ModeAvailable}}}, tam.ExpectNew)
	must(s.t, err)
	_, err = s.tam.CreateRollout(ctx, policy.Rollout{
		Name: "spring", Manifest: manifest, Sequence: 3, Match: match, Require: true,
		Stages:  []policy.Stage{{Percent: 10, Soak: policy.Duration(time.Hour)}, {Group: "edge"}, {Percent: 100}},
		Windows: []policy.Window{{Days: []string{"mon", "sun"}, From: "12:00", To: "13:00"}},
	}, person)
	must(s.t, err)
	for range 2 { // it begins, and its devices are counted
		must(s.t, s.tam.AdvanceRollouts(ctx))
	}
	_, err = s.tam.SetDomain(ctx, policy.Domain{Name: "edge", Owner: text, Manifests: []string{manifest}}, tam.ExpectNew)
	must(s.t, err)
	_, err = s.tam.SetAdmission(ctx, policy.Admission{Name: "edge", Match: match, Labels: map[string]string{"site": "lab"}}, tam.ExpectNew)
	must(s.t, err)
	_, err = s.tam.SetRemoval(ctx, policy.Removal{Name: "edge", Manifest: "'acme'/'leaks'", Match: match, Reason: "it leaks " + text}, person, tam.ExpectNew)
	must(s.t, err)
}

// tell puts webhooks and deposits into the store that speak of a manifest and a text.
func (s *service) tell(ctx context.Context, id suit.ComponentID, text string) {
	s.t.Helper()
	must(s.t, s.store.AddWebhook(ctx, tam.Webhook{ID: "0123", URL: "https://events.example/" + text, Kinds: []tam.EventKind{tam.EventFailed}, Secret: []byte{1}, Created: s.now,
		WebhookProgress: tam.WebhookProgress{Position: 1200, Failures: 3, Next: s.now.Add(time.Minute), LastError: "the receiver answered 500 " + text}}))
	must(s.t, s.store.PutDeposit(ctx, tam.Deposit{ID: "0123", Kind: tam.DepositData, Manifest: id, Component: id, Device: "0123", EncryptionInfo: []byte{1}, Ciphertext: []byte{2}, Deposited: s.now}))
	must(s.t, s.store.PutDeposit(ctx, tam.Deposit{ID: "4567", Kind: tam.DepositContentKey, Manifest: id, Sequence: 2, EncryptionInfo: []byte{1}, Deposited: s.now}))
}

// anchor stands for the certificate of a publisher.
var anchor = []byte("certificate")

func thumbprint(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }

// recordedMessage is the message of device 0123 that fillWith puts into the store.
const recordedMessage = "1772368200000000"

// record puts a message of device 0123 with a text in it into the store, and one that is no message.
func (s *service) record(ctx context.Context, key *cose.Key, text string) {
	s.t.Helper()
	signer, err := key.Signer()
	must(s.t, err)
	data, err := teep.Protect(rand.Reader, &teep.Error{
		Code: teep.ErrTemporaryError, Message: teep.NetUnicode("text " + text), Token: []byte("12345678"),
	}, signer)
	must(s.t, err)
	id, err := strconv.ParseInt(recordedMessage, 10, 64)
	must(s.t, err)
	must(s.t, s.store.AddRecorded(ctx, []tam.Recorded{
		{DeviceID: "0123", ID: id, At: s.now, Direction: tam.DirectionReceived, Asked: s.now, Size: len(data), Data: data},
		{DeviceID: "0123", ID: id + 1, At: s.now, Direction: tam.DirectionSent, Size: len(text), Data: []byte(text)},
	}, 10))
}
