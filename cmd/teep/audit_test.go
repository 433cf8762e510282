package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/audit"
)

func TestAuditVerify(t *testing.T) {
	var lines []string
	var head audit.Head
	for range 3 {
		e := audit.New(context.Background(), time.Unix(1e9, 0), audit.ActionPolicySet, "'a'", "required for all devices")
		if err := e.Seal(head); err != nil {
			t.Fatal(err)
		}
		head = e.Head()
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
		"bad head":   {head: "3", fault: "SEQ:HASH"},
		"short head": {head: "3:00", fault: "SEQ:HASH"},
	} {
		var out bytes.Buffer
		err := verifyAudit(&out, strings.NewReader(test.log), test.head)
		if test.fault == "" && (err != nil || !strings.Contains(out.String(), test.want)) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
		if test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
