package frame_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-teep/teep/link/frame"
)

func TestCodes(t *testing.T) {
	first, second, other := errors.New("first"), errors.New("second"), errors.New("other")
	codes := frame.Codes{{Code: 20, Err: first}, {Code: 21, Err: second}, {Code: 20, Err: other}}
	for _, c := range []struct {
		name string
		err  error
		code uint64
		is   error
	}{
		{"plain", first, 20, first},
		{"wrapped", fmt.Errorf("while busy: %w", second), 21, second},
		{"two, the first of the list counts", fmt.Errorf("%w and %w", second, first), 20, first},
		{"a shared code becomes its first error", other, 20, first},
		{"cancelled", context.DeadlineExceeded, frame.CodeCancelled, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f *frame.Failure
			if err := codes.Failure(c.err); !errors.As(err, &f) || f.Code != c.code {
				t.Fatalf("crosses as %v", err)
			}
			if back := codes.Err(f); !errors.Is(back, c.is) {
				t.Errorf("came back as %v", back)
			}
		})
	}

	// What is not in the list keeps its text to itself: serving turns it into CodeInternal.
	secret := errors.New("the key is 42")
	if err := codes.Failure(secret); err != secret {
		t.Errorf("an unlisted error became %v", err)
	}
	if err := codes.Err(&frame.Failure{Code: 99, Text: "from the future"}); err != nil {
		t.Errorf("an unknown code became %v", err)
	}
}
