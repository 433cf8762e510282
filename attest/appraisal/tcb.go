package appraisal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/attest"
)

// TCBLevel says what a class of devices is worth when the parts of its trusted computing base have
// at least these security versions. Makers publish such levels for processor firmware.
type TCBLevel struct {
	Owner string
	Class Class
	// Components are security version numbers by the maker's name for the part.
	Components map[string]uint64
	// Status is what a device of this level is worth, and Why says so in words.
	Status  attest.Status
	Why     string
	Expires time.Time
}

// TCBLevels finds the levels of a class. Implementations are safe for concurrent use.
type TCBLevels interface {
	// TCBLevelsFor returns all levels of the class, best first, expired ones included.
	TCBLevelsFor(class Class) ([]TCBLevel, error)
}

// MatchTCB judges security versions: the first unexpired level that they reach counts. Versions
// that reach no level are contraindicated, and so is a class for which none is loaded: without
// levels nobody has said that the firmware is free of known holes. A part that a level does not
// name does not count; a part that it names and the device does not report is not reached.
func MatchTCB(levels []TCBLevel, versions map[string]uint64, now time.Time) attest.Reason {
	var old *TCBLevel
	for i := range levels {
		l := &levels[i]
		switch {
		case !l.reached(versions):
		case expired(l.Expires, now):
			old = l
		default:
			text := fmt.Sprintf("%s reaches the level %s of %s", formatTCB(versions), formatTCB(l.Components), l.Owner)
			if l.Why != "" {
				text += ": " + l.Why
			}
			return attest.Reason{Claim: "tcb", Status: l.Status, Text: text}
		}
	}
	reason := attest.Reason{Claim: "tcb", Status: attest.StatusContraindicated}
	switch {
	case len(levels) == 0:
		reason.Text = fmt.Sprintf("no TCB levels are loaded to compare %s with; load those of this class", formatTCB(versions))
	case old != nil:
		reason.Text = fmt.Sprintf("the level %s of %s expired at %s; load newer ones", formatTCB(old.Components), old.Owner, old.Expires.UTC().Format(time.RFC3339))
	default:
		reason.Text = fmt.Sprintf("%s reaches none of the %d known levels: the firmware is too old", formatTCB(versions), len(levels))
	}
	return reason
}

func (l *TCBLevel) reached(versions map[string]uint64) bool {
	for name, least := range l.Components {
		if has, ok := versions[name]; !ok || has < least {
			return false
		}
	}
	return len(l.Components) > 0
}

func formatTCB(versions map[string]uint64) string {
	parts := make([]string, 0, len(versions))
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, versions[name]))
	}
	return strings.Join(parts, ", ")
}

// TCBLevelsFor implements [TCBLevels]. The result is shared and must not be changed.
func (s *Store) TCBLevelsFor(class Class) ([]TCBLevel, error) {
	return s.index.Load().tcb[class.key()], nil
}

type yTCB struct {
	OEMID   text        `yaml:"oemid"`
	HWModel text        `yaml:"hwmodel"`
	Levels  []yTCBLevel `yaml:"levels"`
}

type yTCBLevel struct {
	Components map[string]uint64 `yaml:"components"`
	Status     text              `yaml:"status"`
	Why        text              `yaml:"why"`
	Expires    text              `yaml:"expires"`
}

func (y *yTCB) levels() ([]TCBLevel, error) {
	cl, err := class(y.OEMID, y.HWModel)
	if err != nil {
		return nil, err
	}
	if len(y.Levels) == 0 {
		return nil, y.OEMID.failf("the class has no TCB levels")
	}
	levels := make([]TCBLevel, len(y.Levels))
	for i := range y.Levels {
		l := &y.Levels[i]
		if len(l.Components) == 0 {
			return nil, y.OEMID.failf("TCB level %d of the class names no components", i+1)
		}
		levels[i] = TCBLevel{Class: cl, Components: l.Components, Why: l.Why.value}
		if levels[i].Status, err = attest.ParseStatus(l.Status.value); err != nil {
			return nil, y.OEMID.failf("TCB level %d of the class: %w", i+1, err)
		}
		if levels[i].Expires, err = l.Expires.time(); err != nil {
			return nil, err
		}
	}
	return levels, nil
}

func tcbFields(levels []TCBLevel) ([]map[string]any, error) {
	var list []map[string]any
	at := map[string]int{}
	for i := range levels {
		l := &levels[i]
		n, ok := at[l.Class.key()]
		if !ok {
			f := map[string]any{"levels": []map[string]any(nil)}
			if err := putClass(f, l.Class); err != nil {
				return nil, err
			}
			n = len(list)
			at[l.Class.key()], list = n, append(list, f)
		}
		f := map[string]any{"components": l.Components, "status": l.Status.String()}
		if l.Why != "" {
			f["why"] = l.Why
		}
		putEnd(f, l.Expires)
		list[n]["levels"] = append(list[n]["levels"].([]map[string]any), f)
	}
	return list, nil
}
