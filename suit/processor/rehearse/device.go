package rehearse

import (
	"fmt"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// Device is what a device is and has. It is not changed by a rehearsal, and may be used for
// several at a time.
type Device struct {
	// Identity answers for every component that Installed gives no identity of its own.
	Identity processor.Identity
	// Components are the prefixes of the component identifiers that the device has; the empty
	// identifier stands for all. Required.
	Components []suit.ComponentID
	// Installed is what is there before the manifests of the description.
	Installed []Component
	// Manifests are installed in their order before the rehearsal begins.
	Manifests []Manifest
	// Payloads are found by their URI.
	Payloads map[string][]byte

	// Battery is in mWh; nil is a device that cannot tell.
	Battery *uint64
	// Clock is the device's time; the zero time is that of the run.
	Clock time.Time
	// AuthorizesPriority is the largest update priority, and so the least urgent, that the
	// device's user agrees to now (update management §suit-parameter-update-priority); nil is a
	// device that has nobody to ask.
	AuthorizesPriority *int64
	// Events are the names of the wait events that come, as in EventNames. For any other one the
	// device would wait without end, which is refused.
	Events []string

	// DecryptKeys unwrap content keys.
	DecryptKeys cose.DecryptKeys
	// Signers are whose manifests the device accepts, and for what.
	Signers []processor.Signer
	// InsecureOlderAlgorithms accepts ES256, ES384 and EdDSA, whose identifiers leave the curve open.
	InsecureOlderAlgorithms bool
	// ImplicitDependencyIntegrity is processor.Config.ImplicitDependencyIntegrity; TEEP Agents have it.
	ImplicitDependencyIntegrity bool
	// Limits that are zero are those of processor.DefaultLimits.
	Limits processor.Limits
}

// Component is one component of a device.
type Component struct {
	ID suit.ComponentID
	// Identity replaces that of the device if it is not nil.
	Identity *processor.Identity
	// Content is nil for a component that holds nothing.
	Content []byte
	// Slot answers suit-condition-component-slot; nil is a component without slots.
	Slot *uint64
	// Version answers suit-condition-version, before the set-version of the manifest that
	// installed the component.
	Version suit.Version
}

// Manifest is one that is installed: by its envelope, or as no more than an identifier and the
// number that later ones have to exceed.
type Manifest struct {
	// Envelope is installed as the device would: signature, conditions and payloads included.
	Envelope []byte
	// ID is needed without an envelope, and for a manifest that has no manifest-component-id.
	ID             suit.ComponentID
	SequenceNumber uint64
	// Components are those that a manifest without an envelope refers to.
	Components []suit.ComponentID
	// Where says in errors where this was described.
	Where string
}

// EventNames are the wait events of the update management text (§5.5).
func EventNames() []string {
	return []string{"authorization", "power", "network", "other-device-version", "time", "time-of-day", "day-of-week",
		"time-of-day-utc", "day-of-week-utc"}
}

// awaited lists the events that a manifest waits for.
func awaited(e suit.WaitEvent) []string {
	var names []string
	for i, there := range []bool{e.Authorization != nil, e.Power != nil, e.Network != nil, e.OtherDeviceVersion != nil,
		e.Time != nil, e.TimeOfDay != nil, e.DayOfWeek != nil, e.TimeOfDayUTC != nil, e.DayOfWeekUTC != nil} {
		if there {
			names = append(names, EventNames()[i])
		}
	}
	return names
}

func (m Manifest) String() string {
	name := "an installed manifest"
	if m.ID != nil {
		name = fmt.Sprintf("installed manifest %v", m.ID)
	}
	if m.Where != "" {
		return m.Where + ": " + name
	}
	return name
}
