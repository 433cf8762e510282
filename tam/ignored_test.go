package tam_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
)

// TestFloodInTheLog: garbage writes no more than so much into the log, hides nothing that somebody signed, and is
// counted.
func TestFloodInTheLog(t *testing.T) {
	w := newWorld(t)
	a := w.agent(cose.AlgESP256)
	signed := a.protect(a.response(a.connect()))
	a.sendRaw(signed)
	lines := func() int { return strings.Count(w.log.String(), "message ignored") }

	before := lines()
	for range 800 {
		a.sendRaw([]byte("garbage"))
	}
	if n := lines() - before; n != 500 {
		t.Errorf("800 messages of garbage are %d lines of the log", n)
	}
	a.ignored(signed, "replayed")
	if strings.Contains(w.log.String(), "not-logged") {
		t.Error("what was left out is told of at a message that it is not of")
	}

	w.clock.advance(time.Second)
	before = lines()
	for range 20 {
		a.sendRaw([]byte("garbage"))
	}
	if n := lines() - before; n != 5 {
		t.Errorf("a second later 20 messages are %d lines", n)
	}
	if logged := w.log.String(); strings.Count(logged, "not-logged") != 1 || !strings.Contains(logged, "not-logged=300") {
		t.Errorf("of the 300 that were left out the log says:\n%s", logged[max(0, len(logged)-2000):])
	}
}
