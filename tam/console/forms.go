package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// What people write into the larger fields, a line for each thing. The API checks what the lines mean; here
// they only have to be readable.

// fault says which line of which field cannot be read, and how it is written.
func fault(field string, line int, text, next string) error {
	return &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form",
		Detail: fmt.Sprintf("%s, line %d: %q cannot be read.", field, line, text), Next: next}
}

// eachLine calls parse with the words of every line that is not empty.
func eachLine(field, text, next string, parse func(words []string) bool) error {
	for i, line := range strings.Split(text, "\n") {
		if words := strings.Fields(line); len(words) > 0 && !parse(words) {
			return fault(field, i+1, strings.TrimSpace(line), next)
		}
	}
	return nil
}

const stagesHint = "Write a share or a group, and what else differs from the usual: 10% soak=1h success=95, or group canary failures=3."

// parseStages reads the stages of a rollout.
func parseStages(text string) ([]policy.Stage, error) {
	stages := []policy.Stage{}
	err := eachLine("Stages", text, stagesHint, func(words []string) bool {
		var s policy.Stage
		share, isShare := strings.CutSuffix(words[0], "%")
		switch {
		case isShare:
			var err error
			if s.Percent, err = strconv.ParseFloat(share, 64); err != nil {
				return false
			}
			words = words[1:]
		case words[0] == "group" && len(words) > 1:
			s.Group, words = words[1], words[2:]
		default:
			return false
		}
		for _, w := range words {
			if !parseGate(&s, w) {
				return false
			}
		}
		stages = append(stages, s)
		return true
	})
	return stages, err
}

// parseGate reads one of the conditions of a stage.
func parseGate(s *policy.Stage, word string) bool {
	key, value, _ := strings.Cut(word, "=")
	var err error
	switch key {
	case "soak":
		var d time.Duration
		d, err = time.ParseDuration(value)
		s.Soak = policy.Duration(d)
	case "success":
		s.Success, err = strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	case "failure":
		s.Failure, err = strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	case "drop":
		s.Drop, err = strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	case "failures":
		s.FailureMin, err = strconv.ParseInt(value, 10, 64)
	default:
		return false
	}
	return err == nil
}

const windowsHint = "Write 22:00-04:00, with days before it and a time zone behind it where they matter: mon,tue 22:00-04:00 Europe/Berlin."

// parseWindows reads maintenance windows.
func parseWindows(text string) ([]policy.Window, error) {
	var windows []policy.Window
	err := eachLine("Windows", text, windowsHint, func(words []string) bool {
		var w policy.Window
		if !strings.Contains(words[0], ":") {
			w.Days, words = strings.Split(words[0], ","), words[1:]
		}
		if len(words) == 0 || len(words) > 2 {
			return false
		}
		var found bool
		if w.From, w.To, found = strings.Cut(words[0], "-"); !found {
			return false
		}
		if len(words) == 2 {
			w.Zone = words[1]
		}
		windows = append(windows, w)
		return true
	})
	return windows, err
}

const componentsHint = "Write required, available or forbidden, and the manifest or domain: required 'acme'/'app', available 'acme'/'app' 3, forbidden domain games."

// parseComponents reads what a group says about components.
func parseComponents(text string) ([]policy.Component, error) {
	components := []policy.Component{}
	err := eachLine("Components", text, componentsHint, func(words []string) bool {
		if len(words) < 2 || len(words) > 3 {
			return false
		}
		c := policy.Component{Mode: policy.Mode(words[0])}
		switch {
		case words[1] == "domain" && len(words) == 3:
			c.Domain = words[2]
		case len(words) == 3:
			var err error
			if c.Sequence, err = strconv.ParseUint(words[2], 10, 64); err != nil {
				return false
			}
			fallthrough
		default:
			c.Manifest = words[1]
		}
		components = append(components, c)
		return true
	})
	return components, err
}

// formatComponents is the inverse of parseComponents.
func formatComponents(components []policy.Component) string {
	var b strings.Builder
	for _, c := range components {
		switch {
		case c.Domain != "":
			fmt.Fprintf(&b, "%s domain %s\n", c.Mode, c.Domain)
		case c.Sequence != 0:
			fmt.Fprintf(&b, "%s %s %d\n", c.Mode, c.Manifest, c.Sequence)
		default:
			fmt.Fprintf(&b, "%s %s\n", c.Mode, c.Manifest)
		}
	}
	return b.String()
}

// number reads a field with a number; an empty one is 0.
func number(v *visit, field, label string) (uint64, error) {
	text := strings.TrimSpace(v.r.PostFormValue(field))
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: label + " is not a number.", Next: "Write digits, or leave it empty."}
	}
	return n, nil
}
