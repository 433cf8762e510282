package suit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-teep/teep/suit/internal/scan"
)

// ComponentID is a component identifier (SUIT §8.4.5.1): a path of byte strings. Nil and empty
// are the same identifier. It is treated as immutable; whoever changes one clones it first.
//
//	SUIT_Component_Identifier = [* bstr]
type ComponentID [][]byte

// NewComponentID makes an identifier of text segments.
func NewComponentID(segments ...string) ComponentID {
	id := make(ComponentID, len(segments))
	for i, s := range segments {
		id[i] = []byte(s)
	}
	return id
}

// String joins the segments with "/": printable ones in quotes, others as h'hexadecimal'. Inside
// quotes ' and \ are escaped by \. [ParseComponentID] reads it back.
func (c ComponentID) String() string {
	var b strings.Builder
	for i, s := range c {
		if i > 0 {
			b.WriteByte('/')
		}
		if !printable(s) {
			b.WriteString("h'" + hex.EncodeToString(s) + "'")
			continue
		}
		b.WriteByte('\'')
		for _, r := range string(s) {
			if r == '\'' || r == '\\' {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		b.WriteByte('\'')
	}
	return b.String()
}

func printable(s []byte) bool {
	if len(s) == 0 || !utf8.Valid(s) {
		return len(s) == 0
	}
	for _, r := range string(s) {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// ParseComponentID reads what [ComponentID.String] writes. Segments without quotes are taken as
// text if they contain none of ' / \, so that hello/manifest is a valid spelling too.
func ParseComponentID(s string) (ComponentID, error) {
	var id ComponentID
	for rest := s; rest != ""; {
		segment, after, err := parseSegment(rest)
		if err != nil {
			return nil, fmt.Errorf("suit: component identifier %q: %w", s, err)
		}
		id = append(id, segment)
		if after == "" {
			return id, nil
		}
		if after[0] != '/' || len(after) == 1 {
			return nil, fmt.Errorf("suit: component identifier %q: write segments as 'text' or h'hex', joined by single slashes", s)
		}
		rest = after[1:]
	}
	return id, nil
}

func parseSegment(s string) (segment []byte, rest string, err error) {
	switch {
	case strings.HasPrefix(s, "h'"):
		digits, rest, ok := strings.Cut(s[2:], "'")
		if !ok {
			return nil, "", errors.New("h' is not closed")
		}
		segment, err = hex.DecodeString(digits)
		if err != nil {
			return nil, "", fmt.Errorf("h'%s' is not hexadecimal", digits)
		}
		return segment, rest, nil
	case s[0] == '\'':
		return parseQuoted(s[1:])
	}
	end := strings.IndexByte(s, '/')
	if end < 0 {
		end = len(s)
	}
	if end == 0 {
		return nil, "", errors.New("empty segment: write it as ''")
	}
	if strings.ContainsAny(s[:end], `'\`) {
		return nil, "", errors.New("quote a segment that contains ' or \\")
	}
	return []byte(s[:end]), s[end:], nil
}

func parseQuoted(s string) (segment []byte, rest string, err error) {
	segment = []byte{}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			return segment, s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		segment = append(segment, s[i])
	}
	return nil, "", errors.New("quote is not closed")
}

// Equal compares segment by segment.
func (c ComponentID) Equal(o ComponentID) bool {
	return len(c) == len(o) && c.HasPrefix(o)
}

// HasPrefix tells whether c begins with the segments of prefix. Every identifier has the empty
// prefix.
func (c ComponentID) HasPrefix(prefix ComponentID) bool {
	if len(c) < len(prefix) {
		return false
	}
	for i := range prefix {
		if !bytes.Equal(c[i], prefix[i]) {
			return false
		}
	}
	return true
}

// Key is an unambiguous map key: its CBOR encoding.
func (c ComponentID) Key() string { return string(c.appendCBOR(nil)) }

// Clone returns a copy that shares no memory.
func (c ComponentID) Clone() ComponentID {
	if c == nil {
		return nil
	}
	d := make(ComponentID, len(c))
	for i := range c {
		d[i] = bytes.Clone(c[i])
	}
	return d
}

// Join returns c followed by more segments, as a dependency prefix is applied.
func (c ComponentID) Join(o ComponentID) ComponentID {
	return append(append(make(ComponentID, 0, len(c)+len(o)), c...), o...)
}

// Compare orders identifiers by their segments, for stable output.
func (c ComponentID) Compare(o ComponentID) int {
	for i := 0; i < len(c) && i < len(o); i++ {
		if d := bytes.Compare(c[i], o[i]); d != 0 {
			return d
		}
	}
	return len(c) - len(o)
}

// MarshalCBOR encodes the identifier; nil as the empty array.
func (c ComponentID) MarshalCBOR() ([]byte, error) { return c.appendCBOR(nil), nil }

// UnmarshalCBOR decodes an identifier into memory of its own.
func (c *ComponentID) UnmarshalCBOR(data []byte) error {
	r := scan.New(bytes.Clone(data))
	id, err := readComponentID(&r)
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return at(err, "component-identifier")
	}
	*c = id
	return nil
}

func (c ComponentID) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Array), uint64(len(c)))
	for _, s := range c {
		b = appendBytes(b, s)
	}
	return b
}

// maxSegments bounds an identifier; a path of a file system is far shorter.
const maxSegments = 64

func readComponentID(r *scan.Reader) (ComponentID, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	if n > maxSegments {
		return nil, fmt.Errorf("component identifier has %d segments, at most %d are accepted", n, maxSegments)
	}
	id := make(ComponentID, n)
	for i := range id {
		if id[i], err = r.Bytes(); err != nil {
			return nil, err
		}
	}
	return id, nil
}

func appendBytes(b, s []byte) []byte {
	return append(scan.AppendHead(b, byte(scan.Bytes), uint64(len(s))), s...)
}

func appendText(b []byte, s string) []byte {
	return append(scan.AppendHead(b, byte(scan.Text), uint64(len(s))), s...)
}

func appendUint(b []byte, v uint64) []byte { return binaryHead(b, scan.Uint, v) }

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return binaryHead(b, scan.Nint, uint64(-1-v))
	}
	return binaryHead(b, scan.Uint, uint64(v))
}

func binaryHead(b []byte, k scan.Kind, v uint64) []byte { return scan.AppendHead(b, byte(k), v) }
