package edn

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

func (p *parser) startsString() bool {
	for _, prefix := range []string{`"`, "'", "<<", "h'", "b64'", "float'"} {
		if p.has(prefix) {
			return true
		}
	}
	return false
}

// literal is one string literal; its kind is majorBytes, majorText, or majorSimple for float”.
type literal struct {
	kind  byte
	bytes []byte
}

// strings parses a string literal and those that are joined to it: the first decides whether the
// result is text or bytes (RFC 8610 §G.4).
func (p *parser) strings(out []byte, depth int) ([]byte, error) {
	start := p.pos
	first, err := p.literal(depth)
	if err != nil {
		return nil, err
	}
	if first.kind == majorSimple {
		return append(out, first.bytes...), nil
	}
	info, err := p.indicator(true)
	if err != nil {
		return nil, err
	}
	content := first.bytes
	for info == noIndicator {
		more, ok, err := p.adjacent(depth)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if more.kind == majorSimple {
			return nil, p.failAt(start, "a number cannot be joined to a string")
		}
		content = append(content, more.bytes...)
	}
	if first.kind == majorText && !utf8.Valid(content) {
		return nil, p.failAt(start, "the text string is not UTF-8")
	}
	if info == indefiniteInfo {
		if len(content) != 0 {
			return nil, p.failAt(start, "only the empty string is written with _ alone")
		}
		return append(out, first.kind<<5|indefiniteInfo, 0xff), nil
	}
	if out, err = p.head(out, first.kind, info, uint64(len(content))); err != nil {
		return nil, err
	}
	return append(out, content...), nil
}

// adjacent looks for a further literal, with or without a + before it.
func (p *parser) adjacent(depth int) (literal, bool, error) {
	back := p.pos
	if err := p.space(); err != nil {
		return literal{}, false, err
	}
	plus := p.take("+")
	if plus {
		if err := p.space(); err != nil {
			return literal{}, false, err
		}
	}
	if p.pos == len(p.text) || !p.startsString() {
		if plus {
			return literal{}, false, p.fail("expected a string after +")
		}
		p.pos = back
		return literal{}, false, nil
	}
	lit, err := p.literal(depth)
	return lit, true, err
}

func (p *parser) literal(depth int) (literal, error) {
	start := p.pos
	switch {
	case p.take("<<"):
		b, _, err := p.list(nil, ">>", false, depth)
		return literal{kind: majorBytes, bytes: b}, err
	case p.take(`"`):
		b, err := p.quoted('"')
		return literal{kind: majorText, bytes: b}, err
	case p.take("'"):
		b, err := p.quoted('\'')
		return literal{kind: majorBytes, bytes: b}, err
	case p.take("h'"):
		b, err := p.hex(start)
		return literal{kind: majorBytes, bytes: b}, err
	case p.take("b64'"):
		b, err := p.base64(start)
		return literal{kind: majorBytes, bytes: b}, err
	}
	p.take("float'")
	digits, err := p.until(start)
	if err != nil {
		return literal{}, err
	}
	bits, width, err := rawFloat(digits)
	if err != nil {
		return literal{}, p.failAt(start, "%v", err)
	}
	return literal{kind: majorSimple, bytes: appendHead(nil, majorSimple, width, bits)}, nil
}

// until returns what stands before the closing quote.
func (p *parser) until(start int) (string, error) {
	end := strings.IndexByte(p.text[p.pos:], '\'')
	if end < 0 {
		return "", p.failAt(start, "the literal is not closed by '")
	}
	content := p.text[p.pos : p.pos+end]
	p.pos += end + 1
	return content, nil
}

// hex decodes h'…', in which white space and comments may stand (RFC 8610 §G.6).
func (p *parser) hex(start int) ([]byte, error) {
	var digits []byte
	for {
		if err := p.space(); err != nil {
			return nil, err
		}
		if p.pos == len(p.text) {
			return nil, p.failAt(start, "the literal is not closed by '")
		}
		if p.take("'") {
			break
		}
		if p.has("...") {
			return nil, p.fail("the byte string was cut short when it was printed; its bytes are not all here")
		}
		digits = append(digits, p.text[p.pos])
		p.pos++
	}
	b := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(b, digits); err != nil {
		return nil, p.failAt(start, "h'…' takes pairs of hexadecimal digits")
	}
	return b, nil
}

// base64 decodes b64'…' in either alphabet, with or without padding.
func (p *parser) base64(start int) ([]byte, error) {
	content, err := p.until(start)
	if err != nil {
		return nil, err
	}
	clean := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", "+", "-", "/", "_").Replace(content)
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(clean, "="))
	if err != nil {
		return nil, p.failAt(start, "b64'…' is not base64")
	}
	return b, nil
}

// quoted decodes a string with the escapes of JSON, up to the mark.
func (p *parser) quoted(mark byte) ([]byte, error) {
	start := p.pos - 1
	b := []byte{}
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		p.pos++
		switch {
		case c == mark:
			if !utf8.Valid(b) {
				return nil, p.failAt(start, "the string is not UTF-8")
			}
			return b, nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return nil, err
			}
			b = utf8.AppendRune(b, r)
		case c == '\r' && p.has("\n"):
			// Line ends in literals are line feeds, however the file was stored.
		default:
			b = append(b, c)
		}
	}
	return nil, p.failAt(start, "the string is not closed by %c", mark)
}

func (p *parser) escape() (rune, error) {
	start := p.pos - 1
	if p.pos == len(p.text) {
		return 0, p.failAt(start, "the escape is incomplete")
	}
	c := p.text[p.pos]
	p.pos++
	switch c {
	case '"', '\'', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return p.unicode(start)
	}
	return 0, p.failAt(start, "unknown escape")
}

// unicode decodes what follows \u: four digits, a surrogate pair, or digits in braces.
func (p *parser) unicode(start int) (rune, error) {
	if p.take("{") {
		end := strings.IndexByte(p.text[p.pos:], '}')
		if end < 0 {
			return 0, p.failAt(start, "the escape is incomplete")
		}
		n, err := strconv.ParseUint(p.text[p.pos:p.pos+end], 16, 32)
		if err != nil || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
			return 0, p.failAt(start, "the escape names no character")
		}
		p.pos += end + 1
		return rune(n), nil
	}
	r, err := p.unit(start)
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !p.take(`\u`) {
		return 0, p.failAt(start, "half of a surrogate pair")
	}
	low, err := p.unit(start)
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, p.failAt(start, "half of a surrogate pair")
	}
	return r, nil
}

func (p *parser) unit(start int) (rune, error) {
	if len(p.text)-p.pos < 4 {
		return 0, p.failAt(start, "the escape is incomplete")
	}
	n, err := strconv.ParseUint(p.text[p.pos:p.pos+4], 16, 16)
	if err != nil {
		return 0, p.failAt(start, "\\u takes four hexadecimal digits")
	}
	p.pos += 4
	return rune(n), nil
}

// chunked parses what follows (_: a string of indefinite length.
func (p *parser) chunked(out []byte, depth int) ([]byte, error) {
	start := p.pos - 2
	body, n, err := p.list(nil, ")", false, depth)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, p.failAt(start, `write the empty string of indefinite length as ''_ or ""_`)
	}
	major := body[0] >> 5
	for rest := body; len(rest) > 0; {
		it, after, err := readHead(rest)
		if err != nil || it.indefinite || it.major != major || major != majorBytes && major != majorText {
			return nil, p.failAt(start, "(_ …) holds strings of one kind and of definite length")
		}
		rest = after[it.arg:]
	}
	out = append(out, major<<5|indefiniteInfo)
	return append(append(out, body...), 0xff), nil
}
