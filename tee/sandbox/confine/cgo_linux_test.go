package confine

import (
	"errors"
	"testing"
)

// TestCgo: a program that could not give up its privileges says why, instead of waiting for ever. The race detector
// takes cgo.
func TestCgo(t *testing.T) {
	if !builtWithCgo {
		t.Skip("built without cgo")
	}
	if _, err := Enter(); !errors.Is(err, errCgo) {
		t.Errorf("a program that was built with cgo: %v", err)
	}
}
