package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusedTenantsAreTriedLessOften: what is wrong is said once, and one that stays wrong is not tried each second for ever.
func TestRefusedTenantsAreTriedLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newService(&configuration{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
		one, two := fileStamp{size: 1}, fileStamp{size: 2}
		waits := func(of fileStamp, why string) time.Duration {
			s.refuse("a/tam.yaml", of, "tenant is not served", errors.New(why))
			return time.Until(s.refused["a/tam.yaml"].again)
		}
		for n, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			if got := waits(one, "no secret"); got != want*time.Second {
				t.Errorf("after refusal %d it is tried after %v, want %v s", n+1, got, int(want))
			}
		}
		if got := waits(two, "no secret"); got != time.Second {
			t.Errorf("with another configuration it is tried after %v", got)
		}
		waits(two, "no key")
		if said := strings.Count(log.String(), "level=ERROR"); said != 2 {
			t.Errorf("two things were wrong, and it was said %d times:\n%s", said, &log)
		}
	})
}
