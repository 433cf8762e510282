package appraisal_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
)

const tcbYAML = `
owner: Processor maker
expires: 2027-01-01T00:00:00Z
tcb-levels:
  - oemid: pen:3704
    hwmodel: 4d696c616e
    levels:
      - components: {snp: 24, microcode: 219}
        status: affirming
        expires: 2026-07-01T00:00:00Z
      - components: {snp: 20, microcode: 200}
        status: warning
        why: advisory 3015
`

func TestTCBLevels(t *testing.T) {
	c, err := appraisal.ParseYAML([]byte(tcbYAML))
	if err != nil {
		t.Fatal(err)
	}
	store, err := appraisal.NewStore(c)
	if err != nil {
		t.Fatal(err)
	}
	oemid, _ := attest.ParseOEMID("pen:3704")
	levels, err := store.TCBLevelsFor(appraisal.Class{OEMID: oemid, HWModel: []byte("Milan")})
	if err != nil || len(levels) != 2 || levels[1].Owner != "Processor maker" {
		t.Fatalf("%v, %v", levels, err)
	}
	at := func(day string) time.Time {
		now, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	for _, c := range []struct {
		name     string
		versions map[string]uint64
		now      string
		want     attest.Status
		says     string
	}{
		{"reached", map[string]uint64{"snp": 24, "microcode": 219}, "2026-06-01", attest.StatusAffirming, "reaches"},
		{"newer", map[string]uint64{"snp": 30, "microcode": 220, "other": 0}, "2026-06-01", attest.StatusAffirming, "reaches"},
		{"one part older", map[string]uint64{"snp": 99, "microcode": 218}, "2026-06-01", attest.StatusWarning, "advisory 3015"},
		{"level expired", map[string]uint64{"snp": 24, "microcode": 219}, "2026-07-01", attest.StatusWarning, "advisory 3015"},
		{"too old", map[string]uint64{"snp": 19, "microcode": 255}, "2026-06-01", attest.StatusContraindicated, "too old"},
		{"part not reported", map[string]uint64{"snp": 24}, "2026-06-01", attest.StatusContraindicated, "too old"},
		{"nothing reported", nil, "2026-06-01", attest.StatusContraindicated, "too old"},
		{"all expired", map[string]uint64{"snp": 24, "microcode": 219}, "2027-01-01", attest.StatusContraindicated, "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := appraisal.MatchTCB(levels, c.versions, at(c.now))
			if r.Status != c.want || !strings.Contains(r.Text, c.says) {
				t.Errorf("%v: %s", r.Status, r.Text)
			}
		})
	}
	if r := appraisal.MatchTCB(nil, map[string]uint64{"snp": 24}, at("2026-06-01")); r.Status != attest.StatusContraindicated || !strings.Contains(r.Text, "load") {
		t.Errorf("without levels: %v", r)
	}
	if r := appraisal.MatchTCB([]appraisal.TCBLevel{{Status: attest.StatusAffirming}}, nil, at("2026-06-01")); r.Status != attest.StatusContraindicated {
		t.Errorf("a level without parts was reached: %v", r)
	}
	written, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := appraisal.ParseYAML(written)
	if err != nil || !reflect.DeepEqual(again.TCBLevels, c.TCBLevels) {
		t.Errorf("%v, %v\n%s", again, err, written)
	}
}

func TestTCBLevelsRefused(t *testing.T) {
	for old, bad := range map[string]string{
		"status: affirming":             "status: good",
		"{snp: 24, microcode: 219}":     "{}",
		"snp: 24":                       "snp: -1",
		"hwmodel: 4d696c616e":           "hwmodel: Milan",
		"    oemid: pen:3704":           "    oemid: amd",
		"expires: 2026-07-01T00:00:00Z": "expires: July",
		"why: advisory 3015":            "because: advisory 3015",
	} {
		text := strings.Replace(strings.Replace(tcbYAML, "  - oemid", "  -\n    oemid", 1), old, bad, 1)
		if _, err := appraisal.ParseYAML([]byte(text)); !errors.Is(err, appraisal.ErrCollateral) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
