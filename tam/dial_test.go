package tam_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/teeptest"
	"github.com/go-teep/teep/transport"
)

// TestSecondTopology: an agent behind an HTTP server, and a TAM that connects to it (TEEP over HTTP
// §1), attestation of both sides and a payload to fetch included.
func TestSecondTopology(t *testing.T) {
	for name, mustAttest := range map[string]bool{"agent attests": false, "both attest": true} {
		t.Run(name, func(t *testing.T) {
			w := teeptest.New(t, teeptest.Options{MustAttest: mustAttest})
			w.Publish(w.Component("hello", 1, "one"))
			w.Publish(w.FetchedComponent("fetched", 1, "two"))
			for _, name := range []string{"hello", "fetched"} {
				w.Assign(name, tam.ModeRequired)
			}
			e, err := w.Device.Broker.Endpoint(broker.Requirements{})
			must(t, err)
			server := httptest.NewServer(transport.NewHandler(e, transport.HandlerOptions{}))
			t.Cleanup(server.Close)
			client, err := transport.NewClient(transport.ClientOptions{})
			must(t, err)
			t.Cleanup(client.CloseIdleConnections)
			must(t, w.TAM().Dial(t.Context(), client, server.URL))
			if w.Device.Sequence("hello") != 1 || w.Device.Sequence("fetched") != 1 || len(w.Device.Believed()) != 2 {
				t.Fatalf("installed %v, believed %v", w.Device.Installed(), w.Device.Believed())
			}
			must(t, w.TAM().Dial(t.Context(), client, server.URL)) // nothing to change
			for what, body := range map[string][]byte{"empty": nil, "garbage": []byte("garbage"), "a stranger's": {0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40}} {
				reply, err := client.Post(t.Context(), server.URL, body)
				if len(reply) != 0 || (err == nil) != (body == nil) {
					t.Errorf("%s: %x, %v", what, reply, err)
				}
			}
		})
	}
}

type posterFunc func([]byte) ([]byte, error)

func (f posterFunc) Post(_ context.Context, _ string, body []byte) ([]byte, error) { return f(body) }

func TestDialFails(t *testing.T) {
	w := newWorld(t)
	down := errors.New("down")
	if err := w.tam.Dial(ctx(), posterFunc(func([]byte) ([]byte, error) { return nil, down }), ""); !errors.Is(err, down) {
		t.Error(err)
	}
	// An agent that never stops demanding something.
	if err := w.tam.Dial(ctx(), posterFunc(func([]byte) ([]byte, error) { return nil, nil }), ""); err != nil {
		t.Error(err)
	}
	a := w.agent(-9)
	n := 0
	err := w.tam.Dial(ctx(), posterFunc(func([]byte) ([]byte, error) {
		n++
		w.clock.advance(time.Minute)
		b := w.agent(-9) // a new device each time, each of which fails attestation
		b.measurement = "unknown"
		return b.protect(b.response(a.connect())), nil
	}), "")
	if !errors.Is(err, tam.ErrSessionTooLong) || n > 20 {
		t.Errorf("%d messages, %v", n, err)
	}
}
