package suit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Annotate renders an envelope, manifest or report, protected or not, in diagnostic notation
// (RFC 8949 §8) with the name of every label, and with byte strings opened that wrap CBOR. It
// authenticates nothing and shows what is there even where a parser would refuse it; only data
// that is not one well-formed CBOR item is an error. Control characters in text are escaped, and
// byte strings beyond 512 bytes are cut short, with their size and digest.
func Annotate(data []byte) (string, error) {
	r := scan.New(data)
	if _, err := r.Item(); err != nil {
		return "", at(err, "")
	}
	if err := r.Done(); err != nil {
		return "", at(err, "")
	}
	p := printer{}
	r = scan.New(data)
	p.item(&r, documentShape(data), 0)
	p.b.WriteByte('\n')
	return p.b.String(), nil
}

// documentShape guesses what data is from its tag and keys.
func documentShape(data []byte) *shape {
	switch tagOf(data) {
	case tagEnvelope:
		return shapes.envelope
	case tagManifest:
		return shapes.manifest
	case tagSign1, tagMac0, tagEncrypt, tagEncrypt0:
		return shapes.protectedReport
	}
	switch keys := intKeys(data); {
	case keys[reportReference]:
		return shapes.report
	case keys[int64(LabelAuthentication)] && keys[int64(LabelManifest)] && !keys[int64(LabelManifestVersion)]:
		return shapes.envelope
	case keys[int64(LabelManifestVersion)] && keys[int64(LabelSequenceNumber)]:
		return shapes.manifest
	}
	return nil
}

func intKeys(data []byte) map[int64]bool {
	keys := map[int64]bool{}
	r := scan.New(data)
	n, err := r.Map()
	for i := 0; err == nil && i < n; i++ {
		var key []byte
		if key, err = r.Item(); err == nil {
			k := scan.New(key)
			if label, err := k.Int(); err == nil {
				keys[label] = true
			}
			_, err = r.Item()
		}
	}
	return keys
}

// shape tells how to show an item. The zero value shows it as it is.
type shape struct {
	title    string // in front of the item
	tagged   *shape // the content of a tag; nil keeps the shape itself
	wrapped  *shape // what a byte string wraps
	keys     map[int64]string
	members  map[int64]*shape
	others   *shape // values of a map whose keys are not listed
	keyShape *shape // keys of a map that are not integers
	elements []*shape
	names    []string            // of elements
	element  *shape              // elements beyond those listed
	commands bool                // an array of command, argument pairs
	comment  func([]byte) string // after the item
}

type printer struct {
	b strings.Builder
}

const indentWidth = 2

func (p *printer) newline(depth int) {
	p.b.WriteByte('\n')
	p.b.WriteString(strings.Repeat(" ", indentWidth*depth))
}

// note writes a comment. A slash would end it.
func (p *printer) note(s string) {
	p.b.WriteString("/ " + strings.ReplaceAll(s, "/", "-") + " /")
}

// item shows one item; the data is known to be well-formed.
func (p *printer) item(r *scan.Reader, s *shape, depth int) {
	if s == nil {
		s = &shape{}
	}
	start := r.Pos()
	p.title(s, r)
	switch r.Peek() {
	case scan.Map:
		p.mapping(r, s, depth)
	case scan.Array:
		p.array(r, s, depth)
	case scan.Tag:
		tag, _ := r.Tag()
		p.b.WriteString(strconv.FormatUint(tag, 10) + "(")
		inner := s.tagged
		if inner == nil {
			c := *s
			c.title = ""
			inner = &c
		}
		p.item(r, inner, depth)
		p.b.WriteByte(')')
	case scan.Bytes:
		content, _ := r.Bytes()
		p.bytes(content, s, depth)
	case scan.Text:
		text, _ := r.Text()
		p.text(string(text))
	default:
		p.simple(r)
	}
	if s.comment != nil {
		if c := s.comment(r.Since(start)); c != "" {
			p.b.WriteByte(' ')
			p.note(c)
		}
	}
}

// title writes what a structure is; COSE structures go by their tag.
func (p *printer) title(s *shape, r *scan.Reader) {
	title := s.title
	if title == coseTitle {
		peek := *r
		tag, _ := peek.Tag()
		if name, ok := coseNames[tag]; ok {
			title = name
		}
	}
	if title != "" {
		p.note(title)
		p.b.WriteByte(' ')
	}
}

const coseTitle = "COSE"

var coseNames = map[uint64]string{
	tagEncrypt0: "COSE_Encrypt0", tagMac0: "COSE_Mac0", tagSign1: "COSE_Sign1", tagEncrypt: "COSE_Encrypt",
	tagMac: "COSE_Mac", tagSign: "COSE_Sign",
}

func (p *printer) simple(r *scan.Reader) {
	switch r.Peek() {
	case scan.Uint:
		v, _ := r.Uint()
		p.b.WriteString(strconv.FormatUint(v, 10))
	case scan.Nint:
		start := r.Pos()
		v, err := r.Int()
		if err != nil {
			// Beyond 64 bits: the reader has consumed it.
			p.b.WriteString("h'" + hex.EncodeToString(r.Since(start)) + "' / integer beyond 64 bits /")
			return
		}
		p.b.WriteString(strconv.FormatInt(v, 10))
	case scan.True, scan.False:
		v, _ := r.Bool()
		p.b.WriteString(strconv.FormatBool(v))
	case scan.Null:
		_ = r.Null()
		p.b.WriteString("null")
	default:
		item, _ := r.Item()
		p.b.WriteString(otherSimple(item))
	}
}

func (p *printer) mapping(r *scan.Reader, s *shape, depth int) {
	n, _ := r.Map()
	if n == 0 {
		p.b.WriteString("{}")
		return
	}
	p.b.WriteByte('{')
	for i := range n {
		if i > 0 {
			p.b.WriteByte(',')
		}
		p.newline(depth + 1)
		value := s.others
		if k := r.Peek(); k == scan.Uint || k == scan.Nint {
			start := r.Pos()
			label, err := r.Int()
			if err != nil {
				p.b.WriteString("h'" + hex.EncodeToString(r.Since(start)) + "'")
			} else {
				value = p.label(s, label)
			}
		} else {
			p.item(r, s.keyShape, depth+1)
		}
		p.b.WriteString(": ")
		p.item(r, value, depth+1)
	}
	p.newline(depth)
	p.b.WriteByte('}')
}

func (p *printer) label(s *shape, label int64) *shape {
	if s.keys != nil {
		p.note(nameOf(s.keys, label))
		p.b.WriteByte(' ')
	}
	p.b.WriteString(strconv.FormatInt(label, 10))
	if m, ok := s.members[label]; ok {
		return m
	}
	return s.others
}

func (p *printer) array(r *scan.Reader, s *shape, depth int) {
	n, _ := r.Array()
	switch {
	case n == 0:
		p.b.WriteString("[]")
		return
	case s.commands && n%2 == 0:
		p.commandList(r, n/2, s, depth)
		return
	}
	p.b.WriteByte('[')
	// Short lists of plain values stay on one line.
	inline := s.elements == nil && s.names == nil && (s.element == nil || s.element == shapes.segment)
	for i := range n {
		if i > 0 {
			p.b.WriteByte(',')
		}
		switch {
		case !inline:
			p.newline(depth + 1)
		case i > 0:
			p.b.WriteByte(' ')
		}
		if i < len(s.names) {
			p.note(s.names[i])
			p.b.WriteByte(' ')
		}
		e := s.element
		if i < len(s.elements) {
			e = s.elements[i]
		}
		p.item(r, e, depth+1)
	}
	if !inline {
		p.newline(depth)
	}
	p.b.WriteByte(']')
}

func (p *printer) commandList(r *scan.Reader, n int, s *shape, depth int) {
	p.b.WriteByte('[')
	for i := range n {
		if i > 0 {
			p.b.WriteByte(',')
		}
		p.newline(depth + 1)
		code := int64(0)
		if k := r.Peek(); k == scan.Uint || k == scan.Nint {
			code, _ = r.Int()
			p.note(nameOf(commandNames, code))
			p.b.WriteString(" " + strconv.FormatInt(code, 10) + ", ")
		} else {
			p.item(r, nil, depth+1)
			p.b.WriteString(", ")
		}
		p.item(r, argumentShape(CommandCode(code)), depth+1)
	}
	p.newline(depth)
	p.b.WriteByte(']')
}

// What is shown of byte strings: maxShownBytes is the longest byte string that is shown whole, elidedBytes are
// shown of longer ones.
const (
	maxShownBytes = 512
	elidedBytes   = 16
	// maxShownText is how many bytes of a text are shown.
	maxShownText = 1024
	// maxAnnotateDepth bounds indentation, and with it the size of what hostile nesting prints.
	maxAnnotateDepth = 64
)

func (p *printer) bytes(content []byte, s *shape, depth int) {
	if s.wrapped != nil && depth < maxAnnotateDepth && opens(content, s.wrapped) {
		p.b.WriteString("<< ")
		r := scan.New(content)
		p.item(&r, s.wrapped, depth)
		p.b.WriteString(" >>")
		return
	}
	switch {
	case s == shapes.segment && printable(content):
		p.b.WriteString("'" + strings.ReplaceAll(strings.ReplaceAll(string(content), `\`, `\\`), "'", `\'`) + "'")
	case len(content) > maxShownBytes:
		sum := sha256.Sum256(content)
		p.b.WriteString("h'" + hex.EncodeToString(content[:elidedBytes]) + "...' ")
		p.note(fmt.Sprintf("%d bytes, sha-256 %x", len(content), sum))
	default:
		p.b.WriteString("h'" + hex.EncodeToString(content) + "'")
	}
}

func (p *printer) text(s string) {
	if len(s) <= maxShownText {
		p.b.WriteString(quoteText(s))
		return
	}
	end := maxShownText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	p.b.WriteString(quoteText(s[:end]) + "... ")
	p.note(fmt.Sprintf("%d bytes of text", len(s)))
}

// opens tells whether content is one item that can be shown as the shape. A payload is only
// opened if it looks like an envelope.
func opens(content []byte, s *shape) bool {
	r := scan.New(content)
	if _, err := r.Item(); err != nil || r.Done() != nil {
		return false
	}
	return s != shapes.envelope || documentShape(content) == s
}

// quoteText writes a JSON string in which everything that does not print is escaped.
func quoteText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c == '\n':
			b.WriteString(`\n`)
		case c == ' ' || unicode.IsPrint(c):
			b.WriteRune(c)
		case c > 0xffff:
			c -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func otherSimple(item []byte) string {
	if bytes.Equal(item, []byte{0xf7}) {
		return "undefined"
	}
	if s, err := diagnose(item); err == nil && utf8.ValidString(s) {
		return s
	}
	return "h'" + hex.EncodeToString(item) + "'"
}
