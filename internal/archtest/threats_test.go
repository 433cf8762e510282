package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const threatsTable = "docs/threats.md"

// TestThreatsTableIsTrue: every threat has a verdict, what holds names tests, and these exist.
func TestThreatsTableIsTrue(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, threatsTable))
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`^(9\.[0-9]|TEEP|EVIDENCE|TAM)-[0-9]+$`)
	seen := map[string]bool{}
	for i, line := range strings.Split(string(data), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 2 || !number.MatchString(strings.TrimSpace(cells[1])) {
			continue
		}
		if len(cells) != 7 {
			t.Errorf("%s:%d: %d cells, not 5", threatsTable, i+1, len(cells)-2)
			continue
		}
		id, held, tests, remark := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[3]), cells[4], strings.TrimSpace(cells[5])
		if seen[id] {
			t.Errorf("%s:%d: %s is there twice", threatsTable, i+1, id)
		}
		seen[id] = true
		named := quoted.FindAllStringSubmatch(tests+cells[5], -1)
		switch {
		case held == "yes" && !strings.Contains(tests, "`"):
			t.Errorf("%s:%d: %s is held, and no test shows it", threatsTable, i+1, id)
		case held == "partly" && (remark == "" || !strings.Contains(tests, "`")), held == "no" && remark == "":
			t.Errorf("%s:%d: %s is not held, and it does not say how far and why", threatsTable, i+1, id)
		case held != "yes" && held != "partly" && held != "no":
			t.Errorf("%s:%d: %s is held %q: write yes, partly or no", threatsTable, i+1, id, held)
		}
		for _, m := range named {
			if fault := testExists(m[1]); fault != "" {
				t.Errorf("%s:%d: %s: %s", threatsTable, i+1, m[1], fault)
			}
		}
	}
	for _, section := range []string{"9.1", "9.2", "9.3", "9.4", "9.5", "9.6", "9.7", "9.8", "9.9", "TEEP", "EVIDENCE", "TAM"} {
		if !seen[section+"-1"] {
			t.Errorf("%s: nothing of section %s", threatsTable, section)
		}
	}
}
