package main_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

// TestDescription holds hello.yaml to what the documentation says of it: component [hello],
// manifest [hello, manifest], sequence number 1, the program integrated.
func TestDescription(t *testing.T) {
	source, err := os.ReadFile("hello.yaml")
	if err != nil {
		t.Fatal(err)
	}
	program := []byte("\x00asm, or something that stands for it")
	var files []string
	result, err := describe.Build(source, describe.Options{Name: "hello.yaml", ReadFile: func(name string) ([]byte, error) {
		files = append(files, name)
		return program, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := result.Envelope.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 || files[0] != "hello.wasm" {
		t.Errorf("the description reads %q", files)
	}
	if m.SequenceNumber != 1 || !m.ComponentID.Equal(suit.ComponentID{[]byte("hello"), []byte("manifest")}) {
		t.Errorf("sequence number %d, manifest component %s", m.SequenceNumber, m.ComponentID)
	}
	found := false
	for _, payload := range result.Envelope.Integrated {
		found = found || bytes.Equal(payload, program)
	}
	if !found || len(result.Payloads) != 0 {
		t.Error("the program is not integrated")
	}
}
