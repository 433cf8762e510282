package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/go-teep/teep/internal/cbor"
)

// Action names a kind of change. The names are stable: exports are read by programs.
type Action string

// The actions.
const (
	ActionVersionPublish  Action = "version.publish"
	ActionVersionWithdraw Action = "version.withdraw"
	ActionPolicySet       Action = "policy.set"
	ActionPolicyDelete    Action = "policy.delete"
	ActionPublisherAdd    Action = "publisher.add"
	ActionPublisherRevoke Action = "publisher.revoke"
	ActionTokenCreate     Action = "token.create"
	ActionTokenRevoke     Action = "token.revoke"
	ActionDepositPut      Action = "deposit.put"
	ActionDepositRemove   Action = "deposit.remove"
	ActionWebhookCreate   Action = "webhook.create"
	ActionWebhookDelete   Action = "webhook.delete"
	ActionDeviceStatus    Action = "device.status"
	ActionDeviceUpdate    Action = "device.update"
	ActionPublisherKeys   Action = "publisher.keys"
	ActionKeyWithdraw     Action = "publisher.key-withdraw"
	// ActionRevocationLists puts certificate revocation lists in force for the signers below a publisher's anchors.
	ActionRevocationLists Action = "publisher.revocations"
	// The keys of the TAM itself.
	ActionKeysNext    Action = "keys.next"
	ActionKeysRotate  Action = "keys.rotate"
	ActionKeysRetire  Action = "keys.retire"
	ActionKeysEncrypt Action = "keys.encrypt"
	// Tenants of the service: made by the command, and not served any more because their configuration is gone. They are in the
	// log of the service, not in that of the tenant.
	ActionTenantCreate Action = "tenant.create"
	ActionTenantRemove Action = "tenant.remove"
	// Further actions are those on records of policy: group.set, group.delete, domain.set,
	// domain.delete, removal.set, removal.delete, admission.set, admission.delete, rollout.create,
	// rollout.approve, rollout.pause, rollout.resume, rollout.advance, rollout.abort, rollout.archive, rollout.delete and, by the TAM
	// itself, rollout.progress.
)

// Actor is who makes a change.
type Actor struct {
	// Via is the way in: api, console or command-line.
	Via string
	// ID identifies the actor for good: the ID of an API token.
	ID string
	// Name is for people, and may be given twice.
	Name string
}

type actorKey struct{}

// WithActor says on whose behalf the calls that get the context act.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns who acts; where nobody was named, the TAM itself.
func ActorOf(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Via: "tam", Name: "teep-tam"}
}

// Hash is a SHA-256; as text it is hexadecimal.
type Hash [sha256.Size]byte

// String writes the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("audit: a hash has %d hexadecimal digits, not %d", 2*len(h), len(text))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Head is the end of a chain: the newest entry. The zero value is that of an empty chain.
type Head struct {
	Seq  int64 `json:"seq"`
	Hash Hash  `json:"hash"`
}

// Entry is one change.
type Entry struct {
	// Seq counts entries from 1 without a gap.
	Seq int64 `json:"seq"`
	// At is when, to the millisecond.
	At      time.Time `json:"at"`
	Via     string    `json:"via"`
	ActorID string    `json:"actorId"`
	Actor   string    `json:"actor"`
	Action  Action    `json:"action"`
	// Target is what was changed: a component identifier, a name, the ID of a device or token.
	Target string `json:"target"`
	// Detail is one sentence for people. It holds no secrets.
	Detail string `json:"detail"`
	// Prev is the hash of the entry before; zero in the first.
	Prev Hash `json:"prev"`
	Hash Hash `json:"hash"`
}

// maxText bounds each text of an entry, in bytes.
const maxText = 2000

// New describes a change by the context's actor. It becomes part of a chain with [Entry.Seal].
func New(ctx context.Context, at time.Time, action Action, target, detail string) Entry {
	a := ActorOf(ctx)
	return Entry{
		At: at.UTC().Truncate(time.Millisecond), Via: clean(a.Via), ActorID: clean(a.ID), Actor: clean(a.Name),
		Action: action, Target: clean(target), Detail: clean(detail),
	}
}

// clean makes a text that every store and every export gives back as it is.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// Seal makes e the entry that follows the head.
func (e *Entry) Seal(head Head) error {
	e.Seq, e.Prev = head.Seq+1, head.Hash
	h, err := e.sum()
	e.Hash = h
	return err
}

// Head returns the end of the chain that e closes.
func (e *Entry) Head() Head { return Head{e.Seq, e.Hash} }

// sum computes the hash: SHA-256 of the deterministic CBOR of
//
//	[version: 1, seq: uint, at: int ; Unix milliseconds
//	 via: tstr, actor-id: tstr, actor: tstr, action: tstr, target: tstr, detail: tstr, prev: bstr .size 32]
//
// CBOR and not the JSON of the export, because JSON is often written anew by the tools it passes.
func (e *Entry) sum() (Hash, error) {
	data, err := cbor.Marshal([]any{1, e.Seq, e.At.UnixMilli(), e.Via, e.ActorID, e.Actor, string(e.Action), e.Target, e.Detail, e.Prev[:]})
	if err != nil {
		return Hash{}, fmt.Errorf("audit: entry %d: %w", e.Seq, err)
	}
	return sha256.Sum256(data), nil
}
