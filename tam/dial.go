package tam

import (
	"context"
	"errors"
	"fmt"
)

// Poster sends a message to an agent behind an HTTP server and returns its answer, which is empty when
// the agent has nothing to say. *transport.Client is one.
type Poster interface {
	Post(ctx context.Context, uri string, body []byte) (reply []byte, err error)
}

// maxDialMessages bounds a session that the TAM began, should the agent never be content.
const maxDialMessages = 16

// ErrSessionTooLong says that an agent went on answering.
var ErrSessionTooLong = errors.New("tam: the agent does not end the session")

// Dial runs a session with an agent that is reachable while this TAM is not: the second topology of TEEP
// over HTTP §1, in which the TAM is the HTTP client. It begins with a QueryRequest and returns
// when one side has nothing more to say. An Update is answered when its work is done, so give p
// a timeout that such work has room in; what broke off goes on with the next Dial.
func (t *TAM) Dial(ctx context.Context, p Poster, uri string) error {
	message, err := t.ProcessConnect(ctx)
	if err != nil {
		return err
	}
	for range maxDialMessages {
		reply, err := p.Post(ctx, uri, message)
		if err != nil {
			return fmt.Errorf("tam: connecting to an agent: %w", err)
		}
		if len(reply) == 0 {
			return nil
		}
		if message, err = t.ProcessTeepMessage(ctx, reply); err != nil || len(message) == 0 {
			return err
		}
	}
	return fmt.Errorf("%w after %d messages", ErrSessionTooLong, maxDialMessages)
}
