// Package scan reads CBOR in place: no reflection, and no allocation unless an error occurs.
//
// It exists because decoding and verifying a manifest must cost hardly more than the signature
// check alone, and because command sequences are arrays of alternating types that a struct
// decoder cannot describe. It holds the same policy as package internal/cbor (definite lengths,
// valid UTF-8, bounded nesting, no duplicate keys, nothing after the item); a fuzz test compares
// the two.
package scan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-teep/teep/internal/cbor"
)

// Kind is the major type of a data item, with the simple values that the texts use told apart.
type Kind uint8

// The kinds that occur in SUIT structures.
const (
	Uint Kind = iota
	Nint
	Bytes
	Text
	Array
	Map
	Tag
	False
	True
	Null
	Other // floats and other simple values
	End   // no item is left
)

var kindNames = [...]string{"an unsigned integer", "a negative integer", "a byte string", "a text string",
	"an array", "a map", "a tag", "false", "true", "null", "a float or simple value", "the end of the data"}

func (k Kind) String() string { return kindNames[k] }

// Errors of this package. They are wrapped with what was found.
var (
	ErrTruncated  = errors.New("data ends inside a CBOR item")
	ErrIndefinite = errors.New("indefinite length is not allowed")
	ErrMalformed  = errors.New("not well-formed CBOR")
	ErrTrailing   = errors.New("bytes follow the CBOR item")
	ErrUTF8       = errors.New("text is not valid UTF-8")
	ErrNesting    = fmt.Errorf("CBOR nested deeper than %d", cbor.MaxNesting)
	ErrTooMany    = errors.New("too many elements in an array or map")
	ErrDuplicate  = errors.New("duplicate map key")
)

// A Reader reads items from the bytes it was made from; what it returns aliases them.
// It is a value to keep on the stack and is used by one goroutine.
type Reader struct {
	data []byte
	pos  int
}

// New returns a reader over data.
func New(data []byte) Reader { return Reader{data: data} }

// Pos is the number of bytes read so far.
func (r *Reader) Pos() int { return r.pos }

// Since returns the bytes read since start, an earlier Pos.
func (r *Reader) Since(start int) []byte { return r.data[start:r.pos:r.pos] }

// Done reports [ErrTrailing] unless everything was read.
func (r *Reader) Done() error {
	if r.pos != len(r.data) {
		return ErrTrailing
	}
	return nil
}

// Peek tells the kind of the next item without reading it.
func (r *Reader) Peek() Kind {
	if r.pos >= len(r.data) {
		return End
	}
	b := r.data[r.pos]
	if major := b >> 5; major < 7 {
		return Kind(major)
	}
	switch b {
	case 0xf4:
		return False
	case 0xf5:
		return True
	case 0xf6:
		return Null
	}
	return Other
}

// head reads an initial byte and its argument.
func (r *Reader) head() (major byte, arg uint64, err error) {
	if r.pos >= len(r.data) {
		return 0, 0, ErrTruncated
	}
	b := r.data[r.pos]
	major, info := b>>5, b&0x1f
	if info < 24 {
		r.pos++
		return major, uint64(info), nil
	}
	if info > 27 {
		if info == 31 && major >= 2 && major <= 5 {
			return 0, 0, ErrIndefinite
		}
		return 0, 0, ErrMalformed
	}
	n := 1 << (info - 24)
	if len(r.data)-r.pos-1 < n {
		return 0, 0, ErrTruncated
	}
	for _, c := range r.data[r.pos+1 : r.pos+1+n] {
		arg = arg<<8 | uint64(c)
	}
	r.pos += 1 + n
	return major, arg, nil
}

func (r *Reader) want(k Kind) (uint64, error) {
	if got := r.Peek(); got != k {
		if got == End {
			return 0, ErrTruncated
		}
		return 0, fmt.Errorf("%w: expected %v, found %v", ErrType, k, got)
	}
	_, arg, err := r.head()
	return arg, err
}

// ErrType says that an item has another type than the CDDL gives it.
var ErrType = errors.New("wrong type")

// Uint reads an unsigned integer.
func (r *Reader) Uint() (uint64, error) { return r.want(Uint) }

// Int reads an integer that fits int64.
func (r *Reader) Int() (int64, error) {
	k := r.Peek()
	if k != Uint && k != Nint {
		if k == End {
			return 0, ErrTruncated
		}
		return 0, fmt.Errorf("%w: expected an integer, found %v", ErrType, k)
	}
	_, arg, err := r.head()
	if err != nil {
		return 0, err
	}
	if arg > 1<<63-1 {
		return 0, fmt.Errorf("%w: integer beyond 64 bits", ErrType)
	}
	if k == Nint {
		return -1 - int64(arg), nil
	}
	return int64(arg), nil
}

// Bytes reads a byte string.
func (r *Reader) Bytes() ([]byte, error) {
	n, err := r.want(Bytes)
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

// Text reads a text string, valid UTF-8, as the bytes it consists of.
func (r *Reader) Text() ([]byte, error) {
	n, err := r.want(Text)
	if err != nil {
		return nil, err
	}
	s, err := r.take(n)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(s) {
		return nil, ErrUTF8
	}
	return s, nil
}

func (r *Reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.pos) {
		return nil, ErrTruncated
	}
	s := r.data[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return s, nil
}

// Array reads the head of an array and returns its length.
func (r *Reader) Array() (int, error) { return r.count(Array, 1, cbor.MaxArrayElements) }

// Map reads the head of a map and returns its number of pairs.
func (r *Reader) Map() (int, error) { return r.count(Map, 2, cbor.MaxMapPairs) }

// count refuses lengths that the remaining bytes cannot hold, so that a caller may allocate.
func (r *Reader) count(k Kind, minBytes, limit uint64) (int, error) {
	n, err := r.want(k)
	if err != nil {
		return 0, err
	}
	if n > limit {
		return 0, ErrTooMany
	}
	if n*minBytes > uint64(len(r.data)-r.pos) {
		return 0, ErrTruncated
	}
	return int(n), nil
}

// Tag reads a tag number; its content follows.
func (r *Reader) Tag() (uint64, error) { return r.want(Tag) }

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	switch k := r.Peek(); k {
	case True, False:
		r.pos++
		return k == True, nil
	case End:
		return false, ErrTruncated
	default:
		return false, fmt.Errorf("%w: expected true or false, found %v", ErrType, k)
	}
}

// Null reads null.
func (r *Reader) Null() error {
	if k := r.Peek(); k != Null {
		return fmt.Errorf("%w: expected null, found %v", ErrType, k)
	}
	r.pos++
	return nil
}

// Item reads one item of any kind and returns its encoding. Maps in it are checked for
// duplicate keys.
func (r *Reader) Item() ([]byte, error) {
	start := r.pos
	if err := r.skip(0); err != nil {
		return nil, err
	}
	return r.Since(start), nil
}

func (r *Reader) skip(depth int) error {
	k := r.Peek()
	switch k {
	case End:
		return ErrTruncated
	case Bytes:
		_, err := r.Bytes()
		return err
	case Text:
		_, err := r.Text()
		return err
	case Array, Map, Tag:
		if depth++; depth > cbor.MaxNesting {
			return ErrNesting
		}
		return r.skipNested(k, depth)
	case Other:
		return r.skipSimple()
	}
	_, _, err := r.head()
	return err
}

func (r *Reader) skipNested(k Kind, depth int) error {
	switch k {
	case Map:
		return r.skipMap(depth)
	case Tag:
		if _, err := r.Tag(); err != nil {
			return err
		}
		return r.skip(depth)
	}
	n, err := r.Array()
	for i := 0; err == nil && i < n; i++ {
		err = r.skip(depth)
	}
	return err
}

func (r *Reader) skipMap(depth int) error {
	n, err := r.Map()
	if err != nil {
		return err
	}
	var keys Keys
	for range n {
		kind, start := r.Peek(), r.pos
		if err := r.skip(depth); err != nil {
			return err
		}
		if err := keys.Add(shortest(kind, r.Since(start))); err != nil {
			return err
		}
		if err := r.skip(depth); err != nil {
			return err
		}
	}
	return nil
}

// shortest returns the shortest encoding of an integer key, so that 1 and 1 in two bytes are the
// same key, and other keys as they are.
func shortest(k Kind, key []byte) []byte {
	if k != Uint && k != Nint {
		return key
	}
	r := New(key)
	major, arg, err := r.head()
	if err != nil {
		return key
	}
	return AppendHead(nil, major, arg)
}

// AppendHead appends the shortest encoding of a major type (0 to 6) and its argument.
func AppendHead(b []byte, major byte, arg uint64) []byte {
	m := major << 5
	switch {
	case arg < 24:
		return append(b, m|byte(arg))
	case arg <= 0xff:
		return append(b, m|24, byte(arg))
	case arg <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, m|25), uint16(arg))
	case arg <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, m|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(b, m|27), arg)
}

// skipSimple reads a float or a simple value; two-byte simple values below 32 are not
// well-formed (RFC 8949 §3.3).
func (r *Reader) skipSimple() error {
	b := r.data[r.pos]
	_, arg, err := r.head()
	if err != nil {
		return err
	}
	if b == 0xf8 && arg < 32 {
		return ErrMalformed
	}
	return nil
}

// Keys finds duplicate map keys. Ascending keys, which every deterministic encoder writes, cost
// one comparison each.
type Keys struct {
	last []byte
	seen map[string]struct{}
	all  [][]byte
}

// Add records the encoding of a key, which must stay unchanged; a key that was there is
// [ErrDuplicate].
func (k *Keys) Add(key []byte) error {
	if k.seen == nil {
		if k.last == nil || bytes.Compare(k.last, key) < 0 {
			k.last = key
			k.all = append(k.all, key)
			return nil
		}
		k.seen = make(map[string]struct{}, len(k.all)+1)
		for _, earlier := range k.all {
			k.seen[string(earlier)] = struct{}{}
		}
	}
	if _, ok := k.seen[string(key)]; ok {
		return ErrDuplicate
	}
	k.seen[string(key)] = struct{}{}
	return nil
}
