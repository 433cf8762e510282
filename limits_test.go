package teep

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// limited are the options whose size has bounds, and the messages that have them (TEEP §4, appendix C).
var limited = []struct {
	label     uint64
	low, high int
	value     func(n int) string
	in        []MessageType
}{
	{LabelToken, 8, 64, ednBytes, []MessageType{1, 2, 3, 5, 6}},
	{LabelChallenge, 8, 512, ednBytes, []MessageType{1, 6}},
	{LabelMsg, 1, 128, ednText, []MessageType{5}},
	{LabelErrMsg, 1, 128, ednText, []MessageType{3, 6}},
	{LabelErrLang, 1, 35, ednTag, []MessageType{3, 6}},
	{LabelVersions, 1, 1000, ednList("0"), []MessageType{1, 6}},
	{LabelFreshnessMechanisms, 1, 1000, ednList("0"), []MessageType{1, 6}},
	{LabelCipherSuites, 1, 1000, ednList("[[18, -9]]"), []MessageType{6}},
	{LabelSUITProfiles, 1, 1000, ednList("[-16, -9, -29, 1]"), []MessageType{6}},
	{LabelSUITReports, 1, 1000, ednList("h'a0'"), []MessageType{1, 2, 5, 6}},
	{LabelRequestedTCList, 1, 1000, ednList("{16: [h'01']}"), []MessageType{2}},
	{LabelTCList, 0, 1000, ednList("{0: [h'01']}"), []MessageType{2}},
	{LabelExtList, 0, 1000, ednList("1"), []MessageType{2}},
	{LabelUnneededManifests, 0, 1000, ednList("[h'01']"), []MessageType{2, 3}},
	{LabelManifestList, 0, 1000, ednList("h'a0'"), []MessageType{3}},
}

func ednText(n int) string { return `"` + strings.Repeat("x", n) + `"` }

// ednTag is a language tag of so many characters.
func ednTag(n int) string {
	tag := []byte(strings.Repeat("x", n))
	for i := 8; i < n-1; i += 9 {
		tag[i] = '-'
	}
	return `"` + string(tag) + `"`
}

func ednList(item string) func(int) string {
	return func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(item+", ", n), ", ") + "]" }
}

// ednMessage is a message with one option.
func ednMessage(t MessageType, label uint64, value string) string {
	option := fmt.Sprintf("%d: %s", label, value)
	switch {
	case t == TypeQueryRequest && label == LabelToken:
		return ednQuery(option, "2")
	case t == TypeQueryRequest:
		return ednQuery(option, "1") // what belongs to attestation is there with the bit only
	case t == TypeError:
		return "[6, {" + option + "}, 10]"
	}
	return fmt.Sprintf("[%d, {%s}]", uint64(t), option)
}

// TestLimits: what is as small or as large as allowed is taken and sent, and nothing beyond, in each message
// that has the option.
func TestLimits(t *testing.T) {
	for _, l := range limited {
		for _, in := range l.in {
			t.Run(in.String()+" "+LabelName(l.label), func(t *testing.T) {
				for size, good := range map[int]bool{l.low - 1: false, l.low: true, l.high: true, l.high + 1: false} {
					if size < 0 || size > 1000 {
						continue
					}
					data := notation(t, ednMessage(in, l.label, l.value(size)))
					if _, err := Decode(data); (err == nil) != good {
						t.Errorf("size %d: decoding: %v", size, err)
					}
					f, err := decodeFrame(data)
					if err != nil {
						t.Fatal(err)
					}
					o := &optionReader{left: maps.Clone(f.Options)}
					m, err := Decoder{}.decodeType(f, o)
					if err != nil {
						t.Fatal(err)
					}
					if o.err != nil {
						continue // no value of the type says so: an empty text is an absent one
					}
					if _, err := Encode(m); (err == nil) != good {
						t.Errorf("size %d: encoding: %v", size, err)
					}
				}
			})
		}
	}
}
