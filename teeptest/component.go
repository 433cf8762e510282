package teeptest

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/tam"
)

// The vendor and the class of the devices, which manifests have to name.
const (
	VendorDomain = "example.com"
	ClassName    = "teeptest"
)

// Component makes the signed envelope of an application that answers every command with text. Its
// component identifier is [name], its manifest's [name, 'manifest'], and its program is an
// integrated payload.
func (w *World) Component(name string, sequence uint64, text string) []byte {
	w.t.Helper()
	return w.component(name, sequence, text, "integrated: true")
}

// FetchedComponent is like Component with a program that devices have to fetch.
func (w *World) FetchedComponent(name string, sequence uint64, text string) []byte {
	w.t.Helper()
	uri := w.ServePayload(fmt.Sprintf("%s-%d", name, sequence), Program(text))
	return w.component(name, sequence, text, "uri: "+uri)
}

// Dependent is like Component with a manifest that needs that of another component, in the version that
// the TAM has published last.
func (w *World) Dependent(name string, sequence uint64, text, needs string) []byte {
	w.t.Helper()
	needed := w.Published(needs)
	return w.Envelope(fmt.Sprintf(`
manifest-component-id: [%[1]s, manifest]
sequence-number: %[2]d
vendor: {domain: %[3]s}
class: {name: %[4]s}
components:
  - id: [%[1]s]
    payload: {file: program, integrated: true}
dependencies: [{id: [%[5]s, manifest], file: needed.suit, uri: "%[6]s"}]
`, name, sequence, VendorDomain, ClassName, needs, w.ServePayload(needs+".suit", needed)),
		map[string][]byte{"program": Program(text), "needed.suit": needed})
}

// Published is the newest envelope that was published under the component's name.
func (w *World) Published(name string) []byte {
	w.t.Helper()
	ctx := context.Background()
	var newest *tam.Version
	for after := (tam.VersionCursor{}); ; {
		list, err := w.Store.ListVersions(ctx, after, 100)
		w.must(err)
		for i, v := range list {
			if v.Manifest.Equal(ManifestID(name)) {
				newest = &list[i]
			}
			after = tam.VersionCursor{Manifest: v.Manifest, Sequence: v.Sequence}
		}
		if len(list) < 100 {
			break
		}
	}
	if newest == nil {
		w.t.Fatalf("teeptest: nothing is published of %s", name)
	}
	data, err := w.blobs.Get(ctx, newest.Envelope)
	w.must(err)
	return data
}

func (w *World) component(name string, sequence uint64, text, source string) []byte {
	w.t.Helper()
	return w.Envelope(fmt.Sprintf(`
manifest-component-id: [%[1]s, manifest]
sequence-number: %[2]d
vendor: {domain: %[4]s}
class: {name: %[5]s}
components:
  - id: [%[1]s]
    payload: {file: program, %[3]s}
`, name, sequence, source, VendorDomain, ClassName), map[string][]byte{"program": Program(text)})
}

// EncryptedComponent is like FetchedComponent with a program that is encrypted to the TAM alone, which has
// to be given info: see [tam.TAM.DepositContentKey].
func (w *World) EncryptedComponent(name string, sequence uint64, text string) (envelope, info []byte) {
	w.t.Helper()
	uri := fmt.Sprintf("%s/payloads/%s-%d", w.Server.URL, name, sequence)
	recipient, err := w.Encryption.Public().MarshalPEM()
	w.must(err)
	r := w.build(fmt.Sprintf(`
manifest-component-id: [%[1]s, manifest]
sequence-number: %[2]d
vendor: {domain: %[4]s}
class: {name: %[5]s}
components:
  - id: [%[1]s]
    payload: {file: program, uri: "%[3]s", encrypt: {to: [tam.pub], info: separate}}
`, name, sequence, uri, VendorDomain, ClassName), map[string][]byte{"program": Program(text), "tam.pub": recipient})
	w.ServePayload(fmt.Sprintf("%s-%d", name, sequence), r.Payloads[0].Content)
	return r.Envelope.Encode(), r.Separate[0].Info
}

// Envelope makes an envelope from a description (see package suit/describe) and the files that it
// names, signed by the developer.
func (w *World) Envelope(description string, files map[string][]byte) []byte {
	w.t.Helper()
	return w.build(description, files).Envelope.Encode()
}

// build makes what a description describes; the envelope is signed by the developer.
func (w *World) build(description string, files map[string][]byte) *describe.Result {
	w.t.Helper()
	r, err := describe.Build([]byte(description), describe.Options{
		Name: "teeptest", Rand: rand.Reader,
		ReadFile: func(name string) ([]byte, error) {
			content, ok := files[name]
			if !ok {
				return nil, fmt.Errorf("no file %q", name)
			}
			return content, nil
		},
	})
	w.must(err)
	w.must(r.Envelope.Sign(rand.Reader, w.signer(w.Developer)))
	return r
}

// Publish publishes an envelope at the TAM.
func (w *World) Publish(envelope []byte) {
	w.t.Helper()
	_, err := w.TAM().Publish(context.Background(), envelope, "")
	w.must(err)
}

// Assign says what devices should have of a component made by [World.Component]; no devices means
// all of them.
func (w *World) Assign(name string, mode tam.Mode, devices ...*Device) {
	w.t.Helper()
	a := tam.Assignment{Manifest: ManifestID(name), Mode: mode}
	for _, d := range devices {
		a.Devices = append(a.Devices, d.ID())
	}
	w.must(w.Store.PutAssignment(context.Background(), a))
}

// DistributionPrefix begins the identifiers of the TAM's own manifests, and of where it may put data.
func DistributionPrefix() suit.ComponentID { return suit.NewComponentID("keys") }

// ManifestID is the manifest component identifier of a component made by [World.Component].
func ManifestID(name string) suit.ComponentID { return suit.NewComponentID(name, "manifest") }
