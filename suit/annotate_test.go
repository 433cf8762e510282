package suit_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-teep/teep/internal/edn"
	"github.com/go-teep/teep/suit"
)

// What Annotate writes is diagnostic notation of exactly the bytes that it was given.
func TestAnnotateIsExact(t *testing.T) {
	data := map[string][]byte{}
	for _, v := range signedVectors(t) {
		data[v.name] = v.data
	}
	for i, r := range exampleReports() {
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		data["report "+string(rune('0'+i))] = encoded
	}
	for name, want := range data {
		text, err := suit.Annotate(want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := edn.Parse(text)
		if err != nil {
			t.Errorf("%s: %v in\n%s", name, err, text)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: annotation stands for\n%x, not\n%x", name, got, want)
		}
	}
}

func TestAnnotateNamesEverything(t *testing.T) {
	for _, v := range signedVectors(t) {
		text, err := suit.Annotate(v.data)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "unknown(") {
			t.Errorf("%s: a label has no name in\n%s", v.name, text)
		}
	}
	reports := exampleReports()
	encoded, err := reports[1].Encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := suit.Annotate(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/ SUIT_Report /", "/ reference / 99", "/ manifest-section / 20 / install /",
		"/ reason / 7: 10 / condition-failed /", "/ system-component-id / 0: ['hello']", "/ capability-report / 8", "/ nonce / 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("report does not show %q:\n%s", want, text)
		}
	}
}
