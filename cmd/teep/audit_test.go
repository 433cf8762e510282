package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/audit"
)

func TestAuditVerify(t *testing.T) {
	var lines []string
	var head audit.Head
	first := ""
	for range 3 {
		e := audit.New(context.Background(), time.Unix(1e9, 0), audit.ActionPolicySet, "'a'", "required for all devices")
		if err := e.Seal(head); err != nil {
			t.Fatal(err)
		}
		head = e.Head()
		if first == "" {
			first = "1:" + head.Hash.String()
		}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(data)+"\n")
	}
	known := "3:" + head.Hash.String()
	for name, test := range map[string]struct{ log, head, want, fault string }{
		"whole":      {log: strings.Join(lines, ""), want: "unbroken: 3 entries from the first entry on"},
		"with head":  {log: strings.Join(lines, ""), head: known, want: "head " + known},
		"a piece":    {log: lines[1] + lines[2], want: "from entry 2 on"},
		"empty":      {want: "no entry"},
		"cut off":    {log: lines[0] + lines[1], head: known, fault: "cut off"},
		"other hash": {log: strings.Join(lines, ""), head: "2:" + head.Hash.String(), fault: "changed after"},
		"gap":        {log: lines[0] + lines[2], fault: "missing or were moved"},
		"changed":    {log: strings.Replace(strings.Join(lines, ""), "all", "no", 1), fault: "entry 1 was changed"},
		"heads":      {log: strings.Join(lines, ""), head: first + " " + known, want: "head " + known},
		"one of two": {log: lines[0] + lines[1], head: first + " " + known, fault: "entry 3"},
		"bad head":   {head: "3", fault: "SEQ:HASH"},
		"short head": {head: "3:00", fault: "SEQ:HASH"},
	} {
		var out bytes.Buffer
		var heads []string
		if test.head != "" {
			heads = strings.Split(test.head, " ")
		}
		err := verifyAudit(&out, strings.NewReader(test.log), heads)
		if test.fault == "" && (err != nil || !strings.Contains(out.String(), test.want)) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
		if test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerifyExport: what a TAM gives has to lead from where it was asked for to the end that it names.
func TestVerifyExport(t *testing.T) {
	var lines []string
	heads := []audit.Head{{}}
	for range 4 {
		e := audit.New(context.Background(), time.Unix(1e9, 0), audit.ActionPolicySet, "'a'", "required for all devices")
		if err := e.Seal(heads[len(heads)-1]); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		heads, lines = append(heads, e.Head()), append(lines, string(data)+"\n")
	}
	other := audit.Head{Seq: 3, Hash: heads[2].Hash}
	for name, test := range map[string]struct {
		lines []string
		after int64
		head  audit.Head
		fault string
	}{
		"whole":                    {lines: lines[:3], head: heads[3]},
		"one more came meanwhile":  {lines: lines, head: heads[3]},
		"a piece":                  {lines: lines[1:], after: 1, head: heads[4]},
		"nothing follows":          {after: 4, head: heads[4]},
		"nothing at all":           {},
		"the end is missing":       {lines: lines[:2], head: heads[3], fault: "was changed"},
		"another end":              {lines: lines[:3], head: other, fault: "was changed"},
		"nothing, with an end":     {head: heads[3], fault: "was changed"},
		"the beginning is missing": {lines: lines[1:], head: heads[4], fault: "were removed"},
		"a piece begins late":      {lines: lines[2:], after: 1, head: heads[4], fault: "were removed"},
		"a gap":                    {lines: []string{lines[0], lines[2]}, head: heads[3], fault: "missing or were moved"},
	} {
		err := verifyExport(io.Discard, strings.NewReader(strings.Join(test.lines, "")), test.after, test.head)
		if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
