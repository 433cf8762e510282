package suit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Text is SUIT_Text_Map: human-readable text by language tag (RFC 9290 appendix A). Nothing of
// it takes part in processing, and whoever shows it must expect hostile characters.
//
//	SUIT_Text_Map = { + tag38-ltag => SUIT_Text_LMap }
type Text map[string]LanguageText

// LanguageText is SUIT_Text_LMap.
//
//	SUIT_Text_LMap = {
//	  SUIT_Text_Keys,
//	  * SUIT_Component_Identifier => { SUIT_Text_Component_Keys }
//	}
type LanguageText struct {
	// Manifest holds text about the manifest. Negative keys are the application's.
	Manifest map[TextLabel]string
	// Components holds text about components, each of which the manifest must list.
	Components []ComponentText
}

// ComponentText is the text about one component.
type ComponentText struct {
	ID   ComponentID
	Text map[ComponentTextLabel]string
}

// TextLabel is a key of SUIT_Text_Keys.
type TextLabel int64

// Text about the manifest.
const (
	TextManifestDescription TextLabel = 1
	TextUpdateDescription   TextLabel = 2
	TextManifestJSONSource  TextLabel = 3
	TextManifestYAMLSource  TextLabel = 4
)

// ComponentTextLabel is a key of SUIT_Text_Component_Keys.
type ComponentTextLabel int64

// Text about a component.
const (
	TextVendorName           ComponentTextLabel = 1
	TextModelName            ComponentTextLabel = 2
	TextVendorDomain         ComponentTextLabel = 3
	TextModelInfo            ComponentTextLabel = 4
	TextComponentDescription ComponentTextLabel = 5
	TextComponentVersion     ComponentTextLabel = 6
	TextVersionRequired      ComponentTextLabel = 7
	TextCurrentVersion       ComponentTextLabel = 8
)

var textNames = map[int64]string{
	1: "manifest-description", 2: "update-description", 3: "manifest-json-source", 4: "manifest-yaml-source",
}

var componentTextNames = map[int64]string{
	1: "vendor-name", 2: "model-name", 3: "vendor-domain", 4: "model-info", 5: "component-description",
	6: "component-version", 7: "version-required", 8: "current-version",
}

// String names the label as the text does, without "suit-text-".
func (l TextLabel) String() string { return nameOf(textNames, int64(l)) }

// String names the label as the text does, without "suit-text-".
func (l ComponentTextLabel) String() string { return nameOf(componentTextNames, int64(l)) }

// Labels beyond what is defined are refused; new ones come with new texts.
const (
	lastTextLabel          = 4
	lastComponentTextLabel = 8
)

// parseText reads an encoded SUIT_Text_Map; every component must be one of components (§8.4.4).
func parseText(data []byte, components []ComponentID) (Text, error) {
	r := scan.New(data)
	n, err := r.Map()
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errEmpty
	}
	t := make(Text, n)
	for range n {
		tag, err := r.Text()
		if err != nil {
			return nil, err
		}
		if !validLanguageTag(string(tag)) {
			return nil, fmt.Errorf("%q is not a language tag such as en or de-AT", tag)
		}
		if _, ok := t[string(tag)]; ok {
			return nil, at(errDuplicate, string(tag))
		}
		l, err := readLanguage(&r, components)
		if err != nil {
			return nil, at(err, string(tag))
		}
		t[string(tag)] = l
	}
	return t, r.Done()
}

// validLanguageTag is [a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*.
func validLanguageTag(s string) bool {
	run, first := 0, true
	for _, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		digit := c >= '0' && c <= '9'
		switch {
		case c == '-' && run > 0:
			run, first = 0, false
			continue
		case letter, digit && !first:
			run++
		default:
			return false
		}
		if run > 8 {
			return false
		}
	}
	return run > 0
}

func readLanguage(r *scan.Reader, components []ComponentID) (LanguageText, error) {
	var l LanguageText
	n, err := r.Map()
	if err != nil {
		return l, err
	}
	for range n {
		if r.Peek() == scan.Array {
			err = l.readComponent(r, components)
		} else {
			err = l.readKey(r)
		}
		if err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *LanguageText) readKey(r *scan.Reader) error {
	if l.Manifest == nil {
		l.Manifest = make(map[TextLabel]string)
	}
	return readTextPair(r, l.Manifest, lastTextLabel)
}

func (l *LanguageText) readComponent(r *scan.Reader, components []ComponentID) error {
	id, err := readComponentID(r)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(l.Components, func(c ComponentText) bool { return c.ID.Equal(id) }) {
		return at(errDuplicate, id.String())
	}
	if !slices.ContainsFunc(components, id.Equal) {
		return at(errors.New("the manifest has no such component (SUIT §8.4.4)"), id.String())
	}
	n, err := r.Map()
	if err != nil {
		return at(err, id.String())
	}
	c := ComponentText{ID: id, Text: make(map[ComponentTextLabel]string, n)}
	for range n {
		if err := readTextPair(r, c.Text, lastComponentTextLabel); err != nil {
			return at(err, id.String())
		}
	}
	for _, l := range []ComponentTextLabel{TextVersionRequired, TextCurrentVersion} {
		if err := checkDisplayText(c.Text[l]); err != nil {
			return at(err, id.String()+" "+l.String())
		}
	}
	l.Components = append(l.Components, c)
	return nil
}

// checkDisplayText refuses what is in none of the Unicode general categories L, M, N, P, S and Zs, such
// as control characters and line ends (update management §3.3, §3.4, §4.6).
func checkDisplayText(s string) error {
	for _, c := range s {
		if !unicode.In(c, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs) {
			return fmt.Errorf("character %U may not be in this text: letters, marks, numbers, punctuation, symbols and spaces may", c)
		}
	}
	return nil
}

func readTextPair[L ~int64](r *scan.Reader, into map[L]string, last int64) error {
	label, err := r.Int()
	if err != nil {
		return err
	}
	if label == 0 || label > last {
		return fmt.Errorf("text label %d is not defined", label)
	}
	if _, ok := into[L(label)]; ok {
		return fmt.Errorf("%w %d", errDuplicate, label)
	}
	s, err := r.Text()
	if err != nil {
		return err
	}
	into[L(label)] = string(s)
	return nil
}

// MarshalCBOR encodes the text deterministically.
func (t Text) MarshalCBOR() ([]byte, error) { return t.appendCBOR(nil), nil }

func (t Text) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(t)))
	// Encoded text sorts by length first, then by bytes.
	tags := sortedKeys(t)
	for _, tag := range tags {
		b = t[tag].appendCBOR(appendText(b, tag))
	}
	return b
}

func compareEncodedText(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

func (l LanguageText) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(l.Manifest)+len(l.Components)))
	b = appendTextPairs(b, l.Manifest)
	components := slices.SortedFunc(slices.Values(l.Components), func(x, y ComponentText) int {
		kx, ky := x.ID.Key(), y.ID.Key()
		if kx < ky {
			return -1
		}
		return 1
	})
	for _, c := range components {
		b = c.ID.appendCBOR(b)
		b = scan.AppendHead(b, byte(scan.Map), uint64(len(c.Text)))
		b = appendTextPairs(b, c.Text)
	}
	return b
}

func appendTextPairs[L ~int64](b []byte, pairs map[L]string) []byte {
	labels := slices.SortedFunc(maps.Keys(pairs), func(x, y L) int { return compareLabels(int64(x), int64(y)) })
	for _, l := range labels {
		b = appendText(appendInt(b, int64(l)), pairs[l])
	}
	return b
}
