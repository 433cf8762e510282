package edn

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	defaultWidth = 96
	indentStep   = "  "
	// minOpaqueText is the length from which a byte string of printable ASCII is shown as text:
	// shorter ones are as likely numbers.
	minOpaqueText = 4
)

// Format writes one CBOR data item in diagnostic notation, without a line feed at the end.
// The error is [ErrMalformed] when data is not exactly one well-formed item within the limits.
func Format(data []byte, o Options) (string, error) {
	if o.Width <= 0 {
		o.Width = defaultWidth
	}
	f := formatter{o: o}
	it, err := f.r.one(data, 0)
	if err != nil {
		return "", err
	}
	n := f.node(&it, o.Schema, 0)
	if o.Schema != nil {
		n.name = o.Schema.Name
	}
	var b strings.Builder
	f.write(&b, n, "")
	return b.String(), nil
}

// node is an item on its way to text: either an atom, or brackets around kids.
type node struct {
	name        string // comment before the item
	key         string // map members: the key, on one line
	atom        string
	open, close string
	kids        []node
	note        string // comment after the item
	length      int    // of the whole on one line; beyond the width it is only a lower bound
}

type formatter struct {
	o Options
	r reader
}

func (f *formatter) node(it *item, s *Schema, depth int) node {
	s = s.resolve(it.raw)
	n := f.shape(it, s, depth)
	n.note = join(n.note, s.comment(it))
	n.measure()
	return n
}

func (f *formatter) shape(it *item, s *Schema, depth int) node {
	switch it.major {
	case majorUint, majorNegative:
		return node{atom: integer(it) + indicator(it)}
	case majorBytes:
		return f.bytes(it, s, depth)
	case majorText:
		if it.indefinite {
			return f.chunks(it)
		}
		return f.text(it)
	case majorArray:
		return f.array(it, s, depth)
	case majorMap:
		return f.mapping(it, s, depth)
	case majorTag:
		inner := f.node(&it.kids[0], s.tagged(it.arg), depth+1)
		return wrap(strconv.FormatUint(it.arg, 10)+indicator(it)+"(", inner, ")")
	}
	return node{atom: simple(it)}
}

func (f *formatter) array(it *item, s *Schema, depth int) node {
	n := node{open: "[" + opening(it), close: "]", kids: make([]node, len(it.kids))}
	elements := make([][]byte, len(it.kids))
	for i := range it.kids {
		elements[i] = it.kids[i].raw
	}
	for i := range it.kids {
		field := s.element(elements, i)
		n.kids[i] = f.node(&it.kids[i], field.Schema, depth+1)
		n.kids[i].setName(field)
	}
	return n
}

func (f *formatter) mapping(it *item, s *Schema, depth int) node {
	n := node{open: "{" + opening(it), close: "}", kids: make([]node, 0, len(it.kids)/2)}
	for i := 0; i+1 < len(it.kids); i += 2 {
		field := s.member(&it.kids[i])
		key := f.node(&it.kids[i], nil, depth+1)
		kid := f.node(&it.kids[i+1], field.Schema, depth+1)
		var b strings.Builder
		key.flat(&b)
		kid.key = b.String()
		kid.setName(field)
		n.kids = append(n.kids, kid)
	}
	return n
}

func (f *formatter) bytes(it *item, s *Schema, depth int) node {
	if it.indefinite {
		return f.chunks(it)
	}
	if inner, ok := f.wrapped(it, s, depth); ok {
		return wrap("<< ", inner, " >>"+indicator(it))
	}
	if f.o.MaxBytes > 0 && len(it.content) > f.o.MaxBytes {
		return node{atom: "h'" + hex.EncodeToString(it.content[:f.o.MaxBytes]) + "...'",
			note: fmt.Sprintf("%d bytes", len(it.content))}
	}
	if len(it.content) >= minOpaqueText && printable(it.content) {
		return node{atom: quote(string(it.content), '\'') + indicator(it)}
	}
	return node{atom: "h'" + hex.EncodeToString(it.content) + "'" + indicator(it)}
}

// wrapped opens a byte string that holds CBOR: because the schema says so, or because its content
// is exactly one array, map or tag, which random bytes of any length seldom are.
func (f *formatter) wrapped(it *item, s *Schema, depth int) (node, bool) {
	var schema *Schema
	known := s != nil && s.Wraps != nil
	switch {
	case known:
		schema = s.Wraps
	case f.o.Closed, s != nil && s.Opaque, len(it.content) < 2:
		return node{}, false
	case it.content[0]>>5 < majorArray || it.content[0]>>5 > majorTag:
		return node{}, false
	}
	used := f.r.items
	inner, err := f.r.one(it.content, depth+1)
	if err != nil {
		f.r.items = used
		return node{}, false
	}
	n := f.node(&inner, schema, depth+1)
	if schema != nil {
		n.name = schema.Name
	}
	n.measure()
	return n, true
}

// text writes a string, or its beginning. Whoever wrote it decides how long it is.
func (f *formatter) text(it *item) node {
	if f.o.MaxText <= 0 || len(it.content) <= f.o.MaxText {
		return node{atom: quote(string(it.content), '"') + indicator(it)}
	}
	end := f.o.MaxText
	for end > 0 && !utf8.RuneStart(it.content[end]) {
		end--
	}
	return node{atom: quote(string(it.content[:end]), '"') + "...", note: fmt.Sprintf("%d bytes of text", len(it.content))}
}

// chunks writes a string of indefinite length.
func (f *formatter) chunks(it *item) node {
	if len(it.kids) == 0 {
		if it.major == majorText {
			return node{atom: `""_`}
		}
		return node{atom: "''_"}
	}
	n := node{open: "(_ ", close: ")", kids: make([]node, len(it.kids))}
	for i := range it.kids {
		kid := &it.kids[i]
		n.kids[i] = node{atom: "h'" + hex.EncodeToString(kid.content) + "'" + indicator(kid)}
		if it.major == majorText {
			n.kids[i] = f.text(kid)
		}
		n.kids[i].measure()
	}
	return n
}

// wrap puts brackets around one item and keeps them on the lines of its own brackets.
func wrap(open string, inner node, closing string) node {
	if inner.open != "" && inner.name == "" && inner.note == "" {
		inner.open, inner.close = open+inner.open, inner.close+closing
		return inner
	}
	if inner.open != "" && inner.note == "" {
		inner.open, inner.close = open+comment(inner.name)+" "+inner.open, inner.close+closing
		inner.name = ""
		return inner
	}
	return node{open: open, close: closing, kids: []node{inner}}
}

func (n *node) setName(field Field) {
	n.name = field.Name
	if n.name == "" && field.Schema != nil {
		n.name = field.Schema.Name
	}
	n.measure()
}

// measure computes length from the kids' lengths.
func (n *node) measure() {
	n.length = len(n.atom) + len(n.open) + len(n.close)
	if n.name != "" {
		n.length += len(n.name) + 5
	}
	if n.key != "" {
		n.length += len(n.key) + 2
	}
	if n.note != "" {
		n.length += len(n.note) + 5
	}
	for i := range n.kids {
		n.length += n.kids[i].length + 2
	}
}

func (n *node) prefix(b *strings.Builder) {
	if n.name != "" {
		b.WriteString(comment(n.name) + " ")
	}
	if n.key != "" {
		b.WriteString(n.key + ": ")
	}
}

func (n *node) suffix(b *strings.Builder) {
	if n.note != "" {
		b.WriteString(" " + comment(n.note))
	}
}

// flat writes the node on one line.
func (n *node) flat(b *strings.Builder) {
	n.prefix(b)
	b.WriteString(n.atom + n.open)
	for i := range n.kids {
		if i > 0 {
			b.WriteString(", ")
		}
		n.kids[i].flat(b)
	}
	b.WriteString(n.close)
	n.suffix(b)
}

func (f *formatter) write(b *strings.Builder, n node, indent string) {
	if len(n.kids) == 0 || (len(indent)+n.length <= f.o.Width && !n.commented()) {
		n.flat(b)
		return
	}
	n.prefix(b)
	b.WriteString(strings.TrimRight(n.open, " "))
	for i := range n.kids {
		b.WriteString("\n" + indent + indentStep)
		f.write(b, n.kids[i], indent+indentStep)
		if i+1 < len(n.kids) {
			b.WriteByte(',')
		}
	}
	b.WriteString("\n" + indent + strings.TrimLeft(n.close, " "))
	n.suffix(b)
}

// commented tells whether the parts of n have names: named members read better on lines of
// their own.
func (n *node) commented() bool {
	for i := range n.kids {
		k := &n.kids[i]
		if k.name != "" && (k.key != "" || len(k.kids) > 0) || k.commented() {
			return true
		}
	}
	return false
}

// comment writes a comment; what would end it early is replaced.
func comment(text string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r == '/':
			return '|'
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, text)
	return "/ " + clean + " /"
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", " + b
}

func integer(it *item) string {
	if it.major == majorUint {
		return strconv.FormatUint(it.arg, 10)
	}
	n := new(big.Int).SetUint64(it.arg)
	return n.Not(n).String() // -1-n
}

// indicator is the encoding indicator of a head that is longer than it need be.
func indicator(it *item) string {
	if it.indefinite || it.info == shortest(it.arg) {
		return ""
	}
	return "_" + strconv.Itoa(int(it.info)-24)
}

// opening is the encoding indicator of an array or map, which stands after the bracket.
func opening(it *item) string {
	if it.indefinite {
		return "_ "
	}
	if ind := indicator(it); ind != "" {
		return ind + " "
	}
	return ""
}

func simple(it *item) string {
	switch {
	case it.info >= half && it.info <= double:
		return formatFloat(it.arg, it.info)
	case it.arg == 20:
		return "false"
	case it.arg == 21:
		return "true"
	case it.arg == 22:
		return "null"
	case it.arg == 23:
		return "undefined"
	}
	return fmt.Sprintf("simple(%d)", it.arg)
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// quote writes a string literal. What a terminal might act upon is escaped.
func quote(s string, mark byte) string {
	var b strings.Builder
	b.WriteByte(mark)
	for _, r := range s {
		switch {
		case r == rune(mark) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case strconv.IsPrint(r) && r != unicode.ReplacementChar:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte(mark)
	return b.String()
}
