package main

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
)

// TestFleet runs the measurement with a small fleet, so that it does not break unnoticed.
func TestFleet(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), options{devices: 200, replicas: 1, workers: 2 * runtime.GOMAXPROCS(0), out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"floor: ", "enrol: 200 sessions, 0 updates", ", 200 updates in ", "rollout done", "200 devices, all of them with the version"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]options{
		"too few devices":     {devices: 10, replicas: 1, workers: 1},
		"too many":            {devices: 1 << 30, replicas: 1, workers: 1},
		"no replica":          {devices: 1000, workers: 1},
		"no worker":           {devices: 1000, replicas: 1},
		"replicas and a file": {devices: 1000, replicas: 2, workers: 1},
	} {
		if err := run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
