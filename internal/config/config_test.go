package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Listen string        `yaml:"listen"`
	Limit  int           `yaml:"limit"`
	Every  time.Duration `yaml:"every"`
	Keys   []string      `yaml:"keys"`
	On     bool          `yaml:"on"`
	Size   uint64        `yaml:"size"`
	Nested struct {
		Dir string `yaml:"dir"`
	} `yaml:"nested"`
}

func TestParseKeepsDefaults(t *testing.T) {
	s := sample{Listen: "127.0.0.1:1", Limit: 7}
	if err := Parse([]byte("nested: {dir: x}\n"), &s); err != nil {
		t.Fatal(err)
	}
	if s.Listen != "127.0.0.1:1" || s.Limit != 7 || s.Nested.Dir != "x" {
		t.Errorf("got %+v", s)
	}
	if err := Parse(nil, &s); err != nil {
		t.Errorf("an empty file means all defaults: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"unknown key":        {"listen: x\nlimitt: 3\n", `line 2: unknown key "limitt"`},
		"unknown nested key": {"nested:\n  dirr: x\n", `line 2: unknown key "dirr"`},
		"no number":          {"limit: many\n", "line 1: many is not a whole number"},
		"no duration":        {"every: 5\n", "line 1: 5 is not a duration"},
		"no list":            {"keys: a\n", "line 1: a is not a list"},
		"no boolean":         {"'on': maybe\n", "line 1: maybe is not true or false"},
		"negative size":      {"size: -1\n", "line 1: -1 is not a whole number from 0"},
		"no text":            {"listen: [1]\n", "line 1: is not text"},
		"no group":           {"nested: 1\n", "line 1: 1 is not what is expected here"},
		"duplicate key":      {"limit: 1\nlimit: 2\n", "line 2"},
		"not YAML":           {"limit: [1\n", "line"},
		"two documents":      {"limit: 1\n---\nlimit: 2\n", "second YAML document"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Parse([]byte(c.in), &sample{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "config.") {
				t.Errorf("the error speaks of Go types: %v", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.yaml")
	if err := Load(path, &sample{}); err == nil || !strings.Contains(err.Error(), "x.yaml") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("bogus: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Load(path, &sample{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the file: %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#", maxSize+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Load(path, &sample{}); err == nil {
		t.Error("an oversize file was read")
	}
}

func TestRelative(t *testing.T) {
	for in, want := range map[string]string{"": "", "/a/b": "/a/b", "keys/x.pem": "/etc/teep/keys/x.pem"} {
		if got := Relative("/etc/teep/tam.yaml", in); got != want {
			t.Errorf("Relative(%q) = %q, want %q", in, got, want)
		}
	}
}
