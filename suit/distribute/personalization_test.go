package distribute_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/distribute"
	"github.com/go-teep/teep/suit/processor"
)

func (w *world) settings(number uint64, d *device) distribute.Personalization {
	return distribute.Personalization{ID: suit.NewComponentID("keys", "config"), SequenceNumber: number, Component: config,
		Identity: distribute.Identity{Vendor: vendor, Class: class, Device: d.id}}
}

// Each device gets its own data, in the manifest or beside it, and nobody else can read it.
func TestPersonalizationPerDevice(t *testing.T) {
	for _, alg := range []cose.Algorithm{0, cose.AlgChaCha20Poly1305, cose.AlgA128CTR} {
		for _, uri := range []string{"", "https://tam.example/config"} {
			t.Run(fmt.Sprintf("%v %s", alg, uri), func(t *testing.T) {
				w := newWorld(t)
				first, second := w.device("one"), w.device("two")
				var made []*suit.Envelope
				for _, d := range []*device{first, second} {
					p := w.settings(1, d)
					p.Algorithm, p.URI = alg, uri
					data := []byte("licence of " + d.id.String())
					e, ciphertext, err := p.Encrypt(rand.Reader, data, d.key.Public())
					if err != nil {
						t.Fatal(err)
					}
					if (uri == "") != (ciphertext == nil) {
						t.Errorf("ciphertext beside the manifest: %d bytes", len(ciphertext))
					}
					whole := append(e.Encode(), ciphertext...)
					sum := suit.NewDigest(data)
					if bytes.Contains(whole, []byte("licence")) || bytes.Contains(whole, sum.Bytes) != (alg == cose.AlgA128CTR) {
						t.Error("the manifest tells what it must not")
					}
					d.Serve(uri, ciphertext)
					if err := d.update(sign(t, e, w.tam)); err != nil {
						t.Fatal(err)
					}
					d.wants(config, string(data))
					d.Serve(uri, nil)
					if _, err := d.p.Validate(t.Context(), p.ID, processor.Options{}); err != nil {
						t.Error(err)
					}
					made = append(made, e)
				}
				third := w.device("one") // the same name, but another key
				third.Serve(uri, nil)
				if err := third.update(made[0]); err == nil {
					t.Error("another device can read it")
				}
				if err := w.device("three").update(made[0]); failureOf(t, err).Reason != suit.ReasonConditionFailed {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// Data that belongs to an application brings it along, keeps it as long as it is needed, and goes
// before it.
func TestPersonalizationOfAnApplication(t *testing.T) {
	w := newWorld(t)
	d := w.device("one")
	application := w.described(`
manifest-component-id: [hello, manifest]
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [hello], payload: {file: app, integrated: true}, invoke: true}]`)
	for number, data := range []string{"colour=green", "colour=blue"} {
		p := distribute.Personalization{ID: suit.NewComponentID("keys", "config"), SequenceNumber: uint64(number + 1),
			Component: config, Application: application}
		e, _, err := p.Encrypt(rand.Reader, []byte(data), d.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.update(sign(t, e, w.tam)); err != nil {
			t.Fatal(err)
		}
		d.wants(config, data)
		d.wants(app, secretApp)
	}
	if _, err := d.p.Uninstall(t.Context(), suit.NewComponentID("hello", "manifest"), processor.Options{}); !errors.Is(err, processor.ErrReferenced) {
		t.Errorf("the application was removed under its data: %v", err)
	}
	if err := d.update(application); err != nil { // wanted for its own sake, too
		t.Fatal(err)
	}
	if _, err := d.p.Uninstall(t.Context(), suit.NewComponentID("keys", "config"), processor.Options{}); err != nil {
		t.Fatal(err)
	}
	d.wants(config, "")
	d.wants(app, secretApp)
}

func TestPersonalizationRefuses(t *testing.T) {
	w := newWorld(t)
	d := w.device("one")
	good := w.settings(1, d)
	for name, c := range map[string]struct {
		change func(p *distribute.Personalization)
		want   string
	}{
		"no ID":                  {func(p *distribute.Personalization) { p.ID = nil }, "needs ID"},
		"no component":           {func(p *distribute.Personalization) { p.Component = nil }, "Component"},
		"no vendor":              {func(p *distribute.Personalization) { p.Vendor = suit.VendorID{} }, "Vendor and Class"},
		"a signature algorithm":  {func(p *distribute.Personalization) { p.Algorithm = cose.AlgESP256 }, "does not encrypt payloads"},
		"an unsigned dependency": {func(p *distribute.Personalization) { p.Application = &suit.Envelope{} }, "not signed"},
	} {
		p := good
		c.change(&p)
		if _, _, err := p.Encrypt(rand.Reader, []byte("x"), d.key.Public()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := good.Encrypt(rand.Reader, []byte("x")); err == nil {
		t.Error("encrypted for nobody")
	}
	// The TAM may write the settings, but not elsewhere.
	p := good
	p.Component = app
	e, _, err := p.Encrypt(rand.Reader, []byte("x"), d.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.update(sign(t, e, w.tam)); failureOf(t, err).Reason != suit.ReasonComponentUnauthorised {
		t.Errorf("got %v", err)
	}
}
