package conform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Level is the force of a requirement.
type Level string

// Levels. What the texts say in plain words about what an implementation does counts as Must where
// the other side cannot do without it.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
)

// Outcome is how a check ended.
type Outcome string

// Outcomes.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "FAIL"
	Warning Outcome = "warning" // a SHOULD that is not met
	Skip    Outcome = "skip"
)

// Result is the outcome for one requirement.
type Result struct {
	ID          string  `json:"id"`
	Section     string  `json:"section"`
	Level       Level   `json:"level"`
	Requirement string  `json:"requirement"`
	Outcome     Outcome `json:"outcome"`
	// Detail says what was wrong, or what a skipped check would need.
	Detail string `json:"detail,omitempty"`
}

// check is one requirement with what finds out about it.
type check[T any] struct {
	id, section string
	level       Level
	text        string
	run         func(ctx context.Context, t T) error
}

// skipped is a check that cannot be made.
type skipped string

func (s skipped) Error() string { return string(s) }

func skip(format string, args ...any) error { return skipped(fmt.Sprintf(format, args...)) }

// runAll makes the checks in order. observe, if not nil, sees each result as it comes.
func runAll[T any](ctx context.Context, t T, checks []check[T], observe func(Result)) []Result {
	var results []Result
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		r := Result{ID: c.id, Section: c.section, Level: c.level, Requirement: c.text, Outcome: Pass}
		if err := protected(ctx, t, c.run); err != nil {
			r.Detail = err.Error()
			var s skipped
			switch {
			case errors.As(err, &s):
				r.Outcome = Skip
			case c.level == Must:
				r.Outcome = Fail
			default:
				r.Outcome = Warning
			}
		}
		if observe != nil {
			observe(r)
		}
		results = append(results, r)
	}
	return results
}

// protected turns a panic in a check, which what the other side sent may have caused, into its
// failure.
func protected[T any](ctx context.Context, t T, run func(context.Context, T) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check itself failed: %v", p)
		}
	}()
	return run(ctx, t)
}

// Failed tells whether a MUST was not met.
func Failed(results []Result) bool {
	for _, r := range results {
		if r.Outcome == Fail {
			return true
		}
	}
	return false
}

// WriteTable writes results for people to read, with a line of totals at the end.
func WriteTable(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\tRESULT\tLEVEL\tSECTION\tREQUIREMENT")
	count := map[Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Outcome, r.Level, r.Section, r.Requirement)
		if r.Detail != "" {
			fmt.Fprintf(t, "\t\t\t\t  %s\n", oneLine(r.Detail))
		}
	}
	fmt.Fprintf(t, "\n%d checks: %d passed, %d failed, %d warnings, %d skipped\n",
		len(results), count[Pass], count[Fail], count[Warning], count[Skip])
	return t.Flush()
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// WriteJSON writes results for programs.
func WriteJSON(w io.Writer, results []Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(results)
}
