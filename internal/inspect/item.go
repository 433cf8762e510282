package inspect

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Major types (RFC 8949 §3.1).
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Limits that keep hostile input from costing more than a bounded amount of memory and time.
const (
	maxDepth = 64
	maxItems = 1 << 18
)

// item is one data item with what its encoder chose freely, and with its place: the decoders of
// this project keep neither, and findings need both.
type item struct {
	raw        []byte
	offset     int // of raw in the data that was parsed
	major      byte
	info       byte // additional information of the head
	arg        uint64
	indefinite bool
	content    []byte // of strings of definite length
	kids       []item // elements; keys and values in turn; the content of a tag; chunks
}

// flaw is a reason why data is not one well-formed item: where, and what to look for there.
type flaw struct {
	offset  int
	problem string
	// missing tells that the data ends too early.
	missing bool
}

func (f *flaw) Error() string { return fmt.Sprintf("at byte %d: %s", f.offset, f.problem) }

// parse reads exactly one item. The error is a *flaw, or a *trailing after a whole item.
func parse(data []byte) (item, error) {
	p := parser{data: data}
	it, err := p.next(0)
	if err != nil {
		return item{}, err
	}
	if p.pos < len(data) {
		return it, &trailing{offset: p.pos, bytes: len(data) - p.pos}
	}
	return it, nil
}

// trailing says that bytes follow the item.
type trailing struct{ offset, bytes int }

func (t *trailing) Error() string {
	return fmt.Sprintf("%d bytes follow the data item, which ends at byte %d", t.bytes, t.offset)
}

type parser struct {
	data  []byte
	pos   int
	items int
}

func (p *parser) fail(at int, format string, args ...any) error {
	return &flaw{offset: at, problem: fmt.Sprintf(format, args...)}
}

func (p *parser) short(at int, format string, args ...any) error {
	return &flaw{offset: at, problem: fmt.Sprintf(format, args...), missing: true}
}

func (p *parser) next(depth int) (item, error) {
	if depth > maxDepth {
		return item{}, p.fail(p.pos, "nested deeper than %d", maxDepth)
	}
	if p.items++; p.items > maxItems {
		return item{}, p.fail(p.pos, "more than %d data items", maxItems)
	}
	it, err := p.head()
	if err != nil {
		return item{}, err
	}
	switch it.major {
	case majorBytes, majorText:
		err = p.str(&it, depth)
	case majorArray:
		err = p.elements(&it, it.arg, "an array of %d elements", depth)
	case majorMap:
		err = p.pairs(&it, depth)
	case majorTag:
		err = p.elements(&it, 1, "a tag with %d item", depth)
	}
	if err != nil {
		return item{}, err
	}
	it.raw = p.data[it.offset:p.pos]
	return it, nil
}

func (p *parser) head() (item, error) {
	if p.pos >= len(p.data) {
		return item{}, p.short(p.pos, "the data ends where an item should begin")
	}
	it := item{offset: p.pos, major: p.data[p.pos] >> 5, info: p.data[p.pos] & 0x1f}
	p.pos++
	switch {
	case it.info < 24:
		it.arg = uint64(it.info)
	case it.info <= 27:
		n := 1 << (it.info - 24)
		if len(p.data)-p.pos < n {
			return item{}, p.short(it.offset, "the data ends inside the head of an item")
		}
		for _, b := range p.data[p.pos : p.pos+n] {
			it.arg = it.arg<<8 | uint64(b)
		}
		p.pos += n
		if it.major == majorSimple && n == 1 && it.arg < 32 {
			return item{}, p.fail(it.offset, "simple value %d in two bytes", it.arg)
		}
	case it.info == 31 && it.major >= majorBytes && it.major <= majorMap:
		it.indefinite = true
	default:
		return item{}, p.fail(it.offset, "0x%02x begins no item", it.major<<5|it.info)
	}
	return it, nil
}

func (p *parser) str(it *item, depth int) error {
	kind := "byte string"
	if it.major == majorText {
		kind = "text string"
	}
	if it.indefinite {
		if err := p.elements(it, 0, "", depth); err != nil {
			return err
		}
		for i := range it.kids {
			if it.kids[i].major != it.major || it.kids[i].indefinite {
				return p.fail(it.kids[i].offset, "a chunk of a %s is something else", kind)
			}
		}
		return nil
	}
	left := len(p.data) - p.pos
	if it.arg > uint64(left) {
		return p.short(it.offset, "a %s of %d bytes begins here, and %d bytes are left", kind, it.arg, left)
	}
	it.content = p.data[p.pos : p.pos+int(it.arg)]
	p.pos += int(it.arg)
	if it.major == majorText && !utf8.Valid(it.content) {
		return p.fail(it.offset, "a text string is not UTF-8")
	}
	return nil
}

func (p *parser) pairs(it *item, depth int) error {
	if it.arg > math.MaxInt32 {
		return p.short(it.offset, "a map of %d pairs begins here, and %d bytes are left", it.arg, len(p.data)-p.pos)
	}
	if err := p.elements(it, 2*it.arg, "a map of %d keys and values", depth); err != nil {
		return err
	}
	if len(it.kids)%2 != 0 {
		return p.fail(it.offset, "a map ends after a key")
	}
	return nil
}

// elements reads n items, or those up to the break.
func (p *parser) elements(it *item, n uint64, what string, depth int) error {
	if left := len(p.data) - p.pos; !it.indefinite && n > uint64(left) { // every item takes a byte
		return p.short(it.offset, what+" begins here, and %d bytes are left", n, left)
	}
	for i := uint64(0); it.indefinite || i < n; i++ {
		if it.indefinite && p.pos < len(p.data) && p.data[p.pos] == 0xff {
			p.pos++
			return nil
		}
		kid, err := p.next(depth + 1)
		var f *flaw
		if errors.As(err, &f) && f.missing && f.offset == len(p.data) && !it.indefinite {
			return p.short(it.offset, what+" begins here, and the data ends after %d", n, i)
		}
		if err != nil {
			return err
		}
		it.kids = append(it.kids, kid)
	}
	return nil
}

// int64 returns the value of an integer that fits.
func (it *item) int64() (int64, bool) {
	if it.arg > math.MaxInt64 {
		return 0, false
	}
	switch it.major {
	case majorUint:
		return int64(it.arg), true
	case majorNegative:
		return -1 - int64(it.arg), true
	}
	return 0, false
}

// value returns what a map holds under an integer label, or nil; nil too for what is no map.
func (it *item) value(label int64) *item {
	if it == nil || it.major != majorMap {
		return nil
	}
	for i := 0; i+1 < len(it.kids); i += 2 {
		if k, ok := it.kids[i].int64(); ok && k == label {
			return &it.kids[i+1]
		}
	}
	return nil
}

// is tells whether the item is there and of one of the major types.
func (it *item) is(majors ...byte) bool {
	if it == nil {
		return false
	}
	for _, m := range majors {
		if it.major == m {
			return true
		}
	}
	return false
}

func (it *item) isNull() bool { return it.is(majorSimple) && it.info == 22 }

// untag looks through tags.
func (it *item) untag() *item {
	for it.is(majorTag) {
		it = &it.kids[0]
	}
	return it
}

func appendHead(b []byte, major byte, arg uint64) []byte {
	m := major << 5
	switch {
	case arg < 24:
		return append(b, m|byte(arg))
	case arg <= math.MaxUint8:
		return append(b, m|24, byte(arg))
	case arg <= math.MaxUint16:
		return append(b, m|25, byte(arg>>8), byte(arg))
	case arg <= math.MaxUint32:
		return append(b, m|26, byte(arg>>24), byte(arg>>16), byte(arg>>8), byte(arg))
	}
	b = append(b, m|27)
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(arg>>shift))
	}
	return b
}
