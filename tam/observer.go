package tam

import (
	"context"

	"github.com/go-teep/teep"
)

// Observer follows messages while they are processed, for traces and the like. It must not block.
type Observer interface {
	// Message is called when a message begins to be processed. What is done for the message is done under
	// the context that it returns, and ended is called once at the end.
	Message(ctx context.Context) (_ context.Context, ended func(Outcome))
}

// Outcome is what became of a message. Nothing in it is secret.
type Outcome struct {
	// Type is that of the message; 0: there was none (a connect), or its signature did not hold.
	Type teep.MessageType
	// Device identifies who signed it by the agent's key; empty: nobody is known to have.
	Device string
	// Ignored says why a message was dropped; empty: it was not.
	Ignored string
	// Event is what was entered into the device's history; empty: nothing was.
	Event EventKind
	// Answered tells whether there is an answer.
	Answered bool
	// Err is what kept the TAM from doing its work.
	Err error
}

type outcomeKey struct{}

// observed runs f, and tells the observer what became of it.
func (t *TAM) observed(ctx context.Context, f func(context.Context) ([]byte, error)) (reply []byte, err error) {
	var o Outcome
	ctx, ended := t.observer.Message(ctx)
	defer func() {
		o.Answered, o.Err = len(reply) > 0, err
		ended(o)
	}()
	return f(context.WithValue(ctx, outcomeKey{}, &o))
}

// outcomeOf is where to say what becomes of a message; nil: nobody wants to know.
func (t *TAM) outcomeOf(ctx context.Context) *Outcome {
	if t.observer == nil {
		return nil
	}
	o, _ := ctx.Value(outcomeKey{}).(*Outcome)
	return o
}
