package inspect

import (
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/cbor"
)

// A message does not fill the terminal with its text, unless somebody wants to see all of it.
func TestNotationBoundsText(t *testing.T) {
	data, err := cbor.Marshal(strings.Repeat("z", 5000))
	if err != nil {
		t.Fatal(err)
	}
	text, err := Notation(data)
	if err != nil || strings.Count(text, "z") != 1024 || !strings.Contains(text, "5000 bytes of text") {
		t.Errorf("%d bytes are shown, %v", len(text), err)
	}
	if text, err = FullNotation(data); err != nil || strings.Count(text, "z") != 5000 {
		t.Errorf("in full, %d bytes are shown, %v", len(text), err)
	}
}
