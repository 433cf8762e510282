package tam_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// FuzzAnySequenceOfMessagesLeavesTheTAMConsistent plays any sequence of messages of two agents, honest
// and not, against two replicas, and checks after each step that the TAM believes nothing that it
// was not told by the device itself: the inventory holds only versions that the TAM sent and the
// device acknowledged, no message counts twice, and no record grows without bound.
func FuzzAnySequenceOfMessagesLeavesTheTAMConsistent(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 1, 2})                               // install
	f.Add([]byte{0, 1, 3, 9, 0, 1, 2})                            // fail, wait, install
	f.Add([]byte{0, 1, 4, 4, 2, 4, 5, 4})                         // replays
	f.Add([]byte{0, 1, 2, 6, 0, 1, 2, 8, 0, 1, 2})                // update, then another agent
	f.Add([]byte{0, 1, 7, 2, 0, 7, 1, 2, 10, 0, 1, 11, 12, 0, 1}) // replicas, damage, removal
	w := newWorld(f)                                              // one store for all: opening one costs more than a sequence
	other, _ := w.replica()
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 48 {
			t.Skip("long sequences find nothing that short ones do not")
		}
		w.t = t
		p := newPlay(t, w, other)
		for _, step := range steps {
			p.step(step)
			p.check()
		}
	})
}

type play struct {
	*world
	t        *testing.T
	replicas [2]*tam.TAM
	agents   [2]*agent
	app      string // published in this play alone
	now      int    // the agent whose turn it is
	sequence uint64
	request  *teep.QueryRequest
	update   *teep.Update
	sent     [][]byte
	used     map[string]bool // messages that had an effect
	acked    [2]uint64       // the highest sequence number that the agent acknowledged
}

func newPlay(t *testing.T, w *world, other *tam.TAM) *play {
	p := &play{world: w, t: t, used: make(map[string]bool), replicas: [2]*tam.TAM{w.tam, other}}
	for i, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		p.agents[i] = w.agent(alg)
	}
	p.app = tam.DeviceID(p.agents[0].key.Thumbprint())
	for _, a := range p.agents {
		a.requests(componentID(p.app))
	}
	p.publishNext()
	return p
}

func (p *play) publishNext() {
	p.sequence++
	p.publish(release{name: p.app, sequence: p.sequence, payload: string(rune('a' + p.sequence%26))})
}

// deliver sends a message and keeps what comes back.
func (p *play) deliver(data []byte) {
	a := p.agents[p.now]
	p.sent = append(p.sent, data)
	reply, err := p.replicas[0].ProcessTeepMessage(ctx(), data)
	must(p.t, err)
	if len(reply) == 0 {
		return
	}
	opened, err := teep.Open(reply, p.tamKeys, teep.OpenOptions{})
	must(p.t, err)
	switch m := opened.Message.(type) {
	case *teep.Update:
		if opened.Algorithm != a.key.Alg() && p.used[string(data)] {
			p.t.Fatal("a replay was answered")
		}
		if m.ErrorCode == 0 {
			if p.used[string(data)] {
				p.t.Fatal("one message was answered twice with an Update")
			}
			p.used[string(data)] = true
			p.update = m
		}
	case *teep.QueryRequest:
		p.request = m
	default:
		p.t.Fatalf("the TAM sent a %v", m.Type())
	}
}

func (p *play) step(b byte) {
	a := p.agents[p.now]
	switch b % 13 {
	case 0:
		data, err := p.replicas[0].ProcessConnect(ctx())
		must(p.t, err)
		p.request = a.open(data).(*teep.QueryRequest)
	case 1:
		if p.request != nil {
			p.deliver(a.protect(a.response(p.request)))
		}
	case 2:
		p.acknowledge(&teep.Success{})
	case 3:
		p.acknowledge(&teep.Error{Code: teep.ErrManifestProcessingFailed})
	case 4: // replay something
		if n := len(p.sent); n > 0 {
			p.deliver(p.sent[int(b/13)%n])
		}
	case 5:
		p.deliver(bytes.Repeat([]byte{b}, int(b)))
	case 6:
		p.publishNext()
	case 7:
		p.replicas[0], p.replicas[1] = p.replicas[1], p.replicas[0]
	case 8:
		p.now = 1 - p.now
	case 9:
		p.clock.advance(time.Duration(b) * 10 * time.Minute)
	case 10: // damage something
		if n := len(p.sent); n > 0 {
			data := bytes.Clone(p.sent[n-1])
			if len(data) > 0 {
				data[int(b)*7%len(data)] ^= 1 << (b % 8)
			}
			p.deliver(data)
		}
	case 11:
		p.deliver(a.protect(&teep.Error{Code: teep.ErrorCode(b%25 + 1), CipherSuites: teep.MandatoryCipherSuites(),
			Versions: []teep.Version{0}, SUITProfiles: teep.MandatorySUITProfiles(),
			FreshnessMechanisms: []teep.FreshnessMechanism{teep.FreshnessNonce}}))
	case 12:
		a.unneeded = []teep.ComponentID{teep.ComponentID(manifestID(p.app))}
		a.requested = nil
	}
}

// acknowledge answers the newest Update, whomever it was for.
func (p *play) acknowledge(m teep.Message) {
	if p.update == nil {
		return
	}
	a := p.agents[p.now]
	var reports [][]byte
	var newest uint64
	for _, data := range p.update.Manifests {
		var failure *suit.Failure
		if m.Type() == teep.TypeError {
			failure = &suit.Failure{Reason: suit.ReasonOperationFailed, Record: suit.Record{Section: suit.LabelInstall}}
		}
		reports = append(reports, a.report(data, p.update.Token, failure))
		e, err := suit.ParseEnvelope(data)
		must(p.t, err)
		manifest, err := e.UnverifiedManifest()
		must(p.t, err)
		newest = max(newest, manifest.SequenceNumber)
	}
	switch m := m.(type) {
	case *teep.Success:
		m.Token, m.SUITReports = p.update.Token, reports
		p.acked[p.now] = max(p.acked[p.now], newest)
	case *teep.Error:
		m.Token, m.SUITReports = p.update.Token, reports
	}
	p.deliver(a.protect(m))
}

func (p *play) check() {
	for i, a := range p.agents {
		d := a.device()
		if d == nil {
			continue
		}
		if len(d.Pending) > tam.MaxPendingUpdates {
			p.t.Fatalf("%d Updates outstanding", len(d.Pending))
		}
		if len(d.Inventory) > 1 || len(d.Failures) > 64 {
			p.t.Fatalf("inventory %+v, failures %+v", d.Inventory, d.Failures)
		}
		for _, have := range d.Inventory {
			if !have.Manifest.Equal(manifestID(p.app)) || have.Sequence == 0 || have.Sequence > p.acked[i] {
				p.t.Fatalf("agent %d is believed to have %v:%d; it acknowledged up to %d", i, have.Manifest, have.Sequence, p.acked[i])
			}
		}
		if !bytes.Equal(d.KeyThumbprint, a.key.Thumbprint()) || !bytes.Equal(d.UEID, a.ueid) {
			p.t.Fatal("a device took over another one's identity")
		}
	}
}

// FuzzMalformedMessagesAreIgnored holds that no bytes make the TAM fail, answer, or store anything:
// nothing here is signed by a key that it could know.
func FuzzMalformedMessagesAreIgnored(f *testing.F) {
	w := newWorld(f)
	a := w.agent(cose.AlgESP256)
	f.Add([]byte{})
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Add(a.protect(&teep.Success{Token: bytes.Repeat([]byte{1}, 44)}))
	f.Add(a.protect(&teep.Error{Code: teep.ErrTemporaryError}))
	f.Add(a.protect(a.response(&teep.QueryRequest{DataItems: teep.DataAttestation, Challenge: bytes.Repeat([]byte{1}, 44)})))
	before := w.changes()
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, err := w.tam.ProcessTeepMessage(ctx(), data)
		if err != nil {
			t.Fatal(err)
		}
		if len(reply) > 0 {
			opened, err := teep.Open(reply, w.tamKeys, teep.OpenOptions{})
			if err != nil || opened.Message.Type() != teep.TypeQueryRequest {
				t.Fatalf("answered with %v, %v", opened, err)
			}
		}
		w.t = t
		if after := w.changes(); after != before {
			t.Fatalf("the store changed from %q to %q", before, after)
		}
	})
}
