package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee/seal/crashfs"
)

// bare is what a TAM sends to an agent that has the binary.
func bare(t testing.TB, envelope []byte) []byte {
	t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	for uri := range e.Integrated {
		e.RemoveIntegrated(uri)
	}
	return e.Encode()
}

// bring requests 'hello' as an app that has its binary, in pieces of 16 bytes.
func (w *world) bring(sequence uint64, content string) link.Ask {
	w.t.Helper()
	w.payloads[link.BinaryURI] = []byte(content)
	ask, err := w.agent.RequestTA(w.t.Context(), link.Request{Component: id("hello"), MinSequence: sequence, HasBinary: true})
	if err == nil {
		ask, err = w.serve(ask)
	}
	if err != nil || ask.TAMURI != w.one.uri {
		w.t.Fatalf("%+v, %v", ask, err)
	}
	return ask
}

// requested is the entry for 'hello' in the requested-tc-list.
func (w *world) requested() teep.RequestedComponent {
	w.t.Helper()
	r, ok := w.exchange(w.one, query(w.t, teep.DataTrustedComponents)).(*teep.QueryResponse)
	if !ok || len(r.RequestedComponents) != 1 {
		w.t.Fatalf("%+v", r)
	}
	return r.RequestedComponents[0]
}

func TestHaveBinary(t *testing.T) {
	const content = "app that came with the installer of its app"
	w := newWorld(t)
	w.cfg.Limits.Chunk = 16
	w.start()
	w.bring(3, content)
	w.crash(crashfs.LoseUnsynced) // what was taken in is there after a crash
	w.start()
	if c := w.requested(); c.HaveBinary == nil || !*c.HaveBinary || c.MinSequence == nil || *c.MinSequence != 3 {
		t.Fatalf("requested-tc-list has %+v", c)
	}
	w.fetched = nil
	w.mustInstall(w.one, bare(t, w.hello(3, content)))
	if len(w.fetched) != 0 {
		t.Errorf("fetched %q", w.fetched)
	}
	w.wantRun(content)
	if r := w.record(); len(r.Requested) != 0 {
		t.Errorf("still requested: %+v", r.Requested)
	}
}

// TestBinaryThatIsNotTheComponent: bytes that no manifest names become nothing, and the TAM is asked for
// the real ones.
func TestBinaryThatIsNotTheComponent(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.bring(3, "app of an attacker")
	e, ok := w.exchange(w.one, install(t, bare(t, w.hello(3, "app")))).(*teep.Error)
	if !ok || e.Code != teep.ErrManifestProcessingFailed {
		t.Fatalf("%+v", e)
	}
	if c := w.requested(); c.HaveBinary != nil {
		t.Errorf("have-binary is still sent: %+v", c)
	}
	w.mustInstall(w.one, w.hello(3, "app"))
	w.wantRun("app")
}

// TestBinaryOfAnotherTAM: what an app brought for one TAM's component is not another TAM's to use.
func TestBinaryOfAnotherTAM(t *testing.T) {
	const content = "app with a secret"
	w := newWorld(t)
	w.start()
	w.bring(3, content)
	if m, ok := w.exchange(w.two, install(t, bare(t, w.simple("two", 1, content, "integrated: true")))).(*teep.Error); !ok {
		t.Fatalf("%+v", m)
	}
}

func TestBinaryNotTakenIn(t *testing.T) {
	for name, broker := range map[string]func(w *world, ask link.Ask) (link.Ask, error){
		"the broker does not have it": func(w *world, ask link.Ask) (link.Ask, error) { return w.serve(ask) },
		"it is too large": func(w *world, ask link.Ask) (link.Ask, error) {
			w.payloads[link.BinaryURI] = make([]byte, 65)
			return w.serve(ask)
		},
		"it breaks off": func(w *world, ask link.Ask) (link.Ask, error) {
			w.payloads[link.BinaryURI] = make([]byte, 40)
			ask, err := w.agent.Deliver(w.t.Context(), w.chunk(ask))
			if err != nil || ask.Fetch == nil {
				return ask, err
			}
			return w.agent.Deliver(w.t.Context(), link.Chunk{Session: ask.Session, FetchID: ask.Fetch.ID, Err: "gone"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Limits.Binary, w.cfg.Limits.Chunk = 64, 16
			w.start()
			ask, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), MinSequence: 3, HasBinary: true})
			if err == nil {
				ask, err = broker(w, ask)
			}
			if err != nil || ask.TAMURI != w.one.uri {
				t.Fatalf("the request does not go on: %+v, %v", ask, err)
			}
			if c := w.requested(); c.HaveBinary != nil {
				t.Errorf("have-binary is sent: %+v", c)
			}
			w.mustInstall(w.one, w.hello(3, "app"))
		})
	}
}

func TestBinaryChunksThatWereNotAskedFor(t *testing.T) {
	w := newWorld(t)
	w.cfg.Limits.Chunk = 16
	w.start()
	ask, err := w.agent.RequestTA(t.Context(), link.Request{Component: id("hello"), MinSequence: 3, HasBinary: true})
	if err != nil || ask.Fetch == nil || ask.Fetch.URI != link.BinaryURI {
		t.Fatalf("%+v, %v", ask, err)
	}
	for name, c := range map[string]link.Chunk{
		"another fetch":  {FetchID: 9, Data: []byte("x")},
		"another offset": {Offset: 3, Data: []byte("x")},
		"too much":       {Data: make([]byte, 17)},
		"nothing":        {},
	} {
		c.Session = ask.Session
		if _, err := w.agent.Deliver(t.Context(), c); !errors.Is(err, agent.ErrFetch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An Update takes precedence: the rest of the binary is not wanted any longer.
	w.mustInstall(w.one, w.hello(3, "app"))
	if _, err := w.agent.Deliver(t.Context(), link.Chunk{Session: ask.Session, Data: []byte("x"), Last: true}); !errors.Is(err, agent.ErrFetch) {
		t.Errorf("after an Update: %v", err)
	}
	// Without a sequence number the TAM could not be told which version it is.
	ask, err = w.agent.RequestTA(t.Context(), link.Request{Component: id("shared"), HasBinary: true})
	if err != nil || ask.Fetch != nil {
		t.Errorf("%+v, %v", ask, err)
	}
}

// TestForgottenBinariesGo: a binary whose request was taken back takes no room after the next Update.
func TestForgottenBinariesGo(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.bring(3, strings.Repeat("app", 100))
	var sum [32]byte
	for _, q := range w.record().Requested {
		sum = q.Binary.SHA256
	}
	if _, err := w.device.store.StatBlob(sum); err != nil {
		t.Fatal(err)
	}
	if _, err := w.agent.UnrequestTA(t.Context(), id("hello")); err != nil {
		t.Fatal(err)
	}
	w.mustInstall(w.one, w.simple("shared", 1, "app", "integrated: true"))
	if _, err := w.device.store.StatBlob(sum); err == nil {
		t.Error("the binary is still there")
	}
}

func (w *world) record() *state.Record {
	w.t.Helper()
	data, _, err := w.device.store.LoadRecord()
	if err == nil {
		var r *state.Record
		if r, err = state.Decode(data); err == nil {
			return r
		}
	}
	w.t.Fatal(fmt.Errorf("sealed record: %w", err))
	return nil
}
