package suit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Version is SUIT_Condition_Version_Comparison_Value (update management §5.4): release numbers,
// then perhaps a pre-release class and its numbers. [1 2 -1 3] is 1.2-rc.3.
//
//	SUIT_Condition_Version_Comparison_Value = [+int]
type Version []int64

// Pre-release classes.
const (
	ReleaseCandidate = -1
	Beta             = -2
	Alpha            = -3
)

var preReleases = map[int64]string{ReleaseCandidate: "rc", Beta: "beta", Alpha: "alpha"}

// String writes the version as in semantic versioning.
func (v Version) String() string {
	var b strings.Builder
	for i, n := range v {
		name, pre := preReleases[n]
		switch {
		case pre && i > 0:
			b.WriteString("-" + name)
			continue
		case i > 0:
			b.WriteByte('.')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	return b.String()
}

// ParseVersion reads up to three release numbers and an optional pre-release of rc, beta or alpha
// with its numbers, such as 1.2.3-rc.1. Build metadata (+…) has no encoding and is refused.
func ParseVersion(s string) (Version, error) {
	bad := func(why string) (Version, error) {
		return nil, fmt.Errorf("suit: version %q: %s; write it as 1.2.3 or 1.2.3-rc.1", s, why)
	}
	if strings.Contains(s, "+") {
		return bad("build metadata cannot be encoded: put it into text")
	}
	release, pre, hasPre := strings.Cut(s, "-")
	v, err := appendNumbers(nil, release)
	if err != nil {
		return bad(err.Error())
	}
	if len(v) > 3 {
		return bad("at most three release numbers")
	}
	if !hasPre {
		return v, nil
	}
	class, numbers, hasNumbers := strings.Cut(pre, ".")
	found := false
	for n, name := range preReleases {
		if name == class {
			v, found = append(v, n), true
		}
	}
	if !found {
		return bad("the pre-release must be rc, beta or alpha")
	}
	if hasNumbers {
		if v, err = appendNumbers(v, numbers); err != nil {
			return bad(err.Error())
		}
	}
	return v, nil
}

func appendNumbers(v Version, s string) (Version, error) {
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		v = append(v, int64(n))
	}
	return v, nil
}

// Comparison is SUIT_Condition_Version_Comparison_Types.
type Comparison uint64

// The comparisons.
const (
	Greater      Comparison = 1
	GreaterEqual Comparison = 2
	Equal        Comparison = 3
	LesserEqual  Comparison = 4
	Lesser       Comparison = 5
)

// String is the operator of update management §4.3.
func (c Comparison) String() string {
	if c < Greater || c > Lesser {
		return "comparison(" + strconv.FormatUint(uint64(c), 10) + ")"
	}
	return [...]string{">", ">=", "=", "<=", "<"}[c-1]
}

// VersionMatch is one comparison of a version.
//
//	SUIT_Parameter_Version_Match = [
//	  suit-condition-version-comparison-type:  SUIT_Condition_Version_Comparison_Types,
//	  suit-condition-version-comparison-value: SUIT_Condition_Version_Comparison_Value
//	]
type VersionMatch struct {
	Comparison Comparison
	Value      Version
}

// Matches compares the version that a component asserts. Comparison stops when the manifest's
// numbers are consumed, so that "= 1" matches 1.2.3 (update management §5.4). A number that the
// asserted version lacks counts as 0, as 1.2 is 1.2.0.
func (m VersionMatch) Matches(asserted Version) bool {
	order := 0
	for i, want := range m.Value {
		var have int64
		if i < len(asserted) {
			have = asserted[i]
		}
		if have != want {
			order = 1
			if have < want {
				order = -1
			}
			break
		}
	}
	switch m.Comparison {
	case Greater:
		return order > 0
	case GreaterEqual:
		return order >= 0
	case Equal:
		return order == 0
	case LesserEqual:
		return order <= 0
	case Lesser:
		return order < 0
	}
	return false
}

// String is the operator and the version, as in ">=1.2".
func (m VersionMatch) String() string { return m.Comparison.String() + m.Value.String() }

// Compare orders two versions, missing numbers counting as 0.
func (v Version) Compare(o Version) int {
	for i := range max(len(v), len(o)) {
		var a, b int64
		if i < len(v) {
			a = v[i]
		}
		if i < len(o) {
			b = o[i]
		}
		if a != b {
			if a < b {
				return -1
			}
			return 1
		}
	}
	return 0
}

// maxVersionNumbers bounds a version far above what §5.4 defines (three, a class, and its numbers).
const maxVersionNumbers = 16

func readVersion(r *scan.Reader) (Version, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	if n == 0 || n > maxVersionNumbers {
		return nil, fmt.Errorf("version has %d numbers, 1 to %d are accepted", n, maxVersionNumbers)
	}
	v := make(Version, n)
	for i := range v {
		if v[i], err = r.Int(); err != nil {
			return nil, err
		}
	}
	if v[0] < 0 {
		return nil, errors.New("version starts with a pre-release: element 0 must not be negative")
	}
	return v, nil
}

func (v Version) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Array), uint64(len(v)))
	for _, n := range v {
		b = appendInt(b, n)
	}
	return b
}

func readVersionMatch(r *scan.Reader) (VersionMatch, error) {
	n, err := r.Array()
	if err != nil {
		return VersionMatch{}, err
	}
	if n != 2 {
		return VersionMatch{}, fmt.Errorf("version match has %d elements, needs comparison and version", n)
	}
	c, err := r.Uint()
	if err != nil {
		return VersionMatch{}, err
	}
	if c < uint64(Greater) || c > uint64(Lesser) {
		return VersionMatch{}, fmt.Errorf("version comparison %d is not defined: 1 to 5 are", c)
	}
	v, err := readVersion(r)
	return VersionMatch{Comparison: Comparison(c), Value: v}, err
}

func (m VersionMatch) appendCBOR(b []byte) []byte {
	return m.Value.appendCBOR(appendUint(append(b, 0x82), uint64(m.Comparison)))
}

// Clone returns a copy that shares no memory.
func (v Version) Clone() Version { return slices.Clone(v) }
