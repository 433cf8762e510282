package distribute

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Delivery describes the one manifest that brings a device all that is its own beside a developer's
// manifest: the key to the payload, and any number of data. Two manifests that depend on the same one
// could only be replaced together (trust domains §suit-directive-process-dependency), so a
// distribution system that has both for a device puts them into one.
type Delivery struct {
	// ID is the manifest-component-id of the new manifest, SequenceNumber rises with each version.
	ID             suit.ComponentID
	SequenceNumber uint64
	// Developer is the developer's signed envelope, which is put inside. Nothing in it changes.
	Developer *suit.Envelope
	// Identity says which devices the manifest is for; the zero value takes vendor and class
	// from the developer's manifest.
	Identity
	// Key opens the developer's payload; nil if it is not encrypted, or not to this distribution
	// system.
	Key *suit.PayloadKey
	// Data is put into components of its own, encrypted.
	Data []Data
}

// Data is content for one component of the device.
type Data struct {
	Component suit.ComponentID
	Content   []byte
}

// Encrypt wraps the key and encrypts the data to the devices, usually one, and makes the manifest,
// not signed yet.
func (v Delivery) Encrypt(rand io.Reader, devices ...*cose.Key) (*suit.Envelope, error) {
	if v.ID == nil {
		return nil, errors.New("distribute: Delivery.ID is missing: the manifest needs a manifest-component-id of its own")
	}
	developer, err := newTarget(v.Developer, "")
	if err != nil {
		return nil, err
	}
	if developer.id.Equal(v.ID) {
		return nil, fmt.Errorf("distribute: Delivery.ID %v is the developer's: a manifest cannot depend on itself", v.ID)
	}
	if v.Identity, err = orOf(v.Identity, developer.manifest); err != nil {
		return nil, err
	}
	d := &draft{identity: v.Identity, dependency: developer}
	d.manifest.ComponentID, d.manifest.SequenceNumber = v.ID, v.SequenceNumber
	for _, data := range v.Data {
		if len(data.Component) == 0 {
			return nil, errors.New("distribute: Data.Component is missing: where is the data put?")
		}
		d.own = append(d.own, data.Component)
	}
	before, err := v.wrapped(rand, developer.manifest, devices)
	if err != nil {
		return nil, err
	}
	d.common()
	d.process(before)
	for i, data := range v.Data {
		if err := d.write(rand, uint64(i), data.Content, devices); err != nil {
			return nil, err
		}
	}
	d.unlink()
	return d.build()
}

// wrapped returns what comes before the dependency is processed: the wrapped key, where it is used.
func (v Delivery) wrapped(rand io.Reader, developer *suit.Manifest, devices []*cose.Key) (func(suit.Label) []suit.Command, error) {
	if v.Key == nil {
		return func(suit.Label) []suit.Command { return nil }, nil
	}
	if err := UsesKey(developer); err != nil {
		return nil, err
	}
	recipients, err := recipientsOf(devices)
	if err != nil {
		return nil, err
	}
	info, err := v.Key.EncryptionInfo(rand, recipients...)
	if err != nil {
		return nil, fmt.Errorf("distribute: %w", err)
	}
	return setsInfo(info)
}

// write adds the commands that put data, encrypted in the manifest, into a component of its own. The
// tag of the ciphertext vouches for it on the device, the manifest's signature for the ciphertext.
func (d *draft) write(rand io.Reader, index uint64, content []byte, devices []*cose.Key) error {
	ciphertext, info, err := Personalization{}.encrypt(rand, content, devices)
	if err != nil {
		return err
	}
	var p, expected suit.Parameters
	if err := p.SetEncryptionInfo(info); err != nil {
		return fmt.Errorf("distribute: %w", err)
	}
	p.SetContent(ciphertext)
	expected.SetSize(uint64(len(content)))
	d.manifest.Install.Commands = append(d.manifest.Install.Commands, suit.SetComponentIndex(index), suit.OverrideParameters(p),
		suit.Directive(suit.DirWrite, suit.ReportRecordOnFailure))
	shared := &d.manifest.Common.SharedSequence
	shared.Commands = append(shared.Commands, suit.SetComponentIndex(index), suit.OverrideParameters(expected))
	return nil
}
