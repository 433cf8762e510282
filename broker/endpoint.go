package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/link"
)

// Endpoint is the agent of one TEE as a server has it: in the second topology of TEEP over HTTP §1 the
// device is reachable and TAMs are not, so that the TAM connects. Give it to transport.NewHandler:
//
//	e, err := b.Endpoint(broker.Requirements{})
//	http.Handle("/teep", transport.NewHandler(e, transport.HandlerOptions{}))
//
// Every POST carries a message of a TAM, and gets the agent's answer. An Update that fetches payloads
// is answered when it is done; a TAM that did not wait so long sends the same Update again and
// joins the work in progress. Messages of strangers fail. Safe for concurrent use.
type Endpoint struct {
	broker *Broker
	tee    *managedTEE
}

// Endpoint returns the agent of the most preferred TEE that fits.
func (b *Broker) Endpoint(r Requirements) (*Endpoint, error) {
	fitting, err := b.pick(r)
	if err != nil {
		return nil, err
	}
	return &Endpoint{b, fitting[0]}, nil
}

// ProcessConnect answers an empty POST: an agent says nothing before it is asked.
func (e *Endpoint) ProcessConnect(context.Context) ([]byte, error) { return nil, nil }

// ProcessTeepMessage passes a message in and returns the agent's answer to it. While the agent is at
// work with another TAM, the message waits for its turn.
func (e *Endpoint) ProcessTeepMessage(ctx context.Context, message []byte) ([]byte, error) {
	if err := e.tee.take(ctx); err != nil {
		return nil, err
	}
	defer e.tee.give()
	r := &relay{broker: e.broker, tee: e.tee}
	defer r.payload.close()
	const inbound = 0 // the session of a message that came by itself
	r.event(inbound, Event{Kind: EventReceive, Message: message})
	ask, err := e.tee.Agent.ProcessTeepMessage(ctx, inbound, message)
	if err != nil {
		return nil, asTemporary(e.broker.agentFailed(e.tee, inbound, err))
	}
	for ask.Fetch != nil || ask.Appraisal != nil {
		if ask, err = r.bring(ctx, ask); err != nil {
			return nil, asTemporary(err)
		}
	}
	if len(ask.Message) > 0 {
		r.event(ask.Session, Event{Kind: EventSend, Message: ask.Message})
	}
	return ask.Message, nil
}

// temporaryError is a failure after which the same message may do: the handler answers 503.
type temporaryError struct{ error }

func (temporaryError) Temporary() bool { return true }

func (e temporaryError) Unwrap() error { return e.error }

func asTemporary(err error) error {
	if errors.Is(err, link.ErrBusy) || errors.Is(err, link.ErrUnavailable) {
		return temporaryError{fmt.Errorf("the agent is busy or away: %w", err)}
	}
	return err
}
