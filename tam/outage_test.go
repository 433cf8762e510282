package tam_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/transport"
)

func TestUnavailable(t *testing.T) {
	cause := errors.New("disk full")
	err := fmt.Errorf("storing: %w", tam.Unavailable(cause))
	if !errors.Is(err, cause) || !tam.IsUnavailable(err) || err.Error() != "storing: disk full" {
		t.Errorf("got %v", err)
	}
	if tam.IsUnavailable(cause) || tam.IsUnavailable(nil) || tam.Unavailable(nil) != nil {
		t.Error("what is not marked counts as an outage")
	}
}

// post sends a message as a broker would.
func (w *world) post(body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Accept", transport.MediaType)
	r.Header.Set("Content-Type", transport.MediaType)
	answer := httptest.NewRecorder()
	transport.NewHandler(w.tam, transport.HandlerOptions{Rate: -1}).ServeHTTP(answer, r)
	return answer
}

// TestUnreadableEnvelopes: while the folder of the envelopes cannot be read, agents are told to come again
// and lose nothing; once it can, the next session brings what is due, and nobody restarts anything.
func TestUnreadableEnvelopes(t *testing.T) {
	w := newWorld(t)
	v := w.publish(release{name: "app", sequence: 1, payload: "one"})
	file := filepath.Join(w.dir, "blobs", hex.EncodeToString(v.Envelope[:]))
	// A folder in the file's place makes reading it a real failure, for root too.
	must(t, os.Rename(file, file+".away"))
	must(t, os.Mkdir(file, 0o700))
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	for range 3 {
		answer := w.post(a.protect(a.response(a.connect())))
		if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
			t.Fatalf("%d %v\n%s", answer.Code, answer.Header(), w.log)
		}
	}
	must(t, os.Remove(file))
	must(t, os.Rename(file+".away", file))
	a.succeed(a.update())
	a.expect(tam.Installed{Manifest: manifestID("app"), Sequence: 1})
}

// fullBlobs is a folder without room.
type fullBlobs struct{ tam.Blobs }

func (fullBlobs) Put(context.Context, []byte) ([32]byte, error) {
	return [32]byte{}, tam.Unavailable(errors.New("no space left on device"))
}

// brokenStore fails one kind of call after the other.
type brokenStore struct {
	tam.Store
	fails string
}

func (s *brokenStore) fail(call string) error {
	if s.fails == call {
		return tam.Unavailable(errors.New(call + " failed"))
	}
	return nil
}

func (s *brokenStore) CommitExchange(ctx context.Context, x tam.Exchange) error {
	if err := s.fail("CommitExchange"); err != nil {
		return err
	}
	return s.Store.CommitExchange(ctx, x)
}

func (s *brokenStore) DeviceByKey(ctx context.Context, thumbprint []byte) (*tam.Device, error) {
	if err := s.fail("DeviceByKey"); err != nil {
		return nil, err
	}
	return s.Store.DeviceByKey(ctx, thumbprint)
}

func (s *brokenStore) CatalogueRevision(ctx context.Context) (int64, error) {
	if err := s.fail("CatalogueRevision"); err != nil {
		return 0, err
	}
	return s.Store.CatalogueRevision(ctx)
}

func (s *brokenStore) TokenKeys(ctx context.Context) ([]tam.TokenKey, error) {
	if err := s.fail("TokenKeys"); err != nil {
		return nil, err
	}
	return s.Store.TokenKeys(ctx)
}

// TestStoreFailsAtEachCall: whichever call of a session's the store fails, the agent is told to come again,
// nothing is recorded, and the very same message is good once the store is back.
func TestStoreFailsAtEachCall(t *testing.T) {
	for _, call := range []string{"CommitExchange", "DeviceByKey", "CatalogueRevision", "TokenKeys"} {
		t.Run(call, func(t *testing.T) {
			w := newWorld(t)
			w.publish(release{name: "app", sequence: 1, payload: "one"})
			other, _ := w.replica()
			broken := &brokenStore{Store: w.store}
			c := w.config
			c.Store, c.Blobs = broken, fullBlobs{}
			own := w.tam
			fresh, err := tam.New(ctx(), c)
			must(t, err)
			a := w.agent(cose.AlgESP256)
			// The challenge comes from another replica, so that the keys are not at hand.
			w.tam = other
			message := a.protect(a.response(a.connect()))
			w.tam = fresh
			before := a.device()
			broken.fails = call
			if call == "TokenKeys" {
				w.clock.advance(25 * time.Hour) // the key of the tokens is due
				if answer := w.post(nil); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
					t.Fatalf("%d %v", answer.Code, answer.Header())
				}
				broken.fails = ""
				if answer := w.post(nil); answer.Code != http.StatusOK {
					t.Fatalf("afterwards: %d", answer.Code)
				}
				return
			}
			for range 2 {
				answer := w.post(message)
				if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
					t.Fatalf("%d %v\n%s", answer.Code, answer.Header(), w.log)
				}
			}
			if after := a.device(); before != nil || after != nil {
				t.Fatalf("%+v was recorded", after)
			}
			broken.fails = ""
			if answer := w.post(message); answer.Code/100 != 2 || a.device() == nil {
				t.Fatalf("afterwards: %d\n%s", answer.Code, w.log)
			}
			w.tam = own
		})
	}
}

// TestFullFolder: an envelope that cannot be kept is not published; its version does not exist.
func TestFullFolder(t *testing.T) {
	w := newWorld(t)
	c := w.config
	c.Store, c.Blobs = w.store, fullBlobs{}
	full, err := tam.New(ctx(), c)
	must(t, err)
	envelope := w.envelope(release{name: "app", sequence: 1, payload: "one"})
	if _, err := full.Publish(ctx(), envelope, ""); !tam.IsUnavailable(err) {
		t.Fatalf("got %v", err)
	}
	if _, err := w.tam.Publish(ctx(), envelope, ""); err != nil {
		t.Fatalf("with room again: %v", err)
	}
}
