package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/go-teep/teep"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
	Standard   bool
}

// room returns the path of a package inside the module: "." for the root.
func room(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps,Standard", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// layers orders the rooms: a package imports only from layers below its own, or its own room's
// parent and siblings where the rule says so. The longest matching prefix decides.
var layers = []struct {
	rooms []string
	level int
}{
	{[]string{"internal/cbor", "internal/vectors", "internal/archtest", "internal/filewatch", "internal/freeport", "internal/testca"}, 0},
	{[]string{"internal/edn", "cose"}, 1},
	{[]string{".", "suit", "attest", "tee", "link", "transport"}, 2},
	{[]string{"suit/processor", "suit/describe", "tee/", "attest/"}, 3},
	{[]string{"agent", "tam", "internal/inspect"}, 4},
	{[]string{"broker", "tam/", "examples", "tee/vm"}, 5},
	{[]string{"internal/", "teeptest"}, 6},
	{[]string{"bench", "e2e"}, 7},
	{[]string{"cmd"}, 8},
}

func level(r string) int {
	best, level := -1, -1
	for _, l := range layers {
		for _, prefix := range l.rooms {
			base := strings.TrimSuffix(prefix, "/")
			inside := strings.HasPrefix(r, base+"/") || r == base && !strings.HasSuffix(prefix, "/")
			if inside && len(prefix) > best {
				best, level = len(prefix), l.level
			}
		}
	}
	return level
}

// sameRoom tells whether one package lies in the folder of the other: a room may be furnished
// with subpackages that know each other.
func sameRoom(a, b string) bool {
	first := func(s string) string { head, _, _ := strings.Cut(s, "/"); return head }
	return a != "." && b != "." && first(a) == first(b)
}

func TestImportsFlowOneWay(t *testing.T) {
	for _, p := range packages(t) {
		from, _ := room(p.ImportPath)
		if level(from) < 0 {
			t.Errorf("%s: no layer; give the room a place in layers, and in ARCHITECTURE.md", from)
			continue
		}
		for _, imp := range p.Imports {
			to, inside := room(imp)
			if !inside || sameRoom(from, to) {
				continue
			}
			if level(to) >= level(from) {
				t.Errorf("%s (layer %d) imports %s (layer %d): imports flow from high to low only", from, level(from), to, level(to))
			}
		}
	}
}

// forbidden says what must not be in the dependency closure of a room, and why.
var forbidden = []struct {
	rooms  []string
	banned []string
	why    string
}{
	{[]string{"agent", "cmd/teep-agent"}, []string{"net/http", "database/sql", module + "/transport", module + "/broker", module + "/tam"},
		"the agent lives in the TEE and never calls out"},
	{[]string{"broker", "broker/app", "transport", "link", "link/frame", "cmd/teep-broker"}, []string{module, module + "/suit", module + "/cose", module + "/attest", module + "/tee", module + "/agent"},
		"the broker sees bytes only and holds no keys"},
	{[]string{"tam"}, []string{"net/http", "database/sql", "modernc.org/sqlite"},
		"the TAM's core does no I/O"},
	{[]string{"suit", "suit/processor"}, []string{module, module + "/tee", module + "/agent", "net/http"},
		"people import SUIT without TEEP"},
	{[]string{"."}, []string{module + "/suit"},
		"manifests, reports and evidence travel through TEEP messages as raw bytes"},
	{[]string{"suit/processor"}, []string{module + "/tee", module + "/teep"},
		"the agent joins processor and TEE"},
}

func TestForbiddenDependencies(t *testing.T) {
	all := packages(t)
	for _, rule := range forbidden {
		for _, p := range all {
			from, _ := room(p.ImportPath)
			if !slices.Contains(rule.rooms, from) {
				continue
			}
			for _, banned := range rule.banned {
				if slices.Contains(p.Deps, banned) {
					t.Errorf("%s depends on %s: %s", from, banned, rule.why)
				}
			}
		}
	}
}

// TestAgentOpensNoConnection: what runs inside the TEE opens no connection of its own. crypto/x509
// brings package net into the closure, so direct imports are what counts.
func TestAgentOpensNoConnection(t *testing.T) {
	all := packages(t)
	byPath := map[string]listed{}
	for _, p := range all {
		byPath[p.ImportPath] = p
	}
	agent, ok := byPath[module+"/agent"]
	if !ok {
		t.Fatal("there is no package agent: the rule has lost its subject")
	}
	for _, dep := range append(agent.Deps, agent.ImportPath) {
		p, inside := byPath[dep]
		if !inside {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "net" || strings.HasPrefix(imp, "net/http") {
				t.Errorf("%s imports %s, and agent depends on it", dep, imp)
			}
		}
	}
}

func TestOnlyOneCBORPolicy(t *testing.T) {
	for _, p := range packages(t) {
		if from, _ := room(p.ImportPath); from == "internal/cbor" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "github.com/fxamacker/cbor") {
				t.Errorf("%s imports the CBOR library directly: use internal/cbor", p.ImportPath)
			}
		}
	}
}
