package attest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-teep/teep/attest"
)

// only accepts one media type and says so in its result.
type only string

func (o only) Accepts(mediaType string) bool { return mediaType == string(o) }

func (o only) Appraise(context.Context, attest.Evidence, attest.Expectation) (*attest.Result, error) {
	return &attest.Result{MediaType: string(o)}, nil
}

func TestVerifiers(t *testing.T) {
	all := attest.Verifiers{only("a/a"), only("b/b")}
	r, err := all.Appraise(context.Background(), attest.Evidence{MediaType: "b/b"}, attest.Expectation{})
	if err != nil || r.MediaType != "b/b" || !all.Accepts("a/a") {
		t.Errorf("%+v, %v", r, err)
	}
	for _, none := range []attest.Verifiers{all, nil} {
		r, err := none.Appraise(context.Background(), attest.Evidence{MediaType: "c/c"}, attest.Expectation{})
		if r != nil || !errors.Is(err, attest.ErrUnknownType) || none.Accepts("c/c") {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
