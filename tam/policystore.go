package tam

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// Policies holds what operators say about groups of devices: records of package policy, as JSON.
type Policies interface {
	// PolicyRecords lists the records of a kind by name, ascending, beginning after `after`.
	PolicyRecords(ctx context.Context, kind RecordKind, after string, limit int) ([]PolicyRecord, error)
	// PolicyRecord finds a record.
	PolicyRecord(ctx context.Context, kind RecordKind, name string) (*PolicyRecord, error)
	// ChangePolicy makes one change, if record and catalogue still are as it expects: ErrConflict
	// otherwise. The catalogue's revision rises, and the audit log has an entry.
	ChangePolicy(ctx context.Context, c PolicyChange) error
	// RolloutCounts lists how many devices of each stage of a rollout are where, by stage and
	// progress, ascending. Its cost does not depend on how many devices or Updates there were.
	RolloutCounts(ctx context.Context, rollout string) ([]RolloutCount, error)
}

// RecordKind is a kind of policy record.
type RecordKind string

// The kinds.
const (
	KindGroup     RecordKind = "group"
	KindDomain    RecordKind = "domain"
	KindRemoval   RecordKind = "removal"
	KindAdmission RecordKind = "admission"
	KindRollout   RecordKind = "rollout"
	// KindRevocations are the revocation lists of publishers, by their name.
	KindRevocations RecordKind = "revocations"
)

// PolicyRecord is a stored record of policy.
type PolicyRecord struct {
	Kind RecordKind
	Name string
	// Revision rises with each change of this record, and is not that of another record of this name before it: a new
	// one begins above the revision that the catalogue has.
	Revision int64
	// Data is the JSON of a [policy.Group], [policy.Domain], [policy.Removal], [policy.Admission]
	// or [policy.Rollout], or [Revocations] with the name of their publisher.
	Data []byte
}

// PolicyChange creates, replaces or removes a record.
type PolicyChange struct {
	Kind RecordKind
	Name string
	// Revision is the one that the record must have; 0: it must not exist yet.
	Revision int64
	// Data is the new content; nil removes the record.
	Data []byte
	// Catalogue is the revision that the catalogue must have; 0: any.
	Catalogue int64
	// Action and Detail are for the audit log.
	Action, Detail string
	// Event, if not nil, is appended to the feed in the same step; it is a rollout's.
	Event *Event
}

// RolloutCount is a number of devices, or a change of it.
type RolloutCount struct {
	Rollout  string
	Stage    int
	Progress policy.Progress
	Devices  int64
}

// CounterShards is how many rows a store spreads each count over, so that devices that answer at the
// same time seldom wait for each other. Which one is taken does not matter to the sum.
const CounterShards = 16

// Identities finds devices by what they are and have.
type Identities interface {
	// DevicesByUEID lists the devices with an attested UEID by ID: the TEEs of one device, and
	// records that others took the place of.
	DevicesByUEID(ctx context.Context, ueid []byte) ([]Device, error)
	// DevicesWith lists the devices that have a version installed by ID, ascending, beginning after
	// the ID `after`. Sequence number 0 is a version that is not known here.
	DevicesWith(ctx context.Context, manifest suit.ComponentID, sequence uint64, after string, limit int) ([]Device, error)
	// CountInstalled counts the devices that have each version, by manifest and sequence number, ascending,
	// beginning after the given cursor.
	CountInstalled(ctx context.Context, after VersionCursor, limit int) ([]InstalledCount, error)
}

// CountAllInstalled counts the devices that have each version there is, in the store's order. In a large fleet that
// takes a store long.
func CountAllInstalled(ctx context.Context, s Identities) (all []InstalledCount, err error) {
	const page = 1000
	for after := (VersionCursor{}); ; {
		list, err := s.CountInstalled(ctx, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		if len(list) < page {
			return all, nil
		}
		after = VersionCursor{Manifest: list[page-1].Manifest, Sequence: list[page-1].Sequence}
	}
}

// InstalledCount is how many devices have a version.
type InstalledCount struct {
	Manifest suit.ComponentID
	Sequence uint64
	Devices  int64
}

// decodeRecord decodes a record of policy.
func decodeRecord[T any](r *PolicyRecord) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(r.Data, v); err != nil {
		return nil, fmt.Errorf("tam: %s %s: %w", r.Kind, r.Name, err)
	}
	return v, nil
}

// allRecords reads all records of a kind.
func allRecords[T any](ctx context.Context, s Policies, kind RecordKind) ([]T, error) {
	var list []T
	for after := ""; ; {
		page, err := s.PolicyRecords(ctx, kind, after, cataloguePage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			v, err := decodeRecord[T](&page[i])
			if err != nil {
				return nil, err
			}
			list = append(list, *v)
			after = page[i].Name
		}
		if len(page) < cataloguePage {
			return list, nil
		}
	}
}
