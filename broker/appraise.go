package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-teep/teep/link"
)

// Appraiser has Evidence appraised by a verifier, in exchange for a nonce that is in it, and brings the
// Attestation Result and its media type. What it brings is as the verifier signed it, or is not used.
// Safe for concurrent use.
type Appraiser interface {
	Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (resultType string, result []byte, err error)
}

// ErrNoVerifier says that the broker was told of no verifier.
var ErrNoVerifier = errors.New("broker: no verifier is configured")

// appraise takes the agent's Evidence to the verifier and brings the result, or the reason why there is
// none, which is no end of the session: the agent goes on without.
func (r *relay) appraise(ctx context.Context, ask link.Ask) (link.Ask, error) {
	if r.messages++; r.messages > r.broker.options.MaxMessages {
		return link.Ask{}, r.failed(ctx, ask, fmt.Errorf("%w: more than %d messages", ErrTooLong, r.broker.options.MaxMessages))
	}
	p := *ask.Appraisal
	outcome := link.Appraised{Session: ask.Session, AppraisalID: p.ID}
	var err error
	if outcome.MediaType, outcome.Result, err = r.result(ctx, p); err != nil {
		if ctx.Err() != nil {
			return link.Ask{}, r.failed(ctx, ask, ctx.Err())
		}
		r.event(ask.Session, Event{Kind: EventNoResult, Err: err})
		outcome.MediaType, outcome.Result, outcome.Err = "", nil, err.Error()
	} else {
		r.event(ask.Session, Event{Kind: EventAppraise})
	}
	next, err := r.tee.Agent.Appraised(ctx, outcome)
	if err != nil {
		return link.Ask{}, r.broker.agentFailed(r.tee, ask.Session, err)
	}
	return next, nil
}

func (r *relay) result(ctx context.Context, p link.Appraisal) (mediaType string, result []byte, err error) {
	o := r.broker.options
	if o.Appraiser == nil {
		return "", nil, ErrNoVerifier
	}
	ctx, cancel := context.WithTimeout(ctx, o.AppraisalTimeout)
	defer cancel()
	mediaType, result, err = o.Appraiser.Appraise(ctx, p.MediaType, p.Evidence, p.Nonce)
	switch {
	case err != nil:
		return "", nil, err
	case len(result) == 0 || len(result) > link.MaxResult || len(mediaType) > link.MaxMediaType:
		return "", nil, fmt.Errorf("broker: the verifier gave a result of %d bytes under a media type of %d; 1 to %d and up to %d are passed on",
			len(result), len(mediaType), link.MaxResult, link.MaxMediaType)
	}
	return mediaType, result, nil
}
