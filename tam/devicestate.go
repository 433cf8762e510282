package tam

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/suit"
)

// State is the JSON of everything in d that stores keep in one piece: what encoding/json makes of d, byte for
// byte. Every message stores a device, and finding out by reflection what a Device is made of would be a good
// part of what that costs. [json.Unmarshal] reads it.
func (d *Device) State() ([]byte, error) {
	w := stateWriter{b: make([]byte, 0, 1024)}
	w.b = append(w.b, '{')
	w.bytes("ueid", d.UEID)
	w.bytes("oemid", d.OEMID)
	w.bytes("hwmodel", d.HWModel)
	w.text("hwversion", d.HWVersion)
	w.bytes("encryptionKey", d.EncryptionKey)
	w.bytes("tamKey", d.TAMKey)
	w.attestation(&d.Attestation)
	if len(d.Inventory) > 0 {
		w.name("inventory")
		w.inventory(d.Inventory)
	}
	if len(d.Pending) > 0 {
		w.name("pending")
		w.pending(d.Pending)
	}
	// Few devices have any of these, or they are short.
	if len(d.Failures) > 0 {
		w.any("failures", d.Failures)
	}
	if len(d.Deliveries) > 0 {
		w.any("deliveries", d.Deliveries)
	}
	if len(d.Labels) > 0 {
		w.any("labels", d.Labels)
	}
	w.text("decidedBy", d.DecidedBy)
	w.text("replaces", d.Replaces)
	w.text("replacedBy", d.ReplacedBy)
	if len(d.Formerly) > 0 {
		w.any("formerly", d.Formerly)
	}
	if len(d.Rollouts) > 0 {
		w.name("rollouts")
		w.rollouts(d.Rollouts)
	}
	if d.InventoryMark != 0 {
		w.name("inventoryMark")
		w.b = append(strconv.AppendUint(append(w.b, '"'), d.InventoryMark, 10), '"')
	}
	w.b = append(w.b, '}')
	if w.err != nil {
		return nil, fmt.Errorf("tam: state of device %s: %w", d.ID, w.err)
	}
	return w.b, nil
}

// stateWriter writes JSON. The first error sticks.
type stateWriter struct {
	b   []byte
	err error
}

// next begins a member or element: with a comma, if it is not the first.
func (w *stateWriter) next() {
	if last := w.b[len(w.b)-1]; last != '{' && last != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *stateWriter) name(name string) {
	w.next()
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

// any writes a member as encoding/json does.
func (w *stateWriter) any(name string, v any) {
	w.name(name)
	w.reflected(v)
}

func (w *stateWriter) reflected(v any) {
	data, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, data...)
}

// bytes writes a member that is left out when it is empty.
func (w *stateWriter) bytes(name string, v []byte) {
	if len(v) > 0 {
		w.name(name)
		w.base64(v)
	}
}

func (w *stateWriter) base64(v []byte) {
	if v == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(base64.StdEncoding.AppendEncode(append(w.b, '"'), v), '"')
}

// text writes a member that is left out when it is empty.
func (w *stateWriter) text(name, v string) {
	if v != "" {
		w.name(name)
		w.quoted(v)
	}
}

func (w *stateWriter) quoted(v string) {
	for i := range len(v) {
		if c := v[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			w.reflected(v) // it has to be escaped, or looked at
			return
		}
	}
	w.b = append(append(append(w.b, '"'), v...), '"')
}

func (w *stateWriter) uint(name string, v uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, v, 10)
}

func (w *stateWriter) time(name string, v time.Time) {
	w.name(name)
	if y := v.Year(); v.Location() != time.UTC || y < 0 || y > 9999 {
		w.reflected(v) // what cannot be written is for the library to say
		return
	}
	w.b = append(v.AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
}

func (w *stateWriter) attestation(a *Attestation) {
	w.name("attestation")
	w.b = append(w.b, '{')
	w.name("status")
	w.b = strconv.AppendInt(w.b, int64(a.Status), 10)
	w.bytes("measurement", a.Measurement)
	if len(a.Reasons) > 0 {
		w.name("reasons")
		w.reasons(a.Reasons)
	}
	if !a.At.IsZero() {
		w.time("at", a.At)
	}
	w.b = append(w.b, '}')
}

func (w *stateWriter) reasons(list []attest.Reason) {
	w.b = append(w.b, '[')
	for i := range list {
		r := &list[i]
		w.next()
		w.b = append(w.b, '{')
		w.name("Claim")
		w.quoted(r.Claim)
		w.name("Status")
		w.b = strconv.AppendInt(w.b, int64(r.Status), 10)
		w.name("Text")
		w.quoted(r.Text)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']')
}

func (w *stateWriter) component(id suit.ComponentID) {
	if id == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = append(w.b, '[')
	for _, part := range id {
		w.next()
		w.base64(part)
	}
	w.b = append(w.b, ']')
}

func (w *stateWriter) inventory(list []Installed) {
	w.b = append(w.b, '[')
	for i := range list {
		w.next()
		w.b = append(w.b, '{')
		w.name("manifest")
		w.component(list[i].Manifest)
		w.uint("sequence", list[i].Sequence)
		w.bytes("digest", list[i].Digest)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']')
}

func (w *stateWriter) pending(list []PendingUpdate) {
	w.b = append(w.b, '[')
	for i := range list {
		p := &list[i]
		w.next()
		w.b = append(w.b, '{')
		w.name("token")
		w.b = append(w.b, '[')
		for _, b := range p.Token {
			w.next()
			w.b = strconv.AppendUint(w.b, uint64(b), 10)
		}
		w.b = append(w.b, ']')
		w.time("expires", p.Expires)
		if len(p.Offered) > 0 {
			w.name("offered")
			w.inventory(p.Offered)
		}
		if len(p.Unlinked) > 0 {
			w.any("unlinked", p.Unlinked)
		}
		if len(p.Deliveries) > 0 {
			w.any("deliveries", p.Deliveries)
		}
		w.bytes("key", p.Key)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']')
}

func (w *stateWriter) rollouts(list []RolloutProgress) {
	w.b = append(w.b, '[')
	for i := range list {
		r := &list[i]
		w.next()
		w.b = append(w.b, '{')
		w.name("rollout")
		w.quoted(r.Rollout)
		w.name("manifest")
		w.component(r.Manifest)
		w.uint("sequence", r.Sequence)
		w.name("stage")
		w.b = strconv.AppendInt(w.b, int64(r.Stage), 10)
		w.name("progress")
		w.quoted(string(r.Progress))
		w.time("at", r.At)
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']')
}

// clone copies everything that the TAM changes in place.
func (d *Device) clone() *Device {
	c := *d
	c.Inventory = slices.Clone(d.Inventory)
	c.Pending = slices.Clone(d.Pending)
	c.Failures = slices.Clone(d.Failures)
	c.Rollouts = slices.Clone(d.Rollouts)
	return &c
}
