package agent_test

import (
	"testing"

	"github.com/go-teep/teep"
)

func TestInstallRunUpdateLeave(t *testing.T) {
	w := newWorld(t)
	w.start()
	u := install(t, w.hello(1, "app one"))
	m := w.exchange(w.one, u)
	s, ok := m.(*teep.Success)
	if !ok || string(s.Token) != string(u.Token) || len(s.SUITReports) != 1 {
		t.Fatalf("got %#v", m)
	}
	w.wantRun("app one")
	w.mustInstall(w.one, w.hello(2, "app two"))
	w.wantRun("app two")
	m = w.exchange(w.one, &teep.Update{Token: token(t), UnneededManifests: []teep.ComponentID{teep.ComponentID(id("hello", "manifest"))}})
	if _, ok := m.(*teep.Success); !ok {
		t.Fatalf("got %#v", m)
	}
	if _, err := w.run("code", nil, "hello"); err == nil {
		t.Error("runs although it left")
	}
	if list := w.inventory(w.one); len(list) != 0 {
		t.Errorf("inventory still has %x", list)
	}
}

func (w *world) wantRun(code string) {
	w.t.Helper()
	got, err := w.run("code", nil, "hello")
	if err != nil || got != code {
		w.t.Fatalf("ran %q (%v), want %q", got, err, code)
	}
}
