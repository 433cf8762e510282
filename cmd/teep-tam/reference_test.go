package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/config"
)

const referencePage = "../../docs/operations/configuration.md"

// referenceRows are the rows of the tables below headings of the page that has every key, by their first cell.
func referenceRows(t *testing.T, header string) map[string][]string {
	t.Helper()
	page, err := os.ReadFile(referencePage)
	must(t, err)
	rows, within := map[string][]string{}, false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "| "+header+" |"):
			within = true
		case !strings.HasPrefix(line, "|"):
			within = false
		case within && !strings.HasPrefix(line, "|---"):
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			key := strings.Trim(cells[0], "`")
			if _, twice := rows[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			rows[key] = cells
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table of %s", referencePage, header)
	}
	return rows
}

// configurationKeys are the keys of a configuration file, each with the value that it has without one.
func configurationKeys(prefix string, v reflect.Value, keys map[string]reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			configurationKeys(prefix, v.Field(i), keys)
		case name != "":
			configurationKey(prefix+name, v.Field(i), keys)
		}
	}
}

func configurationKey(name string, v reflect.Value, keys map[string]reflect.Value) {
	switch kind := v.Kind(); {
	case kind == reflect.Struct:
		configurationKeys(name+".", v, keys)
	case kind == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		configurationKeys(name+"[].", reflect.Zero(v.Type().Elem()), keys)
	case kind == reflect.Map:
		configurationKey(name+".NAME", reflect.Zero(v.Type().Elem()), keys)
	default:
		keys[name] = v
	}
}

// TestReferenceIsTrue: the page has every key and no other, with the default that the program has, and an example that
// it reads.
func TestReferenceIsTrue(t *testing.T) {
	rows, keys := referenceRows(t, "key"), map[string]reflect.Value{}
	configurationKeys("", reflect.ValueOf(defaults()), keys)
	if len(keys) < 100 {
		t.Fatalf("only %d keys were found", len(keys))
	}
	for key := range rows {
		if _, ok := keys[key]; !ok {
			t.Errorf("%s is no key of tam.yaml", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		cells, ok := rows[key]
		switch {
		case !ok:
			t.Errorf("%s is missing in %s", key, referencePage)
			continue
		case len(cells) != 4 || cells[1] == "":
			t.Errorf("%s: a key has a meaning, a default and an example: %q", key, cells)
			continue
		}
		if want := defaultOf(keys[key]); want != "" && cells[2] != "`"+want+"`" {
			t.Errorf("%s: the default is %s, and the page says %s", key, want, cells[2])
		}
		if text := exampleOf(key, strings.Trim(cells[3], "`")); !strings.HasPrefix(cells[3], "`") {
			t.Errorf("%s has no example", key)
		} else if c := defaults(); config.Parse([]byte(text), &c) != nil {
			t.Errorf("%s is not read: %v", text, config.Parse([]byte(text), &c))
		}
	}
}

// defaultOf is how the page writes a default that the configuration has; "" where it is the program's business.
func defaultOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case bool:
		return fmt.Sprint(x)
	case time.Duration:
		if x != 0 {
			return strings.TrimSuffix(strings.TrimSuffix(x.String(), "0s"), "0m")
		}
	default:
		if !v.IsZero() {
			return fmt.Sprint(x)
		}
	}
	return ""
}

// exampleOf is a file that sets one key.
func exampleOf(key, value string) string {
	var text strings.Builder
	indent := ""
	for part := range strings.SplitSeq(key, ".") {
		name, list := strings.CutSuffix(part, "[]")
		text.WriteString(name + ":\n" + indent)
		if indent += "  "; list {
			text.WriteString("- ")
			indent += "  "
		} else {
			text.WriteString("  ")
		}
	}
	return text.String() + value + "\n"
}

var flagName = regexp.MustCompile(`--[a-z-]+`)

// TestReferenceOfFlags: the page names each flag of each command, and no other.
func TestReferenceOfFlags(t *testing.T) {
	rows := map[string]string{}
	for name, cells := range referenceRows(t, "command") {
		rows[strings.TrimRight(name, " ABCDEFGHIJKLMNOPQRSTUVWXYZ")] = cells[1]
	}
	seen := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.Runnable() {
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), "teep-tam ")
		cell, ok := rows[name]
		if delete(rows, name); !ok {
			t.Errorf("%s is missing", name)
			return
		}
		seen++
		named := flagName.FindAllString(cell, -1)
		for line := range strings.Lines(c.LocalFlags().FlagUsages()) {
			flag := flagName.FindString(line)
			if flag == "--config" || flag == "--help" {
				continue
			}
			n := slices.Index(named, flag)
			if n < 0 {
				t.Errorf("%s %s is missing", name, flag)
				continue
			}
			named = slices.Delete(named, n, n+1)
		}
		if len(named) > 0 {
			t.Errorf("%s has no %q", name, named)
		}
	}
	walk(root())
	if len(rows) > 0 || seen < 10 {
		t.Errorf("there are no commands %q", slices.Sorted(maps.Keys(rows)))
	}
}

// TestReferenceOfEnvironment: what the program reads from its environment is on the page.
func TestReferenceOfEnvironment(t *testing.T) {
	rows := referenceRows(t, "variable")
	reads := regexp.MustCompile(`(?:Getenv|LookupEnv)\("(\w+)"\)|= "(CREDENTIALS_DIRECTORY)"`)
	found := 0
	for _, folder := range []string{".", "../../internal/program", "../../cose/keyfile", "../../tam/tracing", "../../tam/blobs3"} {
		files, err := filepath.Glob(folder + "/*.go")
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range reads.FindAllStringSubmatch(string(text), -1) {
				found++
				if name := m[1] + m[2]; rows[name] == nil {
					t.Errorf("%s reads %s, which is missing", file, name)
				}
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d variables were found", found)
	}
}
