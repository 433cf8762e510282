package console

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

func TestParseStages(t *testing.T) {
	got, err := parseStages("1% soak=1h success=95%\n\n  group canary failures=3 drop=2\n100% failure=7\n")
	must(t, err)
	want := []policy.Stage{
		{Percent: 1, Soak: policy.Duration(time.Hour), Success: 95},
		{Group: "canary", FailureMin: 3, Drop: 2},
		{Percent: 100, Failure: 7},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed as %+v", got)
	}
	for _, bad := range []string{"10", "%", "x%", "group", "10% soak", "10% soak=1", "10% success=much", "10% failures=1.5", "10% later=1", "everybody"} {
		_, err := parseStages("1%\n" + bad)
		var p *api.Problem
		if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity || !strings.Contains(p.Detail, "line 2") || p.Next == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseWindows(t *testing.T) {
	got, err := parseWindows("22:00-04:00\nmon,tue 22:00-04:00 Europe/Berlin\n")
	must(t, err)
	want := []policy.Window{{From: "22:00", To: "04:00"}, {Days: []string{"mon", "tue"}, From: "22:00", To: "04:00", Zone: "Europe/Berlin"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed as %+v", got)
	}
	for _, bad := range []string{"mon", "22:00", "22:00-04:00 UTC late", "mon tue 22:00-04:00"} {
		if _, err := parseWindows(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParseComponents(t *testing.T) {
	text := "required 'acme'/'app'\navailable 'acme'/'app2' 3\nforbidden domain games\n"
	got, err := parseComponents(text)
	must(t, err)
	want := []policy.Component{
		{Mode: "required", Manifest: "'acme'/'app'"}, {Mode: "available", Manifest: "'acme'/'app2'", Sequence: 3}, {Mode: "forbidden", Domain: "games"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parsed as %+v", got)
	}
	if again := formatComponents(got); again != text {
		t.Errorf("written as %q", again)
	}
	for _, bad := range []string{"required", "required a b", "required a 1 2", "required domain a b"} {
		if _, err := parseComponents(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
