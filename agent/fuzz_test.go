package agent_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// FuzzStateMachine: whatever sequence of calls the world outside makes, with whatever messages of
// whomever, and wherever the power fails, the agent does not panic, its record stays consistent,
// and what runs is what a TAM installed.
func FuzzStateMachine(f *testing.F) {
	f.Add([]byte{0, 0, 4, 0, 4, 3, 12, 0, 5, 0, 8, 0, 13, 0})
	f.Add([]byte{0, 0, 4, 5, 5, 0, 15, 1, 0, 0, 5, 0, 5, 0, 8, 0, 9, 0})
	f.Add([]byte{1, 65, 5, 0, 0, 0, 4, 11, 1, 66, 5, 0, 13, 0, 0, 0, 4, 12, 1, 67, 15, 3, 5, 0, 5, 0})
	f.Add([]byte{0, 1, 4, 4, 4, 6, 4, 6, 15, 0, 0, 0, 0, 0, 11, 0, 8, 0})
	f.Add([]byte{0, 0, 4, 0, 14, 0, 4, 15, 0, 0, 4, 0, 0, 0, 4, 3})
	f.Add([]byte{0, 0, 4, 0, 11, 6, 0, 0, 14, 0, 0, 0, 4, 0, 14, 16})
	f.Add([]byte{1, 0, 2, 0, 3, 0, 0, 0, 6, 0, 7, 0, 10, 9, 10, 255, 0, 0, 4, 9, 4, 10})
	w := newWorld(f)
	w.start()
	messages := [][]byte{
		w.protect(w.one, query(f, teep.DataTrustedComponents)),
		w.protect(w.one, query(f, teep.DataAttestation|teep.DataSUITReports|teep.DataExtensions)),
		w.protect(w.two, query(f, teep.DataTrustedComponents)),
		w.protect(w.one, install(f, w.hello(1, "app 1"))),
		w.protect(w.one, install(f, w.hello(2, "app 2"))),
		w.protect(w.one, install(f, w.fetchedHello(3, "app 3, which is fetched in several chunks"))),
		w.protect(w.one, unlink(f, id("hello", "manifest"))),
		w.protect(w.two, install(f, w.hello(4, "stolen"))),
		w.protect(w.two, unlink(f, id("hello", "manifest"))),
		w.protect(w.stranger, install(f, w.hello(5, "strange"))),
		w.protect(w.one, &teep.Update{ErrorCode: teep.ErrTemporaryError}),
		{0xa0}, {},
		w.protect(w.one, install(f, bare(f, w.hello(1, "app 1")))),
		w.protect(w.one, install(f, bare(f, w.hello(2, "app 2")))),
		w.protect(w.one, &teep.Update{ErrorCode: teep.ErrAttestationRequired}),
	}
	w.payloads[link.BinaryURI] = []byte("app 2")
	w.agent.Close()
	w.agent = nil
	blank := w.device.disk.Clone()
	f.Fuzz(func(t *testing.T, calls []byte) {
		v := *w
		v.t, v.fetched = t, nil
		d := *w.device
		d.disk = blank.Clone()
		v.device = &d
		d.boot(t)
		v.cfg.Limits.Chunk, v.cfg.Limits.Sessions = 16, 3
		v.cfg.Policy.Passports = true
		v.start()
		defer func() {
			if v.agent != nil {
				v.agent.Close()
			}
		}()
		m := machine{world: &v, messages: messages}
		for i := 0; i+1 < len(calls) && i < 80; i += 2 {
			m.call(calls[i]%16, calls[i+1])
			m.check()
		}
	})
}

// machine drives an agent.
type machine struct {
	*world
	messages [][]byte
	ask      link.Ask // the last one
	app      uint64
}

func (m *machine) call(what, arg byte) {
	ctx := m.t.Context()
	var ask link.Ask
	var err error
	switch what {
	case 0:
		ask, err = m.agent.RequestPolicyCheck(ctx)
	case 1:
		ask, err = m.agent.RequestTA(ctx, link.Request{Component: id("hello"), MinSequence: uint64(arg % 4), HasBinary: arg&64 != 0})
	case 2:
		ask, err = m.agent.UnrequestTA(ctx, id("hello"))
	case 3:
		err = m.agent.ProcessError(ctx, m.ask.Session, m.ask.TAMURI, "down")
	case 4:
		ask, err = m.agent.ProcessTeepMessage(ctx, m.ask.Session, m.messages[int(arg)%len(m.messages)])
	case 5:
		if m.ask.Fetch != nil {
			ask, err = m.agent.Deliver(ctx, m.chunk(m.ask))
		}
	case 6:
		c := link.Chunk{Session: m.ask.Session, FetchID: uint64(arg % 3), Offset: int64(arg) - 8, Data: make([]byte, arg%32), Last: arg%2 == 0}
		ask, err = m.agent.Deliver(ctx, c)
	case 7:
		if m.ask.Fetch != nil {
			ask, err = m.agent.Deliver(ctx, link.Chunk{Session: m.ask.Session, FetchID: m.ask.Fetch.ID, Err: "broken"})
		}
	case 8:
		m.app, err = m.agent.OpenSession(ctx, id("hello"))
	case 9:
		_, err = m.agent.Invoke(ctx, m.app, "put", []byte{arg})
	case 10:
		err = m.agent.CloseSession(ctx, m.app)
	case 11:
		m.device.now = m.device.now.Add(time.Duration(arg) * 10 * time.Minute)
	case 14:
		r := link.Appraised{Session: m.ask.Session, AppraisalID: uint64(arg % 8)}
		if p := m.ask.Appraisal; p != nil && arg&8 == 0 {
			r.AppraisalID = p.ID
		}
		if r.Err = "down"; arg&16 == 0 {
			r.Err, r.MediaType, r.Result = "", "application/x-test-result", []byte{arg}
		}
		ask, err = m.agent.Appraised(ctx, r)
	case 12:
		if _, err := m.tryStart(m.trust()); err != nil && !m.device.disk.Crashed() {
			m.t.Fatal(err)
		}
	case 13:
		m.crash(crashfs.LoseUnsynced)
		m.start()
	default:
		// The power fails a few steps from now, in the middle of whatever is then done.
		m.device.disk.CrashAt(int(arg) + 1)
	}
	if m.device.disk.Crashed() {
		m.crash(crashfs.LoseUnsynced)
		m.start()
	} else if errors.Is(err, agent.ErrClosed) {
		m.t.Fatal(err)
	}
	if err == nil && ask.Session != 0 {
		m.ask = ask
	}
}

// check reads the sealed record as it is on the disk.
func (m *machine) check() {
	m.t.Helper()
	if m.device.disk.Crashed() {
		return
	}
	data, _, err := m.device.store.LoadRecord()
	if err != nil {
		if m.device.disk.Crashed() {
			return
		}
		m.t.Fatal(err)
	}
	r, err := state.Decode(data)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := consistent(m.world, r); err != nil {
		m.t.Fatal(err)
	}
}

// consistent tells what must never be seen in a record, at any time.
func consistent(w *world, r *state.Record) error {
	for _, c := range r.Components {
		if c.Content == nil {
			continue
		}
		if m, ok := r.Installer(c.ID); !ok || m.Owner != c.Owner {
			return fmt.Errorf("component %s belongs to %q, its manifest to %q", c.ID, c.Owner, m.Owner)
		}
		if size, err := w.device.store.StatBlob(c.Content.SHA256); err != nil || size != c.Content.Size {
			return fmt.Errorf("component %s: %d bytes, %w", c.ID, size, err)
		}
	}
	for key, m := range r.Manifests {
		if s := r.Sequences[key]; s.Highest != m.Sequence {
			return fmt.Errorf("manifest %s has sequence number %d, highest %d", m.ID, m.Sequence, s.Highest)
		}
		for _, id := range m.Components {
			if !r.Installed(id) {
				return fmt.Errorf("manifest %s without component %s", m.ID, id)
			}
		}
	}
	for _, q := range r.Requested {
		if r.Installed(q.ID) && q.MinSequence == 0 {
			return fmt.Errorf("%s is requested and installed", q.ID)
		}
		if b := q.Binary; b != nil {
			if size, err := w.device.store.StatBlob(b.SHA256); err != nil || size != b.Size || q.MinSequence == 0 {
				return fmt.Errorf("binary for %s of sequence number %d: %d bytes, %w", q.ID, q.MinSequence, size, err)
			}
		}
	}
	if p := r.Pending; p != nil {
		if _, err := w.device.store.StatBlob(p.Message.SHA256); err != nil {
			return fmt.Errorf("the pending Update's message: %w", err)
		}
	}
	return nil
}
