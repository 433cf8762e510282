package distribute

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Key describes a manifest that gives one device the key to a developer's payload.
type Key struct {
	// ID is the manifest-component-id of the new manifest; the distribution system's signer must
	// be allowed to use it. It is the same for all versions that one device gets.
	ID suit.ComponentID
	// SequenceNumber rises with each version of this manifest, whatever the developer's does.
	SequenceNumber uint64
	// Developer is the developer's signed envelope. Nothing in it changes.
	Developer *suit.Envelope
	// DeveloperURI is where devices fetch it; empty puts it into the new envelope.
	DeveloperURI string
	// Identity says which devices the manifest is for; the zero value takes vendor and class
	// from the developer's manifest.
	Identity
}

// Wrap wraps the content key of the developer's payload to the recipients, which usually is the one
// device, and makes the manifest that brings it there, not signed yet.
func (k Key) Wrap(rand io.Reader, key *suit.PayloadKey, recipients ...*cose.Key) (*suit.Envelope, error) {
	list, err := recipientsOf(recipients)
	if err != nil {
		return nil, err
	}
	info, err := key.EncryptionInfo(rand, list...)
	if err != nil {
		return nil, fmt.Errorf("distribute: %w", err)
	}
	return k.Build(info)
}

// Build is Wrap for an encryption info that was made elsewhere, such as in an HSM.
func (k Key) Build(encryptionInfo []byte) (*suit.Envelope, error) {
	if k.ID == nil {
		return nil, errors.New("distribute: Key.ID is missing: the manifest needs a manifest-component-id of its own")
	}
	developer, err := newTarget(k.Developer, k.DeveloperURI)
	if err != nil {
		return nil, err
	}
	if developer.id.Equal(k.ID) {
		return nil, fmt.Errorf("distribute: Key.ID %v is the developer's: a manifest cannot depend on itself", k.ID)
	}
	if k.Identity, err = orOf(k.Identity, developer.manifest); err != nil {
		return nil, err
	}
	if err := UsesKey(developer.manifest); err != nil {
		return nil, err
	}
	before, err := setsInfo(encryptionInfo)
	if err != nil {
		return nil, err
	}
	d := &draft{identity: k.Identity, dependency: developer}
	d.manifest.ComponentID, d.manifest.SequenceNumber = k.ID, k.SequenceNumber
	d.common()
	d.process(before)
	d.unlink()
	return d.build()
}

// recipientsOf makes the recipients of payloads out of keys.
func recipientsOf(keys []*cose.Key) ([]cose.Recipient, error) {
	list := make([]cose.Recipient, len(keys))
	for i, key := range keys {
		var err error
		if list[i], err = suit.PayloadRecipient(key); err != nil {
			return nil, fmt.Errorf("distribute: recipient %d: %w", i, err)
		}
	}
	return list, nil
}

// setsInfo gives the dependency its encryption info, where a key is used. Set, not override: what
// the developer fixed stays fixed (trust domains §suit-directive-set-parameters).
func setsInfo(encryptionInfo []byte) (func(suit.Label) []suit.Command, error) {
	var wrapped suit.Parameters
	if err := wrapped.SetEncryptionInfo(encryptionInfo); err != nil {
		return nil, fmt.Errorf("distribute: %w", err)
	}
	return func(label suit.Label) []suit.Command {
		if label != suit.LabelPayloadFetch && label != suit.LabelInstall {
			return nil
		}
		return []suit.Command{suit.SetParameters(wrapped)}
	}, nil
}

// orOf fills in what an identity leaves open from the manifest that it is about.
func orOf(i Identity, m *suit.Manifest) (Identity, error) {
	if i.complete() {
		return i, nil
	}
	of, err := IdentityOf(m)
	of.Device = i.Device
	return of, err
}
