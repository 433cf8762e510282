package suit_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
)

// specFolder has the texts, which are not part of the module.
const specFolder = "../../shared/spec"

var registration = regexp.MustCompile(`(?m)^(suit-[a-z0-9-]+) *= *(-?[0-9]+)`)

// Every condition, directive, parameter, text and reason that the CDDL of the texts has a number for is known
// here, under that number and that name.
func TestNumbersAreThoseOfTheTexts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(specFolder, "suit-*.cddl"))
	if err != nil || len(files) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the texts are missing: %v", err)
		}
		t.Skip("the texts are not here, so that numbers cannot be compared")
	}
	kinds := []struct {
		prefix string
		name   func(int64) string
		want   int // how many the texts have
	}{
		{"suit-condition-version-comparison-", func(n int64) string {
			return map[string]string{">": "greater", ">=": "greater-equal", "=": "equal", "<=": "lesser-equal", "<": "lesser"}[suit.Comparison(n).String()]
		}, 5},
		{"suit-condition-", func(n int64) string { return strings.TrimPrefix(suit.CommandCode(n).String(), "condition-") }, 14},
		{"suit-directive-", func(n int64) string { return strings.TrimPrefix(suit.CommandCode(n).String(), "directive-") }, 15},
		{"suit-parameter-", func(n int64) string { return suit.ParameterLabel(n).String() }, 20},
		{"suit-report-reason-", func(n int64) string { return suit.Reason(n).String() }, 13},
	}
	counts := make([]int, len(kinds))
	seen := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range registration.FindAllStringSubmatch(string(data), -1) {
			n, err := strconv.ParseInt(m[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range kinds {
				name, ok := strings.CutPrefix(m[1], k.prefix)
				if !ok {
					continue
				}
				if !seen[m[1]] {
					counts[i]++
				}
				seen[m[1]] = true
				if got := k.name(n); got != name {
					t.Errorf("%s: %s is %d there, and %d is %q here", filepath.Base(file), m[1], n, n, got)
				}
				break
			}
		}
	}
	for i, k := range kinds {
		if counts[i] != k.want {
			t.Errorf("the texts have %d of %s, not %d", counts[i], k.prefix, k.want)
		}
	}
}
