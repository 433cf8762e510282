package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/link"
)

type appraiserFunc func(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error)

func (f appraiserFunc) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error) {
	return f(ctx, mediaType, evidence, nonce)
}

func (a *fakeAgent) Appraised(_ context.Context, r link.Appraised) (link.Ask, error) {
	a.note("appraised %d %d %s %q err=%q", r.Session, r.AppraisalID, r.MediaType, r.Result, r.Err)
	return a.appraised(r)
}

// TestAppraisal: Evidence goes to the verifier as it is, and what comes back to the agent; whatever goes
// wrong is told to the agent, and the session goes on.
func TestAppraisal(t *testing.T) {
	slow := func(ctx context.Context, _ string, _, _ []byte) (string, []byte, error) {
		<-ctx.Done()
		return "", nil, ctx.Err()
	}
	for name, c := range map[string]struct {
		appraiser Appraiser
		told      string
	}{
		"honest": {appraiserFunc(func(_ context.Context, typ string, evidence, nonce []byte) (string, []byte, error) {
			return "result of " + typ, append(evidence, nonce...), nil
		}), `appraised 7 3 result of x/evidence "evidencenonce678" err=""`},
		"down": {appraiserFunc(func(context.Context, string, []byte, []byte) (string, []byte, error) {
			return "ignored", []byte("ignored"), errors.New("connection refused")
		}), `appraised 7 3  "" err="connection refused"`},
		"slow": {appraiserFunc(slow), `appraised 7 3  "" err="context deadline exceeded"`},
		"empty": {appraiserFunc(func(context.Context, string, []byte, []byte) (string, []byte, error) { return "x/y", nil, nil }),
			`a result of 0 bytes`},
		"oversize": {appraiserFunc(func(context.Context, string, []byte, []byte) (string, []byte, error) {
			return "x/y", make([]byte, link.MaxResult+1), nil
		}), `a result of 65537 bytes`},
		"none": {nil, `no verifier is configured`},
	} {
		t.Run(name, func(t *testing.T) {
			installed := false
			a := &fakeAgent{
				requestTA: installer(&installed, link.Ask{Session: 7, Appraisal: &link.Appraisal{
					ID: 3, MediaType: "x/evidence", Evidence: []byte("evidence"), Nonce: []byte("nonce678")}}),
				appraised: func(link.Appraised) (link.Ask, error) {
					installed = true
					return link.Ask{Session: 7}, nil
				},
			}
			b := newBroker(t, a, func(o *Options) { o.Appraiser, o.AppraisalTimeout = c.appraiser, 20*time.Millisecond })
			if err := b.Request(t.Context(), Request{Component: id("app")}, nil); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(a.told(), c.told) {
				t.Errorf("the agent was told %s", a.told())
			}
		})
	}
}

// TestAppraisalWithoutEnd: an agent that never has enough is left.
func TestAppraisalWithoutEnd(t *testing.T) {
	ask := link.Ask{Session: 7, Appraisal: &link.Appraisal{ID: 3, MediaType: "x/y", Evidence: []byte("e"), Nonce: []byte("nonce678")}}
	a := &fakeAgent{
		requestTA: func(link.Request) (link.Ask, error) { return ask, nil },
		appraised: func(link.Appraised) (link.Ask, error) { return ask, nil },
	}
	b := newBroker(t, a, func(o *Options) { o.MaxMessages = 5 })
	if err := b.Request(t.Context(), Request{Component: id("app")}, nil); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if n := strings.Count(a.told(), "appraised"); n != 5 {
		t.Errorf("%d appraisals", n)
	}
}

// TestAppraisalAtAnEndpoint: a TAM that connects to the device waits for the result as for a payload.
func TestAppraisalAtAnEndpoint(t *testing.T) {
	a := &fakeAgent{
		message: func(uint64, []byte) (link.Ask, error) {
			return link.Ask{Session: 7, Appraisal: &link.Appraisal{ID: 3, MediaType: "x/y", Evidence: []byte("e"), Nonce: []byte("nonce678")}}, nil
		},
		appraised: func(r link.Appraised) (link.Ask, error) {
			return link.Ask{Session: 7, TAMURI: tamURI, Message: r.Result}, nil
		},
	}
	b := newBroker(t, a, func(o *Options) {
		o.Appraiser = appraiserFunc(func(context.Context, string, []byte, []byte) (string, []byte, error) {
			return "", []byte("result"), nil
		})
	})
	e, err := b.Endpoint(Requirements{})
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := e.ProcessTeepMessage(t.Context(), []byte("query")); err != nil || string(reply) != "result" {
		t.Errorf("%q, %v", reply, err)
	}
}
