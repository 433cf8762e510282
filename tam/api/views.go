package api

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// Version is a published version, as the API shows it.
type Version struct {
	Manifest     string      `json:"manifest"`
	Sequence     uint64      `json:"sequence,string"` // a string, because JSON numbers lose digits beyond 2⁵³
	Digest       string      `json:"digest"`          // hexadecimal
	Components   []Component `json:"components"`
	Dependencies []string    `json:"dependencies"`
	Size         int64       `json:"size"` // of the envelope, in bytes
	Publisher    string      `json:"publisher"`
	// Signer is the thumbprint of the key that signed it, and Anchor the SHA-256 of the certificate
	// that the key was trusted by, hexadecimal.
	Signer string `json:"signer,omitempty"`
	Anchor string `json:"anchor,omitempty"`
	// Expires is when the first certificate of that signer ends; it is not offered from then on.
	Expires  *time.Time `json:"expires,omitempty"`
	Uploaded time.Time  `json:"uploaded"`
	// Withdrawn is set once the version is no longer offered.
	Withdrawn       *time.Time `json:"withdrawn,omitempty"`
	WithdrawnReason string     `json:"withdrawnReason,omitempty"`
	// NotOffered says why no device is offered it: it was withdrawn, or its signer does not count any more.
	NotOffered string `json:"notOffered,omitempty"`
}

// Component is a component that a version installs.
type Component struct {
	ID     string `json:"id"`
	Digest string `json:"digest,omitempty"`
	Size   uint64 `json:"size,omitempty"`
}

func viewVersion(v *tam.Version) Version {
	view := Version{
		Manifest: v.Manifest.String(), Sequence: v.Sequence, Digest: hex.EncodeToString(v.Digest),
		Components: []Component{}, Dependencies: stringIDs(v.Dependencies), Size: v.Size, Publisher: v.Publisher,
		Signer: hex.EncodeToString(v.Signer), Anchor: hex.EncodeToString(v.Anchor), Expires: timePointer(v.Expires), Uploaded: v.Uploaded, Withdrawn: timePointer(v.Withdrawn), WithdrawnReason: v.WithdrawnReason,
	}
	for _, c := range v.Components {
		view.Components = append(view.Components, Component{c.ID.String(), hex.EncodeToString(c.Digest), c.Size})
	}
	return view
}

// Device is a device, as the API shows it.
type Device struct {
	ID        string           `json:"id"`
	Status    tam.DeviceStatus `json:"status"`
	Revision  int64            `json:"revision"` // also the ETag
	FirstSeen time.Time        `json:"firstSeen"`
	LastSeen  time.Time        `json:"lastSeen"`
	// UEID, OEMID (the CBOR of the claim) and HWModel are hexadecimal.
	UEID        string      `json:"ueid"`
	OEMID       string      `json:"oemid,omitempty"`
	HWModel     string      `json:"hwmodel,omitempty"`
	HWVersion   string      `json:"hwversion,omitempty"`
	Attestation Attestation `json:"attestation"`
	// EncryptionKey is the SHA-256 thumbprint (RFC 9679), hexadecimal, of the attested key that content keys
	// and data are wrapped to; absent if the device's Evidence names none.
	EncryptionKey string      `json:"encryptionKey,omitempty"`
	Inventory     []Installed `json:"inventory"`
	// Deliveries are the TAM's own manifests, which bring the device its keys and data.
	Deliveries []Delivery `json:"deliveries"`
	// Pending counts the Updates that were not answered yet.
	Pending  int               `json:"pending"`
	Failures []Failure         `json:"failures"`
	Labels   map[string]string `json:"labels"`
	// DecidedBy is what the status comes from: attestation, allow-list, rule NAME, person NAME, or nobody.
	DecidedBy string `json:"decidedBy,omitempty"`
	// Replaces and ReplacedBy are records of the same device under another agent key.
	Replaces   string            `json:"replaces,omitempty"`
	ReplacedBy string            `json:"replacedBy,omitempty"`
	Rollouts   []RolloutOnDevice `json:"rollouts"`
}

// RolloutOnDevice is how far a rollout came on a device.
type RolloutOnDevice struct {
	Rollout  string          `json:"rollout"`
	Manifest string          `json:"manifest"`
	Sequence uint64          `json:"sequence,string"`
	Stage    int             `json:"stage"` // from 1
	Progress policy.Progress `json:"progress"`
	At       time.Time       `json:"at"`
}

// Attestation is the outcome of the newest appraisal, claim by claim.
type Attestation struct {
	Status      string     `json:"status"` // affirming, warning, contraindicated or none
	At          *time.Time `json:"at,omitempty"`
	Measurement string     `json:"measurement,omitempty"` // hexadecimal
	Claims      []Claim    `json:"claims"`
}

// Claim is what was found about one claim, and why it counts as it does.
type Claim struct {
	Claim  string `json:"claim"`
	Status string `json:"status"`
	Text   string `json:"text"`
}

// Installed is a manifest that is installed. Sequence 0 means a version that is not known here.
type Installed struct {
	Manifest string `json:"manifest"`
	Sequence uint64 `json:"sequence,string"`
}

// Delivery is a manifest of the TAM around one of a developer's.
type Delivery struct {
	Manifest string `json:"manifest"` // the developer's
	Sequence uint64 `json:"sequence,string"`
	Done     bool   `json:"done"` // the device has it
}

// Failure is a version that failed on the device and is held back until a time.
type Failure struct {
	Manifest string    `json:"manifest"`
	Sequence uint64    `json:"sequence,string"` // 0: its removal failed
	Count    int       `json:"count"`
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason,omitempty"`
}

func viewDevice(d *tam.Device) Device {
	view := Device{
		ID: d.ID, Status: d.Status, Revision: d.Revision, FirstSeen: d.FirstSeen.UTC(), LastSeen: d.LastSeen.UTC(),
		UEID: hex.EncodeToString(d.UEID), OEMID: hex.EncodeToString(d.OEMID), HWModel: hex.EncodeToString(d.HWModel),
		HWVersion: d.HWVersion, Inventory: []Installed{}, Deliveries: []Delivery{}, Pending: len(d.Pending), Failures: []Failure{},
		Attestation: Attestation{
			Status: d.Attestation.Status.String(), At: timePointer(d.Attestation.At),
			Measurement: hex.EncodeToString(d.Attestation.Measurement), Claims: []Claim{},
		},
	}
	for _, r := range d.Attestation.Reasons {
		view.Attestation.Claims = append(view.Attestation.Claims, Claim{r.Claim, r.Status.String(), r.Text})
	}
	for _, i := range d.Inventory {
		view.Inventory = append(view.Inventory, Installed{i.Manifest.String(), i.Sequence})
	}
	for _, v := range d.Deliveries {
		view.Deliveries = append(view.Deliveries, Delivery{v.Manifest.String(), v.Sequence, v.Done})
	}
	if key, err := cose.ParseKey(d.EncryptionKey); err == nil {
		view.EncryptionKey = hex.EncodeToString(key.Thumbprint())
	}
	for _, f := range d.Failures {
		view.Failures = append(view.Failures, Failure{f.Manifest.String(), f.Sequence, f.Count, f.Until.UTC(), f.Reason})
	}
	view.Labels, view.DecidedBy, view.Replaces, view.ReplacedBy = map[string]string{}, d.DecidedBy, d.Replaces, d.ReplacedBy
	maps.Copy(view.Labels, d.Labels)
	view.Rollouts = []RolloutOnDevice{}
	for _, r := range d.Rollouts {
		view.Rollouts = append(view.Rollouts, RolloutOnDevice{r.Rollout, r.Manifest.String(), r.Sequence, r.Stage + 1, r.Progress, r.At.UTC()})
	}
	return view
}

// Event is an entry of a device's history.
type Event struct {
	ID     int64         `json:"id"`
	At     time.Time     `json:"at"`
	Kind   tam.EventKind `json:"kind"`
	Detail string        `json:"detail"`
}

func viewEvent(e *tam.Event) Event { return Event{e.ID, e.At.UTC(), e.Kind, e.Detail} }

// Policy is what devices should have of one manifest.
type Policy struct {
	Manifest string   `json:"manifest"`
	Mode     tam.Mode `json:"mode"` // available, required or forbidden
	// Devices limits it to some devices, by ID; empty means all.
	Devices []string `json:"devices,omitempty"`
	// Staged says that versions above StagedFrom reach devices by a rollout only.
	Staged     bool   `json:"staged,omitempty"`
	StagedFrom uint64 `json:"stagedFrom,omitempty,string"`
}

func viewPolicy(a *tam.Assignment) Policy {
	return Policy{a.Manifest.String(), a.Mode, a.Devices, a.Staged, a.StagedFrom}
}

// Publisher is a Trusted Component Signer.
type Publisher struct {
	Name string `json:"name"`
	// Keys are the SHA-256 thumbprints (RFC 9679) of its keys, hexadecimal.
	Keys     []string   `json:"keys"`
	Prefixes []string   `json:"prefixes"`
	Created  time.Time  `json:"created"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	// Anchors are the SHA-256 of its authorities' certificates, hexadecimal.
	Anchors []string `json:"anchors"`
	// Withdrawn are keys and certificates that no longer count.
	Withdrawn []WithdrawnKey `json:"withdrawn"`
}

// WithdrawnKey is a key or certificate that no longer counts.
type WithdrawnKey struct {
	Key    string    `json:"key"` // hexadecimal
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Remove bool      `json:"remove"` // what it signed is taken off devices
}

func viewPublisher(p *tam.Publisher) Publisher {
	view := Publisher{
		Name: p.Name, Keys: []string{}, Prefixes: stringIDs(p.Prefixes), Created: p.Created, Revoked: timePointer(p.Revoked),
	}
	for _, data := range p.Keys {
		if k, err := cose.ParseKey(data); err == nil {
			view.Keys = append(view.Keys, hex.EncodeToString(k.Thumbprint()))
		}
	}
	view.Anchors, view.Withdrawn = []string{}, []WithdrawnKey{}
	for _, der := range p.Anchors {
		sum := sha256.Sum256(der)
		view.Anchors = append(view.Anchors, hex.EncodeToString(sum[:]))
	}
	for _, w := range p.Withdrawn {
		view.Withdrawn = append(view.Withdrawn, WithdrawnKey{hex.EncodeToString(w.Thumbprint), w.At, w.Reason, w.Remove})
	}
	return view
}

// NewPublisher describes a publisher to add.
type NewPublisher struct {
	Name string `json:"name"`
	// Keys are public keys in PEM (PKIX).
	Keys []string `json:"keys,omitempty"`
	// Anchors are certificates, in PEM, of authorities that certify its signers.
	Anchors []string `json:"anchors,omitempty"`
	// Prefixes are the component identifiers that it may sign, each with everything below.
	Prefixes []string `json:"prefixes"`
}

// Token describes a token of this API, without its secret.
type Token struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	Publisher string   `json:"publisher,omitempty"`
	// Owner is the person whose token it is.
	Owner   string     `json:"owner,omitempty"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	Revoked *time.Time `json:"revoked,omitempty"`
	// Secret is the token itself, in the answer to its making only.
	Secret string `json:"secret,omitempty"`
}

func viewToken(t *tam.APIToken) Token {
	return Token{
		ID: t.ID, Name: t.Name, Scopes: t.Scopes, Publisher: t.Publisher, Owner: t.Owner,
		Created: t.Created, Expires: t.Expires, Revoked: timePointer(t.Revoked),
	}
}

// NewToken describes a token to make.
type NewToken struct {
	Name      string  `json:"name"`
	Scopes    []Scope `json:"scopes"`
	Publisher string  `json:"publisher,omitempty"`
	// Owner is the person whose token it is; without one, that of the token that makes it, or the person
	// who does.
	Owner    string   `json:"owner,omitempty"`
	Lifetime Duration `json:"lifetime"`
}

// Duration is a time.Duration written as "24h".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}
