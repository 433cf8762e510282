package tracing

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/tam"
)

// Messages follows the messages that a TAM processes; nil where tracing is off.
func (t *Tracing) Messages() tam.Observer {
	if t == nil {
		return nil
	}
	return messages{t}
}

type messages struct{ *Tracing }

// Message implements [tam.Observer].
func (t messages) Message(ctx context.Context) (context.Context, func(tam.Outcome)) {
	ctx, span := t.start(ctx, "TEEP message", trace.SpanKindInternal)
	return ctx, func(o tam.Outcome) {
		defer span.End()
		if !span.IsRecording() {
			return
		}
		name := "connect"
		if o.Type != 0 {
			name = o.Type.String()
		}
		span.SetName("TEEP " + name)
		said := []attribute.KeyValue{attribute.String("teep.message", name), attribute.String("teep.outcome", outcomeOf(o))}
		if o.Device != "" {
			said = append(said, attribute.String("teep.device", o.Device))
		}
		if o.Ignored != "" {
			said = append(said, attribute.String("teep.ignored", o.Ignored))
		}
		if o.Event != "" {
			said = append(said, attribute.String("teep.event", string(o.Event)))
		}
		span.SetAttributes(said...)
		if o.Err != nil {
			span.SetStatus(codes.Error, o.Err.Error())
		}
	}
}

func outcomeOf(o tam.Outcome) string {
	switch {
	case tam.IsUnavailable(o.Err) || errors.Is(o.Err, context.DeadlineExceeded):
		return "unavailable"
	case o.Err != nil:
		return "failed"
	case o.Ignored != "":
		return "ignored"
	case o.Answered:
		return "answered"
	}
	return "done"
}

// Verifier follows appraisals by the named verifier.
func (t *Tracing) Verifier(name string, v attest.Verifier) attest.Verifier {
	if t == nil || v == nil {
		return v
	}
	traced := &verifier{t, name, v}
	if p, ok := v.(attest.Peeker); ok {
		return peeking{traced, p}
	}
	return traced
}

type verifier struct {
	*Tracing
	name string
	attest.Verifier
}

// peeking is a verifier that the TAM may ask for what Evidence speaks of, as it could ask the one beneath.
type peeking struct {
	*verifier
	attest.Peeker
}

// Appraise implements [attest.Verifier].
func (v *verifier) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	if !followed(ctx) {
		return v.Verifier.Appraise(ctx, e, x)
	}
	ctx, span := v.start(ctx, "appraise "+v.name, trace.SpanKindInternal, trace.WithAttributes(attribute.String("teep.verifier", v.name)))
	defer span.End()
	r, err := v.Verifier.Appraise(ctx, e, x)
	if err != nil {
		// What devices send is wrong for reasons of theirs: no fault of this service.
		span.SetAttributes(attribute.String("teep.attestation", "refused"))
		return nil, err
	}
	span.SetAttributes(attribute.String("teep.attestation", r.Status.String()))
	return r, nil
}
