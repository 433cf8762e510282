package distribute

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// Personalization describes a manifest that brings data to one device, or to a group of devices:
// settings, licences, credentials. The data is encrypted to them and lies in the manifest, or in a
// payload beside it.
type Personalization struct {
	// ID is the manifest-component-id, SequenceNumber rises with each version of the data.
	ID             suit.ComponentID
	SequenceNumber uint64
	// Component is where the data is put.
	Component suit.ComponentID
	// Identity says which devices it is for; vendor and class may come from the application.
	Identity
	// Application, if set, is the signed envelope of what reads the data: it is installed
	// before, and stays as long as the data needs it. ApplicationURI is where devices fetch
	// it; empty puts it into the new envelope.
	Application    *suit.Envelope
	ApplicationURI string
	// Algorithm encrypts the data; 0 is A128GCM. One that does not authenticate needs a digest of
	// the data in the manifest, with which everybody can try out guesses of the data: prefer one
	// that does.
	Algorithm cose.Algorithm
	// URI, if set, is where devices will fetch the ciphertext, which Encrypt returns; without it
	// the ciphertext is in the manifest, which suits data of up to some kilobytes.
	URI string
}

// Encrypt encrypts data to the devices and makes the manifest, not signed yet. The ciphertext is
// returned only if it is to be served at URI.
func (p Personalization) Encrypt(rand io.Reader, data []byte, devices ...*cose.Key) (e *suit.Envelope, ciphertext []byte, err error) {
	if p.ID == nil || len(p.Component) == 0 {
		return nil, nil, errors.New("distribute: Personalization needs ID, the manifest-component-id, and Component, where the data is put")
	}
	d := &draft{own: []suit.ComponentID{p.Component}}
	if p.URI != "" {
		d.own = append(d.own, p.Component.Join(suit.NewComponentID("encrypted")))
	}
	d.manifest.ComponentID, d.manifest.SequenceNumber = p.ID, p.SequenceNumber
	if p.Application != nil {
		if d.dependency, err = newTarget(p.Application, p.ApplicationURI); err != nil {
			return nil, nil, err
		}
		if p.Identity, err = orOf(p.Identity, d.dependency.manifest); err != nil {
			return nil, nil, err
		}
	}
	if !p.complete() {
		return nil, nil, errors.New("distribute: Personalization needs Vendor and Class, or an Application that states them")
	}
	d.identity = p.Identity
	ciphertext, info, err := p.encrypt(rand, data, devices)
	if err != nil {
		return nil, nil, err
	}
	d.common()
	d.process(func(suit.Label) []suit.Command { return nil })
	if err := p.install(d, data, ciphertext, info); err != nil {
		return nil, nil, err
	}
	d.unlink()
	if e, err = d.build(); err != nil {
		return nil, nil, err
	}
	if p.URI == "" {
		ciphertext = nil
	}
	return e, ciphertext, nil
}

func (p Personalization) algorithm() cose.Algorithm {
	if p.Algorithm == 0 {
		return cose.AlgA128GCM
	}
	return p.Algorithm
}

func (p Personalization) encrypt(rand io.Reader, data []byte, devices []*cose.Key) (ciphertext, info []byte, err error) {
	recipients, err := recipientsOf(devices)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	info, err = suit.EncryptPayload(rand, bytes.NewReader(data), &out, p.algorithm(), recipients...)
	if err != nil {
		return nil, nil, fmt.Errorf("distribute: %w", err)
	}
	return out.Bytes(), info, nil
}

// install adds the commands that decrypt and check the data, after the application's own. Data in the
// manifest is vouched for by its signature; a ciphertext beside it by its digest, and it is fetched
// into a component of its own first (firmware encryption §3.2, §4).
func (p Personalization) install(d *draft, data, ciphertext, info []byte) error {
	var expected, from suit.Parameters
	if err := from.SetEncryptionInfo(info); err != nil {
		return fmt.Errorf("distribute: %w", err)
	}
	expected.SetSize(uint64(len(data)))
	check := suit.Condition(suit.CondImageMatch, suit.ReportAll)
	install := &d.manifest.Install.Commands
	code := suit.DirWrite
	if p.URI == "" {
		from.SetContent(ciphertext)
	} else {
		var staged suit.Parameters
		staged.SetDigest(suit.NewDigest(ciphertext))
		staged.SetSize(uint64(len(ciphertext)))
		staged.SetURI(p.URI)
		*install = append(*install, suit.SetComponentIndex(1), suit.OverrideParameters(staged),
			suit.Directive(suit.DirFetch, suit.ReportRecordOnFailure), check)
		from.SetSourceComponent(1)
		code = suit.DirCopy
	}
	*install = append(*install, suit.SetComponentIndex(0), suit.OverrideParameters(from),
		suit.Directive(code, suit.ReportRecordOnFailure))
	if !p.algorithm().IsAuthenticated() {
		expected.SetDigest(suit.NewDigest(data))
		*install = append(*install, check)
		d.manifest.Validate.Commands = append(d.manifest.Validate.Commands, suit.SetComponentIndex(0), check)
	}
	shared := &d.manifest.Common.SharedSequence
	shared.Commands = append(shared.Commands, suit.SetComponentIndex(0), suit.OverrideParameters(expected))
	return nil
}
