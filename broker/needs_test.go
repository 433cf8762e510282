package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-teep/teep/link"
)

// TestComponentsAreShared: what two apps need goes when the second leaves, also across a restart of
// the broker between the two.
func TestComponentsAreShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "needs.json")
	ctx := context.Background()
	a := &fakeAgent{requestTA: func(link.Request) (link.Ask, error) { return none() }, unrequest: none}
	start := func() *Broker {
		t.Helper()
		needs, err := OpenNeeds(path)
		if err != nil {
			t.Fatal(err)
		}
		return newBroker(t, a, func(o *Options) { o.Needs = needs })
	}
	b := start()
	for _, app := range []string{"mail", "calendar", "mail"} {
		if err := b.Request(ctx, Request{Component: id("keys"), App: app}, nil); err != nil {
			t.Fatal(err)
		}
	}
	unrequested := func() bool { return strings.Contains(a.told(), "unrequest") }
	if err := b.UnrequestFor(ctx, "mail", id("keys"), Requirements{}); err != nil || unrequested() {
		t.Fatalf("the agent was told although the calendar stays: %v; %s", err, a.told())
	}
	// Twice is no more than once, and what was never requested is nobody's.
	if err := b.UnrequestFor(ctx, "mail", id("keys"), Requirements{}); err != nil || unrequested() {
		t.Fatalf("%v; %s", err, a.told())
	}
	b = start()
	if err := b.UnrequestFor(ctx, "stranger", id("keys"), Requirements{}); err != nil || unrequested() {
		t.Fatalf("a stranger took it away: %v; %s", err, a.told())
	}
	if err := b.UnrequestFor(ctx, "calendar", id("keys"), Requirements{}); err != nil || !unrequested() {
		t.Fatalf("the last one left: %v; %s", err, a.told())
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestNeedsAreBounded(t *testing.T) {
	n, err := OpenNeeds("")
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxNeedsOfAnApp {
		if err := n.add("tee", id(fmt.Sprint(i)), "app"); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.add("tee", id("one more"), "app"); !errors.Is(err, ErrTooManyNeeds) {
		t.Error(err)
	}
	if err := n.add("tee", id("0"), "app"); err != nil {
		t.Errorf("what is there already: %v", err)
	}
	if err := n.add("tee", id("0"), "other"); err != nil {
		t.Errorf("another app: %v", err)
	}
}

func TestNeedsFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "", "other": `{"version":2}`, "unknown": `{"version":1,"more":1}`, "garbage": "garbage", "large": strings.Repeat(" ", maxNeedsFile+1),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenNeeds(path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// What cannot be written down does not count.
	n, err := OpenNeeds(filepath.Join(dir, "missing", "needs.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.add("tee", id("a"), "app"); err == nil {
		t.Error("nothing was written, and nobody noticed")
	}
	if needed, err := n.remove("tee", id("a"), "other"); needed || err != nil {
		t.Errorf("needed %v, %v", needed, err)
	}
}
