package edn

import (
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

const indefiniteInfo = 31

// item is one data item with everything that its encoder chose: the notation must be able to say
// it all again.
type item struct {
	raw        []byte
	major      byte
	info       byte // additional information of the head: which head size was used
	arg        uint64
	indefinite bool
	content    []byte // definite strings
	kids       []item // elements, keys and values in turn, tag content, chunks
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

// shortest returns the additional information that the shortest head for arg has.
func shortest(arg uint64) byte {
	switch {
	case arg < 24:
		return byte(arg)
	case arg <= math.MaxUint8:
		return 24
	case arg <= math.MaxUint16:
		return 25
	case arg <= math.MaxUint32:
		return 26
	}
	return 27
}

func appendHead(b []byte, major byte, info byte, arg uint64) []byte {
	b = append(b, major<<5|info)
	if info >= 24 && info <= 27 {
		for shift := 8<<(info-24) - 8; shift >= 0; shift -= 8 {
			b = append(b, byte(arg>>shift))
		}
	}
	return b
}

// reader decodes items with a budget, so that hostile input costs a bounded amount of memory.
type reader struct {
	items int
}

// one decodes data as exactly one item.
func (r *reader) one(data []byte, depth int) (item, error) {
	it, rest, err := r.next(data, depth)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: %d bytes follow the data item", ErrMalformed, len(rest))
	}
	return it, err
}

func (r *reader) next(data []byte, depth int) (item, []byte, error) {
	if depth > MaxDepth {
		return item{}, nil, fmt.Errorf("%w: nested deeper than %d", ErrMalformed, MaxDepth)
	}
	if r.items++; r.items > MaxItems {
		return item{}, nil, fmt.Errorf("%w: more than %d data items", ErrMalformed, MaxItems)
	}
	it, rest, err := readHead(data)
	if err != nil {
		return item{}, nil, err
	}
	switch it.major {
	case majorBytes, majorText:
		rest, err = r.str(&it, rest, depth)
	case majorArray:
		rest, err = r.elements(&it, rest, it.arg, depth)
	case majorMap:
		if it.arg > math.MaxInt64/2 {
			return item{}, nil, truncated("map")
		}
		rest, err = r.elements(&it, rest, it.arg*2, depth)
		if err == nil && len(it.kids)%2 != 0 {
			err = fmt.Errorf("%w: a map ends after a key", ErrMalformed)
		}
	case majorTag:
		rest, err = r.elements(&it, rest, 1, depth)
	}
	if err != nil {
		return item{}, nil, err
	}
	it.raw = data[:len(data)-len(rest)]
	return it, rest, nil
}

func truncated(what string) error {
	return fmt.Errorf("%w: the bytes end inside a %s", ErrMalformed, what)
}

func readHead(data []byte) (item, []byte, error) {
	if len(data) == 0 {
		return item{}, nil, truncated("data item")
	}
	it := item{major: data[0] >> 5, info: data[0] & 0x1f}
	data = data[1:]
	switch {
	case it.info < 24:
		it.arg = uint64(it.info)
	case it.info <= 27:
		n := 1 << (it.info - 24)
		if len(data) < n {
			return item{}, nil, truncated("head")
		}
		for _, b := range data[:n] {
			it.arg = it.arg<<8 | uint64(b)
		}
		data = data[n:]
		if it.major == majorSimple && n == 1 && it.arg < 32 {
			return item{}, nil, fmt.Errorf("%w: simple value %d in two bytes", ErrMalformed, it.arg)
		}
	case it.info == indefiniteInfo && it.major >= majorBytes && it.major <= majorMap:
		it.indefinite = true
	default:
		return item{}, nil, fmt.Errorf("%w: initial byte 0x%02x", ErrMalformed, it.major<<5|it.info)
	}
	return it, data, nil
}

func (r *reader) str(it *item, data []byte, depth int) ([]byte, error) {
	if !it.indefinite {
		if it.arg > uint64(len(data)) {
			return nil, truncated("string")
		}
		it.content = data[:it.arg]
		if it.major == majorText && !utf8.Valid(it.content) {
			return nil, fmt.Errorf("%w: a text string is not UTF-8", ErrMalformed)
		}
		return data[it.arg:], nil
	}
	rest, err := r.elements(it, data, 0, depth)
	for _, chunk := range it.kids {
		if chunk.major != it.major || chunk.indefinite {
			return nil, fmt.Errorf("%w: a string has a chunk of another kind", ErrMalformed)
		}
	}
	return rest, err
}

// elements decodes n items, or those up to the break.
func (r *reader) elements(it *item, data []byte, n uint64, depth int) ([]byte, error) {
	if !it.indefinite && n > uint64(len(data)) { // every item takes a byte
		return nil, truncated("array, map or tag")
	}
	for i := uint64(0); it.indefinite || i < n; i++ {
		if it.indefinite && len(data) > 0 && data[0] == 0xff {
			return data[1:], nil
		}
		kid, rest, err := r.next(data, depth+1)
		if err != nil {
			return nil, err
		}
		it.kids = append(it.kids, kid)
		data = rest
	}
	return data, nil
}
