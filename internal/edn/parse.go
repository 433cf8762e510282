package edn

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Parse encodes one item of diagnostic notation. What the text leaves open is encoded in the
// shortest form; map members keep the order of the text. The error is a [*SyntaxError].
//
// Understood are numbers in every base, h”, b64”, float” and ” byte strings, text strings,
// concatenation of adjacent strings (or with +), << >>, tags, simple values, encoding indicators,
// indefinite lengths, trailing commas, and the comments / … / and # up to the line's end.
func Parse(text string) ([]byte, error) {
	p := parser{text: text}
	out, err := p.document()
	if err != nil {
		return nil, err
	}
	return out, nil
}

type parser struct {
	text  string
	pos   int
	items int
}

func (p *parser) document() ([]byte, error) {
	out, err := p.value(nil, 0)
	if err != nil {
		return nil, err
	}
	if err := p.space(); err != nil {
		return nil, err
	}
	if p.pos < len(p.text) {
		return nil, p.fail("text follows the data item")
	}
	return out, nil
}

func (p *parser) fail(format string, args ...any) error { return p.failAt(p.pos, format, args...) }

func (p *parser) failAt(pos int, format string, args ...any) error {
	before := p.text[:pos]
	line := strings.Count(before, "\n") + 1
	column := pos - strings.LastIndexByte(before, '\n')
	return &SyntaxError{Line: line, Column: column, Problem: fmt.Sprintf(format, args...)}
}

// space skips white space and comments.
func (p *parser) space() error {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		case '#':
			n := strings.IndexByte(p.text[p.pos:], '\n')
			if n < 0 {
				n = len(p.text) - p.pos
			}
			p.pos += n
		case '/':
			n := strings.IndexByte(p.text[p.pos+1:], '/')
			if n < 0 {
				return p.fail("comment is not closed by /")
			}
			p.pos += n + 2
		default:
			return nil
		}
	}
	return nil
}

func (p *parser) has(prefix string) bool { return strings.HasPrefix(p.text[p.pos:], prefix) }

func (p *parser) take(prefix string) bool {
	if !p.has(prefix) {
		return false
	}
	p.pos += len(prefix)
	return true
}

// value appends the encoding of one item to out.
func (p *parser) value(out []byte, depth int) ([]byte, error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	if depth > MaxDepth {
		return nil, p.fail("nested deeper than %d", MaxDepth)
	}
	if p.items++; p.items > MaxItems {
		return nil, p.fail("more than %d data items", MaxItems)
	}
	switch {
	case p.pos == len(p.text):
		return nil, p.fail("a data item is missing")
	case p.take("["):
		return p.container(out, majorArray, "]", depth)
	case p.take("{"):
		return p.container(out, majorMap, "}", depth)
	case p.take("(_"):
		return p.chunked(out, depth)
	case p.startsString():
		return p.strings(out, depth)
	case p.startsNumber():
		return p.number(out, depth)
	}
	return p.word(out, depth)
}

// container parses what follows [ or {.
func (p *parser) container(out []byte, major byte, closing string, depth int) ([]byte, error) {
	info, err := p.indicator(true)
	if err != nil {
		return nil, err
	}
	body, n, err := p.list(nil, closing, major == majorMap, depth)
	if err != nil {
		return nil, err
	}
	if info == indefiniteInfo {
		out = append(out, major<<5|indefiniteInfo)
		return append(append(out, body...), 0xff), nil
	}
	if out, err = p.head(out, major, info, n); err != nil {
		return nil, err
	}
	return append(out, body...), nil
}

// list parses items, or key-value pairs, up to the closing bracket.
func (p *parser) list(body []byte, closing string, pairs bool, depth int) ([]byte, uint64, error) {
	for n := uint64(0); ; n++ {
		if err := p.space(); err != nil {
			return nil, 0, err
		}
		if p.take(closing) {
			return body, n, nil
		}
		var err error
		if body, err = p.value(body, depth+1); err != nil {
			return nil, 0, err
		}
		if pairs {
			if body, err = p.member(body, depth); err != nil {
				return nil, 0, err
			}
		}
		if err = p.space(); err != nil {
			return nil, 0, err
		}
		if !p.take(",") && !p.has(closing) {
			return nil, 0, p.fail("expected a comma or %s", closing)
		}
	}
}

func (p *parser) member(body []byte, depth int) ([]byte, error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	if !p.take(":") {
		return nil, p.fail("expected a colon after the map key")
	}
	return p.value(body, depth+1)
}

// noIndicator is the additional information of "the shortest".
const noIndicator = 0xff

// indicator parses an encoding indicator: _0 to _3, _i, and _ alone for indefinite length.
func (p *parser) indicator(indefiniteAllowed bool) (byte, error) {
	if !p.has("_") {
		return noIndicator, nil
	}
	start := p.pos
	p.pos++
	if p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c >= '0' && c <= '3':
			p.pos++
			return 24 + c - '0', nil
		case c == 'i':
			p.pos++
			return 0, nil
		case isWordByte(c):
			return 0, p.failAt(start, "unknown encoding indicator")
		}
	}
	if !indefiniteAllowed {
		return 0, p.failAt(start, "indefinite length does not go here")
	}
	return indefiniteInfo, nil
}

// head appends a head of the size that the indicator asked for.
func (p *parser) head(out []byte, major, info byte, arg uint64) ([]byte, error) {
	need := shortest(arg)
	switch {
	case info == noIndicator:
		info = need
	case info == 0 && need >= 24, info != 0 && need > info && need >= 24:
		return nil, p.fail("%d does not fit the encoding indicator", arg)
	case info == 0:
		info = need
	}
	return appendHead(out, major, info, arg), nil
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *parser) startsNumber() bool {
	c := p.text[p.pos]
	if (c == '-' || c == '+') && p.pos+1 < len(p.text) {
		c = p.text[p.pos+1]
	}
	return c >= '0' && c <= '9'
}

// number parses an integer, a floating-point number, or a tag: an unsigned integer before a
// parenthesis.
func (p *parser) number(out []byte, depth int) ([]byte, error) {
	start := p.pos
	if p.text[p.pos] == '-' || p.text[p.pos] == '+' {
		p.pos++
	}
	hexadecimal := p.has("0x") || p.has("0X")
	for ; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		exponent := c == '+' || c == '-'
		if exponent {
			last := p.text[p.pos-1] | 0x20
			exponent = last == 'p' || last == 'e' && !hexadecimal
		}
		if c == '_' || c != '.' && !exponent && !isWordByte(c) {
			break
		}
	}
	text := p.text[start:p.pos]
	float := strings.Contains(text, ".") || hexadecimal && strings.ContainsAny(text, "pP") ||
		!hexadecimal && strings.ContainsAny(text, "eE")
	info, err := p.indicator(false)
	if err != nil {
		return nil, err
	}
	if float {
		return p.float(out, start, text, info)
	}
	n, ok := new(big.Int).SetString(strings.TrimPrefix(text, "+"), 0)
	if !ok || leadingZero(text) {
		return nil, p.failAt(start, "%q is not a number", text)
	}
	if p.has("(") {
		return p.tag(out, start, n, info, depth)
	}
	return p.integer(out, n, info)
}

// leadingZero finds what big.Int would read as octal; notation writes that 0o.
func leadingZero(text string) bool {
	digits := strings.TrimLeft(text, "+-")
	return len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
}

func (p *parser) integer(out []byte, n *big.Int, info byte) ([]byte, error) {
	major := byte(majorUint)
	if n.Sign() < 0 {
		major, n = majorNegative, new(big.Int).Not(n) // -1-n
	}
	if n.IsUint64() {
		return p.head(out, major, info, n.Uint64())
	}
	// Beyond 64 bits an integer is a bignum (RFC 8949 §3.4.3).
	if info != noIndicator {
		return nil, p.fail("an encoding indicator does not go with a bignum")
	}
	b := n.Bytes()
	out = append(out, majorTag<<5|(2+major))
	out = appendHead(out, majorBytes, shortest(uint64(len(b))), uint64(len(b)))
	return append(out, b...), nil
}

func (p *parser) float(out []byte, start int, text string, info byte) ([]byte, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, p.failAt(start, "%q is not a floating-point number of 64 bits", text)
	}
	return p.floatValue(out, start, f, info)
}

func (p *parser) floatValue(out []byte, start int, f float64, info byte) ([]byte, error) {
	if info == noIndicator {
		bits, width := shortestFloat(f)
		return appendHead(out, majorSimple, width, bits), nil
	}
	if info < half {
		return nil, p.failAt(start, "floating-point numbers take the indicators _1, _2 and _3")
	}
	bits, ok := floatBits(f, info)
	if !ok {
		return nil, p.failAt(start, "the number does not fit the encoding indicator")
	}
	return appendHead(out, majorSimple, info, bits), nil
}

func (p *parser) tag(out []byte, start int, n *big.Int, info byte, depth int) ([]byte, error) {
	if !n.IsUint64() {
		return nil, p.failAt(start, "a tag number lies between 0 and 2^64-1")
	}
	p.pos++ // (
	out, err := p.head(out, majorTag, info, n.Uint64())
	if err != nil {
		return nil, err
	}
	if out, err = p.value(out, depth+1); err != nil {
		return nil, err
	}
	if err := p.space(); err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, p.fail("expected ) after the tag's content")
	}
	return out, nil
}

// word parses the named values.
func (p *parser) word(out []byte, depth int) ([]byte, error) {
	start := p.pos
	p.take("-")
	for p.pos < len(p.text) && isWordByte(p.text[p.pos]) && p.text[p.pos] != '_' {
		p.pos++
	}
	word := p.text[start:p.pos]
	if values := map[string]byte{"false": 20, "true": 21, "null": 22, "undefined": 23}; values[word] != 0 {
		return append(out, majorSimple<<5|values[word]), nil
	}
	switch word {
	case "NaN", "Infinity", "-Infinity":
		info, err := p.indicator(false)
		if err != nil {
			return nil, err
		}
		f, _ := strconv.ParseFloat(word, 64)
		return p.floatValue(out, start, f, info)
	case "simple":
		return p.simple(out, start)
	case "":
		return nil, p.failAt(start, "%q does not start a data item", p.text[start:start+1])
	}
	return nil, p.failAt(start, "unknown word %q", word)
}

func (p *parser) simple(out []byte, start int) ([]byte, error) {
	end := strings.IndexByte(p.text[p.pos:], ')')
	if !p.has("(") || end < 0 {
		return nil, p.failAt(start, "expected simple(n)")
	}
	n, err := strconv.ParseUint(strings.TrimSpace(p.text[p.pos+1:p.pos+end]), 10, 8)
	if err != nil || n >= 24 && n < 32 {
		return nil, p.failAt(start, "simple values are 0 to 23 and 32 to 255")
	}
	p.pos += end + 1
	return appendHead(out, majorSimple, shortest(n), n), nil
}
