package tam

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/distribute"
)

// DepositKind says what was deposited.
type DepositKind string

// The kinds of deposit.
const (
	// DepositContentKey is the key to the encrypted payload of one published version.
	DepositContentKey DepositKind = "content-key"
	// DepositData is personalization data for devices that have a manifest.
	DepositData DepositKind = "data"
)

// Deposit is something that the TAM is to bring to devices, each encrypted to the device alone. At
// rest it is encrypted to the TAM: only one of [Config].DecryptionKeys opens it.
type Deposit struct {
	// ID is derived from Kind, Manifest, Sequence, Component, Device and Group: there is one of each.
	ID   string      `json:"id"`
	Kind DepositKind `json:"kind"`
	// Manifest is the SUIT Manifest Component ID of the developer's manifest that it is for.
	Manifest suit.ComponentID `json:"manifest"`
	// Sequence is the version that a content key opens; 0 for data.
	Sequence uint64 `json:"sequence,omitempty"`
	// Component is where data is put; nil for a content key.
	Component suit.ComponentID `json:"component,omitempty"`
	// Device limits data to one device, by ID, and Group to the devices that are in a group of
	// policy at the time; both empty: every device that gets the manifest.
	Device string `json:"device,omitempty"`
	Group  string `json:"group,omitempty"`
	// EncryptionInfo is a SUIT_Encryption_Info whose recipient is the TAM. Ciphertext is the
	// data; for a content key it is nil, because the TAM needs no payload.
	EncryptionInfo []byte    `json:"encryptionInfo"`
	Ciphertext     []byte    `json:"ciphertext,omitempty"`
	Deposited      time.Time `json:"deposited"`
}

// Limits of a deposit. Data travels in the manifest, and every device has to keep that.
const (
	MaxDepositInfo = 8 << 10
	MaxDepositData = 64 << 10
)

// What a deposit can be refused for. The text of an error that wraps one of them says what to do.
var (
	// ErrDeposit says that it is not what it should be, or cannot be used.
	ErrDeposit = errors.New("tam: deposit refused")
	// ErrNoDistribution says that this TAM signs no manifests of its own.
	ErrNoDistribution = errors.New("tam: this TAM distributes no keys and no data: its configuration names no key to sign with (distribution)")
)

// Deposits keeps what the TAM is to bring to devices.
type Deposits interface {
	// PutDeposit creates the deposit or replaces the one of the same ID. The catalogue's revision rises.
	PutDeposit(ctx context.Context, d Deposit) error
	// RemoveDeposit removes a deposit; ErrNotFound when there is none. The catalogue's revision rises.
	RemoveDeposit(ctx context.Context, id string) error
	// DepositsFor lists, by ID, the deposits for exactly that device; empty: those that name none, which
	// are for all or for a group.
	DepositsFor(ctx context.Context, device string) ([]Deposit, error)
	// ListDeposits lists deposits by ID, ascending, beginning after `after`.
	ListDeposits(ctx context.Context, after string, limit int) ([]Deposit, error)
}

// Describe says what a deposit is, and nothing of what is in it.
func (d Deposit) Describe() string {
	if d.Kind == DepositContentKey {
		return fmt.Sprintf("content key for sequence number %d", d.Sequence)
	}
	whose := "every device"
	switch {
	case d.Device != "":
		whose = "device " + d.Device
	case d.Group != "":
		whose = "group " + d.Group
	}
	return fmt.Sprintf("data for %v of %s", d.Component, whose)
}

// identify fills in the ID.
func (d *Deposit) identify() {
	h := sha256.New()
	parts := []string{string(d.Kind), d.Manifest.Key(), fmt.Sprint(d.Sequence), d.Component.Key(), d.Device}
	if d.Group != "" {
		parts = append(parts, d.Group)
	}
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	d.ID = hex.EncodeToString(h.Sum(nil)[:16])
}

// fingerprint tells whether the same things were deposited.
func fingerprint(deposits []Deposit) []byte {
	h := sha256.New()
	for _, d := range deposits {
		sum := sha256.Sum256(slices.Concat(d.EncryptionInfo, d.Ciphertext))
		fmt.Fprintf(h, "%s:%x", d.ID, sum)
	}
	return h.Sum(nil)[:16]
}

// DepositRecipient is the public key that deposits are encrypted to.
func (t *TAM) DepositRecipient() (*cose.Key, error) {
	decrypt := t.keys.Load().decrypt
	if t.distribution == nil || len(decrypt) == 0 {
		return nil, ErrNoDistribution
	}
	return decrypt[0].Public(), nil
}

// DepositContentKey takes the key to a payload that a developer encrypted with its encryption info kept
// out of the manifest. It may come before the version is published, and should: devices are not offered
// the version without it as soon as any version of the manifest had one. publisher limits for whom it
// may be; empty means any.
func (t *TAM) DepositContentKey(ctx context.Context, manifest suit.ComponentID, sequence uint64, info []byte, publisher string) (*Deposit, error) {
	d := Deposit{Kind: DepositContentKey, Manifest: manifest, Sequence: sequence, EncryptionInfo: info}
	if err := t.checkDeposit(&d); err != nil {
		return nil, err
	}
	if publisher != "" {
		p, err := t.store.Publisher(ctx, publisher)
		if err != nil {
			return nil, fmt.Errorf("tam: looking up publisher %q: %w", publisher, err)
		}
		if !p.Revoked.IsZero() {
			return nil, fmt.Errorf("%w: publisher %q was revoked", ErrNotYourSigner, publisher)
		}
		if err := p.allows(&Version{Manifest: manifest}); err != nil {
			return nil, err
		}
	}
	c, err := t.currentCatalogue(ctx)
	if err != nil {
		return nil, err
	}
	if m := c.manifests[manifest.Key()]; m != nil && m.version(sequence) != nil {
		v := m.version(sequence)
		if publisher != "" && v.Publisher != publisher {
			return nil, fmt.Errorf("%w: it is %q's", ErrNotYourSigner, v.Publisher)
		}
		if err := t.fits(ctx, v, info); err != nil {
			return nil, err
		}
	}
	return &d, t.deposit(ctx, &d)
}

// fits finds out whether the version would use a key at all.
func (t *TAM) fits(ctx context.Context, v *Version, info []byte) error {
	data, err := t.envelopes.get(ctx, v)
	if err != nil {
		return err
	}
	developer, err := suit.ParseEnvelope(data)
	if err == nil {
		_, err = distribute.Key{ID: t.distribution.idFor(v.Manifest), SequenceNumber: 1, Developer: developer}.Build(info)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDeposit, err)
	}
	return nil
}

// Audience says which of the devices that have a manifest get data; the zero value says all of them. Not
// both may be set.
type Audience struct {
	// Devices are named one by one, by ID.
	Devices []string
	// Group is one of policy: who is in it is found out anew in each session.
	Group string
}

// DepositData takes data for one component of the devices that have a manifest. What was deposited for the
// same audience before gives way. What a device is named for goes before what its groups get (the one of the
// highest priority first, and of two the first by name), and that before what all get.
func (t *TAM) DepositData(ctx context.Context, manifest, component suit.ComponentID, to Audience, info, ciphertext []byte) ([]Deposit, error) {
	devices := to.Devices
	switch {
	case to.Group != "" && len(devices) > 0:
		return nil, fmt.Errorf("%w: it is for a group and for devices: deposit it for each of them", ErrDeposit)
	case to.Group != "":
		if _, err := t.store.PolicyRecord(ctx, KindGroup, to.Group); err != nil {
			return nil, fmt.Errorf("tam: looking up group %q: %w", to.Group, err)
		}
		devices = []string{""}
	case len(devices) == 0:
		devices = []string{""}
	}
	var all []Deposit
	for _, device := range devices {
		d := Deposit{Kind: DepositData, Manifest: manifest, Component: component, Device: device, Group: to.Group, EncryptionInfo: info, Ciphertext: ciphertext}
		if err := t.checkDeposit(&d); err != nil {
			return nil, err
		}
		if device != "" {
			if _, err := t.store.Device(ctx, device); err != nil {
				return nil, fmt.Errorf("tam: looking up device %q: %w", device, err)
			}
		}
		all = append(all, d)
	}
	for i := range all {
		if err := t.deposit(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// checkDeposit refuses what could not be delivered. Nothing of the content gets into an error.
func (t *TAM) checkDeposit(d *Deposit) error {
	switch {
	case t.distribution == nil || len(t.keys.Load().decrypt) == 0:
		return ErrNoDistribution
	case len(d.Manifest) == 0:
		return fmt.Errorf("%w: it names no manifest", ErrDeposit)
	case len(d.EncryptionInfo) > MaxDepositInfo || len(d.Ciphertext) > MaxDepositData:
		return fmt.Errorf("%w: at most %d bytes of encryption info and %d of data are kept; let a payload bring what is larger", ErrDeposit, MaxDepositInfo, MaxDepositData)
	}
	if d.Kind == DepositData && !t.distribution.mayPut(d.Component) {
		return fmt.Errorf("%w: this TAM may not put data into component %v: add it to distribution.components, and to what agents trust its signer with", ErrDeposit, d.Component)
	}
	key, err := suit.RecoverPayloadKey(d.EncryptionInfo, cose.DecryptKeys(t.keys.Load().decrypt))
	if err != nil {
		return fmt.Errorf("%w: the encryption info cannot be opened with this TAM's key; encrypt to the one that the API names as recipient: %w", ErrDeposit, err)
	}
	if d.Kind == DepositData {
		if !key.Algorithm().IsAuthenticated() {
			return fmt.Errorf("%w: %v does not notice changes; encrypt data with A128GCM", ErrDeposit, key.Algorithm())
		}
		if _, err := t.openData(d); err != nil {
			return fmt.Errorf("%w: the data does not belong to its encryption info: %w", ErrDeposit, err)
		}
	}
	d.identify()
	d.Deposited = t.clock().UTC()
	return nil
}

// openData decrypts personalization data.
func (t *TAM) openData(d *Deposit) ([]byte, error) {
	r, err := suit.DecryptPayload(d.EncryptionInfo, cose.DecryptKeys(t.keys.Load().decrypt), bytes.NewReader(d.Ciphertext), int64(len(d.Ciphertext)))
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	_, err = plain.ReadFrom(r)
	return plain.Bytes(), err
}

func (t *TAM) deposit(ctx context.Context, d *Deposit) error {
	if err := t.store.PutDeposit(ctx, *d); err != nil {
		return fmt.Errorf("tam: storing a deposit: %w", err)
	}
	t.log.InfoContext(ctx, "deposit taken", "manifest", d.Manifest.String(), "what", d.Describe())
	return nil
}
