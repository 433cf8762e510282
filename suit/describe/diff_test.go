package describe_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

// manifest builds a manifest from a description whose payload files hold their own names.
func manifest(t *testing.T, text string) *suit.Manifest {
	t.Helper()
	r, err := describe.Build([]byte(text), describe.Options{Name: "test.yaml",
		ReadFile: func(name string) ([]byte, error) { return []byte(name), nil }})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Envelope.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const described = `
manifest-component-id: [hello, manifest]
sequence-number: %d
version: "%s"
vendor: {domain: example.com}
class: {name: %s}
components:
  - id: [%s]
    payload: {file: %s, %s}
`

func TestDiff(t *testing.T) {
	text := func(values ...any) string { return fmt.Sprintf(described, values...) }
	base := []any{1, "1.0.0", "wasm", "hello", "a.wasm", "integrated: true"}
	for name, c := range map[string]struct {
		at    int
		value any
		want  []string // prefixes of the changes
	}{
		"nothing":         {0, 1, nil},
		"sequence number": {0, 2, []string{"~ sequence-number: 1 -> 2"}},
		"version":         {1, "1.1.0", []string{"~ version: 1.0.0 -> 1.1.0"}},
		"class":           {2, "other", []string{"~ component 'hello' class-identifier: "}},
		"component": {3, "bye", []string{"+ component 'bye': added", "+ component 'bye' vendor-identifier: ",
			"+ component 'bye' class-identifier: ", "+ component 'bye' image-digest: sha-256:", "+ component 'bye' image-size: 6 bytes",
			"+ component 'bye' uri: ", "- component 'hello': present"}},
		"payload": {4, "bb.wasm", []string{"~ component 'hello' image-digest: sha-256:",
			"~ component 'hello' image-size: 6 bytes -> 7 bytes", "~ component 'hello' uri: \"#a.wasm\" -> \"#bb.wasm\""}},
		"where it comes from": {5, `uri: "https://example.com/a"`, []string{"~ component 'hello' uri: "}},
	} {
		t.Run(name, func(t *testing.T) {
			values := slices.Clone(base)
			values[c.at] = c.value
			changes := describe.Diff(manifest(t, text(base...)), manifest(t, text(values...)))
			if len(changes) != len(c.want) {
				t.Fatalf("changes %v, want %q", changes, c.want)
			}
			for i, change := range changes {
				if !strings.HasPrefix(change.String(), c.want[i]) {
					t.Errorf("change %q, want %q", change, c.want[i])
				}
			}
		})
	}
}

// TestDiffOfCommands compares manifests that differ in what they do.
func TestDiffOfCommands(t *testing.T) {
	plain := manifest(t, fmt.Sprintf(described, 1, "1.0.0", "wasm", "hello", "a.wasm", "integrated: true"))
	changed := *plain
	changed.Validate = suit.Section{}
	changed.Invoke = suit.Section{Commands: suit.Sequence{suit.SetComponentIndex(0), suit.Directive(suit.DirInvoke, 0)}}
	changed.Common.Dependencies = []suit.Dependency{{Index: 1, Prefix: suit.NewComponentID("runtime")}}
	var got []string
	for _, c := range describe.Diff(plain, &changed) {
		got = append(got, c.String())
	}
	want := []string{"+ dependency 1: prefix 'runtime'", "- validate: ", "+ invoke: directive-set-component-index [0], directive-invoke"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}

// A section that was severed from one of the two is the same if its digest is.
func TestDiffOfSeveredSections(t *testing.T) {
	build := func(uri string, sever bool) *suit.Manifest {
		r, err := describe.Build([]byte(fmt.Sprintf(described, 1, "1.0.0", "wasm", "hello", "a.wasm", "uri: "+uri)+"severable: [install]\n"),
			describe.Options{ReadFile: func(name string) ([]byte, error) { return []byte(name), nil }})
		if err != nil {
			t.Fatal(err)
		}
		e := r.Envelope.Clone()
		if sever {
			e.Sever()
		}
		m, err := e.UnverifiedManifest()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range [][2]bool{{false, true}, {true, false}, {true, true}, {false, false}} {
		before, after := build("https://a", c[0]), build("https://a", c[1])
		if changes := describe.Diff(before, after); changes != nil {
			t.Errorf("severed %v: %v", c, changes)
		}
		if before.Install.Available() == c[0] {
			t.Error("the manifest itself was changed")
		}
		if changes := describe.Diff(build("https://a", c[0]), build("https://b", c[1])); len(changes) == 0 {
			t.Errorf("severed %v: nothing of another section", c)
		}
	}
}
