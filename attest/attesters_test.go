package attest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/go-teep/teep/attest"
)

// maker makes Evidence of some kinds.
type maker struct {
	name  string
	kinds []string
}

func (m maker) MediaTypes() []string { return m.kinds }

func (m maker) Attest(_ context.Context, mediaType string, _ attest.Request) (attest.Evidence, error) {
	return attest.Evidence{MediaType: mediaType, Payload: []byte(m.name)}, nil
}

func TestAttesters(t *testing.T) {
	all := attest.Attesters{maker{"first", []string{"a/a", `a/b; p="x"`}}, maker{"second", []string{"a/b; p=x", "a/c"}}}
	if got, want := all.MediaTypes(), []string{"a/a", `a/b; p="x"`, "a/b; p=x", "a/c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for asked, want := range map[string]string{"": "first", "a/a": "first", "a/b;p=x": "first", "A/C": "second"} {
		e, err := all.Attest(t.Context(), asked, attest.Request{})
		if err != nil || string(e.Payload) != want {
			t.Errorf("%q: %s, %v", asked, e.Payload, err)
		}
	}
	for _, asked := range []string{"a/d", "a/b", "a/b; p=y", "nonsense"} {
		if e, err := all.Attest(t.Context(), asked, attest.Request{}); !errors.Is(err, attest.ErrUnknownType) {
			t.Errorf("%q: %s, %v", asked, e.Payload, err)
		}
	}
	if e, err := (attest.Attesters{}).Attest(t.Context(), "", attest.Request{}); !errors.Is(err, attest.ErrUnknownType) {
		t.Errorf("nobody: %s, %v", e.Payload, err)
	}
}

func TestChoose(t *testing.T) {
	a := maker{"", []string{"a/a", `a/b; p="x"`}}
	for _, c := range []struct {
		wanted []string
		want   string
		ok     bool
	}{
		{nil, "", true},
		{[]string{"a/b; p=x", "a/a"}, `a/b; p="x"`, true},
		{[]string{"a/z", "a/a"}, "a/a", true},
		{[]string{"a/z"}, "", false},
		{[]string{"", "%"}, "", false},
	} {
		if got, ok := attest.Choose(a, c.wanted); got != c.want || ok != c.ok {
			t.Errorf("%q: %q, %t", c.wanted, got, ok)
		}
	}
}
