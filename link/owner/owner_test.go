package owner

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/link/frame"
)

// recorder answers with what it was asked.
type recorder struct{ last any }

var errNo = errors.New("there is no TPM")

func (r *recorder) Key(_ context.Context, use string) ([]byte, error) {
	r.last = use
	if use == "none" {
		return nil, errNo
	}
	return []byte("key " + use), nil
}

func (r *recorder) Collateral(_ context.Context, c Collateral) ([]byte, error) {
	r.last = c
	return nil, nil
}

func (r *recorder) Enrol(_ context.Context, e Enrolment) ([]byte, error) {
	r.last = e
	return bytes.Repeat([]byte{7}, 1000), nil
}

// pipes is a listener of connections made with dial.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Close() error { close(p.conns); return nil }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

func serve(t *testing.T, a Agent) *pipes {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, p, a) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestQuestions(t *testing.T) {
	agent := &recorder{}
	p := serve(t, agent)
	for range 2 { // one connection after the other
		c := NewClient(p.dial())
		if key, err := c.Key(t.Context(), "report"); err != nil || string(key) != "key report" {
			t.Fatalf("%q, %v", key, err)
		}
		if _, err := c.Key(t.Context(), "none"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), errNo.Error()) {
			t.Errorf("%v", err)
		}
		want := Collateral{Owner: "Example", Lifetime: time.Hour, AcceptWeaknesses: true}
		if text, err := c.Collateral(t.Context(), want); err != nil || len(text) != 0 || agent.last != want {
			t.Errorf("%q, %v, %+v", text, err, agent.last)
		}
		if answer, err := c.Enrol(t.Context(), Enrolment{Intermediates: [][]byte{{1}}, Credential: []byte{2}}); err != nil || len(answer) != 1000 {
			t.Errorf("%d bytes, %v", len(answer), err)
		}
		if _, err := c.Enrol(t.Context(), Enrolment{}); err != nil || agent.last.(Enrolment).Credential != nil {
			t.Errorf("%v, %+v", err, agent.last)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefused(t *testing.T) {
	agent := &recorder{}
	c := NewClient(serve(t, agent).dial())
	defer c.Close()
	for name, ask := range map[string]func() error{
		"no use":      func() error { _, err := c.Key(t.Context(), ""); return err },
		"long use":    func() error { _, err := c.Key(t.Context(), strings.Repeat("x", MaxName+1)); return err },
		"no owner":    func() error { _, err := c.Collateral(t.Context(), Collateral{Lifetime: time.Hour}); return err },
		"no lifetime": func() error { _, err := c.Collateral(t.Context(), Collateral{Owner: "o"}); return err },
		"past": func() error {
			_, err := c.Collateral(t.Context(), Collateral{Owner: "o", Lifetime: -time.Hour})
			return err
		},
		"for ever": func() error {
			_, err := c.Collateral(t.Context(), Collateral{Owner: "o", Lifetime: 1<<63 - 1})
			return err
		},
		"empty credential": func() error { _, err := c.Enrol(t.Context(), Enrolment{Credential: []byte{}}); return err },
		"certificates": func() error {
			_, err := c.Enrol(t.Context(), Enrolment{Intermediates: make([][]byte, MaxCertificates+1)})
			return err
		},
		"no such question": func() error { _, err := c.ask(t.Context(), 4, keyArgs{Use: "agent"}); return err },
		"too many words":   func() error { _, err := c.ask(t.Context(), methodKey, enrolArgs{}); return err },
		"too large": func() error {
			_, err := c.Enrol(t.Context(), Enrolment{Intermediates: [][]byte{make([]byte, MaxFrame)}})
			return err
		},
	} {
		if err := ask(); err == nil || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if agent.last != nil {
		t.Errorf("the agent was asked %v", agent.last)
	}
}

// FuzzQuestion: whatever comes is answered or refused, and what reaches the agent is within the limits.
func FuzzQuestion(f *testing.F) {
	for method, args := range map[uint64]any{1: keyArgs{Use: "agent"}, 2: collateralArgs{Owner: "o", Seconds: 1}, 3: enrolArgs{Intermediates: [][]byte{{1}}}} {
		raw, err := cbor.Marshal(args)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(method, raw)
	}
	f.Fuzz(func(t *testing.T, method uint64, raw []byte) {
		agent := &recorder{}
		_, err := handler(agent)(t.Context(), method, raw, nil)
		var failure *frame.Failure
		if err != nil && !errors.As(err, &failure) {
			t.Fatal(err)
		}
		switch asked := agent.last.(type) {
		case string:
			if asked == "" || len(asked) > MaxName {
				t.Fatalf("asked for %q", asked)
			}
		case Collateral:
			if asked.Owner == "" || len(asked.Owner) > MaxName || asked.Lifetime < time.Second {
				t.Fatalf("asked for %+v", asked)
			}
		case Enrolment:
			if len(asked.Intermediates) > MaxCertificates {
				t.Fatalf("%d certificates", len(asked.Intermediates))
			}
		}
	})
}
