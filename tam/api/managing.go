package api

import (
	"context"
	"crypto/x509"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// Managing is what this API needs of a [tam.TAM].
type Managing interface {
	Publishing
	Governing
	Distributing
}

// Publishing is the part of a [tam.TAM] that has to do with publishers and what they publish.
type Publishing interface {
	Publish(ctx context.Context, envelope []byte, publisher string) (*tam.Version, error)
	NotOffered(ctx context.Context) (func(*tam.Version) string, error)
	PayloadsInUse(ctx context.Context) (map[[32]byte]bool, error)
	TrustPublisher(ctx context.Context, p tam.NewPublisher) (*tam.Publisher, error)
	AddPublisherKeys(ctx context.Context, name string, keys []*cose.Key, anchors []*x509.Certificate) (*tam.Publisher, error)
	RenewRevocationLists(ctx context.Context, publisher string, lists [][]byte, remove *bool) error
	RevocationsOf(ctx context.Context, publisher string) (*tam.Revocations, []tam.RevokedVersion, error)
	WithdrawPublisherKey(ctx context.Context, name string, thumbprint []byte, reason string, remove bool) error
}

// Governing is the part of a [tam.TAM] that says which devices should have what.
type Governing interface {
	SetGroup(ctx context.Context, g policy.Group, expect int64) (int64, error)
	DeleteGroup(ctx context.Context, name string, expect int64) error
	SetDomain(ctx context.Context, d policy.Domain, expect int64) (int64, error)
	DeleteDomain(ctx context.Context, name string, expect int64) error
	SetRemoval(ctx context.Context, r policy.Removal, by policy.Person, expect int64) (int64, error)
	DeleteRemoval(ctx context.Context, name string, expect int64) error
	SetAdmission(ctx context.Context, a policy.Admission, expect int64) (int64, error)
	DeleteAdmission(ctx context.Context, name string, expect int64) error
	ChangeAssignment(ctx context.Context, manifest suit.ComponentID, change func(old *tam.Assignment, newest uint64) (*tam.Assignment, error)) (*tam.Assignment, error)
	NewestSequence(ctx context.Context, manifest suit.ComponentID) (uint64, error)

	CreateRollout(ctx context.Context, r policy.Rollout, by policy.Person) (*tam.RolloutStatus, error)
	ActOnRollout(ctx context.Context, name string, a policy.Action, by policy.Person, reason string, expect int64) (*tam.RolloutStatus, error)
	Rollout(ctx context.Context, name string) (*tam.RolloutStatus, error)
	Rollouts(ctx context.Context, archived bool, after string, limit int) ([]tam.RolloutStatus, error)
	DeleteRollout(ctx context.Context, name string, by policy.Person, expect int64) error

	ReplaceDevice(ctx context.Context, id, old, who string) (*tam.Device, error)
	Matching(source string) (func(*tam.Device) bool, error)
	Explain(ctx context.Context, id string) (*tam.Explanation, error)
	Preview(ctx context.Context, p tam.Proposal, o tam.PreviewOptions) (*tam.Preview, error)
}
