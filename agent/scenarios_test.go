package agent_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/tee"
)

// crashScenario is one Update, on a device that has something installed already.
type crashScenario struct {
	// before are the manifests that are installed first; nil for none.
	before func(w *world) [][]byte
	update func(w *world) *teep.Update
	// between may be found too: an Update removes first, and then installs (TEEP §7.2.2).
	between string
}

var crashScenarios = map[string]crashScenario{
	"install": {
		update: func(w *world) *teep.Update { return install(w.t, w.fetchedHello(1, "app one")) },
	},
	"update with a fetch": {
		before: appOne,
		update: func(w *world) *teep.Update { return install(w.t, w.fetchedHello(2, "app two")) },
	},
	"application and library": {
		before: appOne,
		update: func(w *world) *teep.Update {
			return install(w.t, w.group(2, map[string]string{"it": "app two", "lib": "library"}, "it", "lib"))
		},
	},
	"group of three components": {
		before: func(w *world) [][]byte { return [][]byte{w.group(1, threeFiles("one"), "it", "lib", "data")} },
		update: func(w *world) *teep.Update {
			return install(w.t, w.group(2, threeFiles("two"), "it", "lib", "data"))
		},
	},
	"update with dependency": {
		before: func(w *world) [][]byte { return [][]byte{w.dependent(1)} },
		update: func(w *world) *teep.Update { return install(w.t, w.dependent(2)) },
	},
	"install with dependency": {
		update: func(w *world) *teep.Update { return install(w.t, w.dependent(1)) },
	},
	"swap": {
		before: func(w *world) [][]byte { return [][]byte{w.swapped(1)} },
		update: func(w *world) *teep.Update { return install(w.t, w.swapped(2)) },
	},
	"encrypted install": {
		update: func(w *world) *teep.Update { return install(w.t, w.encrypted()) },
	},
	"removal": {
		before: appOne,
		update: func(w *world) *teep.Update { return unlink(w.t, id("hello", "manifest")) },
	},
	"removal with dependency": {
		before: func(w *world) [][]byte { return [][]byte{w.dependent(1)} },
		update: func(w *world) *teep.Update { return unlink(w.t, id("hello", "manifest")) },
	},
	"removal and installation": {
		before: func(w *world) [][]byte { return [][]byte{w.dependent(1)} },
		update: func(w *world) *teep.Update {
			u := unlink(w.t, id("hello", "manifest"))
			u.Manifests = [][]byte{w.simple("two", 1, "app another", "uri: https://dev.example/two")}
			return u
		},
		between: nothing,
	},
}

func appOne(w *world) [][]byte { return [][]byte{w.hello(1, "app one")} }

func threeFiles(version string) map[string]string {
	return map[string]string{"it": "app " + version, "lib": "library " + version, "data": "data " + version}
}

// group is a manifest of an application and what belongs to it, all fetched.
func (w *world) group(sequence int, files map[string]string, names ...string) []byte {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `
manifest-component-id: [hello, manifest]
sequence-number: %d
vendor: {domain: example.com}
class: {name: sandbox}
components:
`, sequence)
	for _, name := range names {
		part := "[hello, " + name + "]"
		if name == "it" {
			part = "[hello]"
		}
		fmt.Fprintf(&b, "  - {id: %s, payload: {file: %s, uri: \"https://dev.example/%s-%d\"}}\n", part, name, name, sequence)
	}
	return w.manifest(w.dev, b.String(), files)
}

// dependent is an application with a library, which has a manifest of its own that is fetched.
func (w *world) dependent(version int) []byte {
	w.t.Helper()
	library := w.simple("shared", version, fmt.Sprint("app library ", version), fmt.Sprintf("uri: https://dev.example/library-%d", version))
	uri := fmt.Sprintf("https://dev.example/library-%d.suit", version)
	w.payloads[uri] = library
	return w.manifest(w.dev, fmt.Sprintf(`
manifest-component-id: [hello, manifest]
sequence-number: %d
vendor: {domain: example.com}
class: {name: sandbox}
components: [{id: [hello], payload: {file: it, uri: "https://dev.example/it-%[1]d"}}]
dependencies: [{id: [shared, manifest], file: lib.suit, uri: %q}]
`, version, uri), map[string]string{"it": fmt.Sprint("app ", version), "lib.suit": string(library)})
}

// swapped fetches a version beside the one that runs, and swaps the two (trust domains
// §staging-and-installation). The first one finds nothing to swap with, and copies.
func (w *world) swapped(version int) []byte {
	w.t.Helper()
	command := "swap"
	if version == 1 {
		command = "copy"
	}
	name := fmt.Sprint("v", version)
	m := w.manifest(w.dev, fmt.Sprintf(`
manifest-component-id: [hello, manifest]
sequence-number: %d
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - {id: [hello]}
  - {id: [hello, lib]}
sequences:
  payload-fetch:
    - set-component-index: 1
    - override-parameters: {image-digest: {file: %[2]s}, uri: "https://dev.example/%[2]s"}
    - fetch
    - image-match
  install:
    - set-component-index: 0
    - override-parameters: {source-component: 1, image-digest: {file: %[2]s}}
    - %[3]s
    - image-match
  validate:
    - set-component-index: 0
    - override-parameters: {image-digest: {file: %[2]s}}
    - image-match
`, version, name, command), map[string]string{name: "app " + name})
	w.payloads["https://dev.example/"+name] = []byte("app " + name)
	return m
}

// encrypted is an application that is encrypted to the device, larger than what the store writes at
// a time, and so is plaintext of it before its tag is known.
func (w *world) encrypted() []byte {
	w.t.Helper()
	return w.manifest(w.dev, `
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox}
components:
  - id: [hello]
    payload:
      file: it
      uri: https://dev.example/it.enc
      encrypt: {to: [device.pub], algorithm: A128GCM}
`, map[string]string{"it": "app" + strings.Repeat(" and more", 30_000), "device.pub": w.deviceKey()})
}

// deviceKey is what payloads are encrypted to.
func (w *world) deviceKey() string {
	w.t.Helper()
	key, err := w.device.keys[tee.KeyEncryption].Public().MarshalPEM()
	if err != nil {
		w.t.Fatal(err)
	}
	return string(key)
}

// state reads what is installed: the application's code, what belongs to it, and others.
func (w *world) state() string {
	var b strings.Builder
	add := func(name, command string, component ...string) {
		content, err := w.run(command, nil, component...)
		if err != nil {
			return
		}
		if len(content) > 40 {
			content = fmt.Sprintf("%d bytes, %x", len(content), sha256.Sum256([]byte(content)))
		}
		fmt.Fprintf(&b, " %s=%s", name, content)
	}
	add("hello", "code", "hello")
	add("lib", "read lib", "hello")
	add("data", "read data", "hello")
	add("shared", "code", "shared")
	add("two", "code", "two")
	if b.Len() == 0 {
		return nothing
	}
	return strings.TrimSpace(b.String())
}

const nothing = "nothing"

// TestScenarios says what the scenarios of the crash tests do, so that they are known to do it.
func TestScenarios(t *testing.T) {
	for name, want := range map[string][2]string{
		"install":                   {nothing, "hello=app one"},
		"update with a fetch":       {"hello=app one", "hello=app two"},
		"application and library":   {"hello=app one", "hello=app two lib=library"},
		"group of three components": {"hello=app one lib=library one data=data one", "hello=app two lib=library two data=data two"},
		"update with dependency":    {"hello=app 1 shared=app library 1", "hello=app 2 shared=app library 2"},
		"install with dependency":   {nothing, "hello=app 1 shared=app library 1"},
		"swap":                      {"hello=app v1 lib=app v1", "hello=app v2 lib=app v1"},
		"removal":                   {"hello=app one", nothing},
		"removal with dependency":   {"hello=app 1 shared=app library 1", nothing},
		"removal and installation":  {"hello=app 1 shared=app library 1", "two=app another"},
		"encrypted install": {nothing, fmt.Sprintf("hello=270003 bytes, %x",
			sha256.Sum256([]byte("app"+strings.Repeat(" and more", 30_000))))},
	} {
		w, raw := crashScenarios[name].ready(t)
		old, after, _ := crashScenarios[name].reference(w, w.device.disk, raw)
		if old != want[0] || after != want[1] {
			t.Errorf("%s: %q and then %q", name, old, after)
		}
	}
}
