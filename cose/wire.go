package cose

import (
	"encoding/binary"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

// The fixed frames of COSE (arrays, byte strings, null) are written and read here directly, so
// that signed bytes are never re-encoded and payloads never copied on the way in. Header maps and
// everything inside them go through internal/cbor.

const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6

	cborNull = 0xf6
)

// appendHead appends the initial bytes of a data item in their shortest form (RFC 8949 §4.2.1).
func appendHead(dst []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(dst, m|byte(n))
	case n < 1<<8:
		return append(dst, m|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, m|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, m|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, m|27), n)
}

func appendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(b))), b...)
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

func appendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, majorNint, uint64(-(n + 1)))
	}
	return appendHead(dst, majorUint, uint64(n))
}

// appendOptional appends a byte string, or null for a detached one.
func appendOptional(dst, b []byte, detached bool) []byte {
	if detached {
		return append(dst, cborNull)
	}
	return appendBytes(dst, b)
}

// cursor walks over bytes that internal/cbor found well-formed. Its slices share memory with them.
type cursor struct{ rest []byte }

// newCursor applies the CBOR policy and the size limit to a whole message.
func newCursor(msg []byte, limit int) (*cursor, error) {
	if len(msg) > limit {
		return nil, fmt.Errorf("%w: %w: %d bytes, at most %d are read", ErrMalformed, ErrTooLarge, len(msg), limit)
	}
	if err := cbor.Wellformed(msg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return &cursor{rest: msg}, nil
}

func (c *cursor) head() (major byte, n uint64, err error) {
	if len(c.rest) == 0 {
		return 0, 0, fmt.Errorf("%w: unexpected end", ErrMalformed)
	}
	first := c.rest[0]
	major, info := first>>5, first&31
	width := 0
	switch {
	case info < 24:
		n = uint64(info)
	case info <= 27:
		width = 1 << (info - 24)
	default:
		return 0, 0, fmt.Errorf("%w: indefinite length or reserved head 0x%02x", ErrMalformed, first)
	}
	if len(c.rest) < 1+width {
		return 0, 0, fmt.Errorf("%w: unexpected end", ErrMalformed)
	}
	for _, b := range c.rest[1 : 1+width] {
		n = n<<8 | uint64(b)
	}
	c.rest = c.rest[1+width:]
	return major, n, nil
}

// expect reads a head of the given major type and returns its argument.
func (c *cursor) expect(major byte, what string) (uint64, error) {
	got, n, err := c.head()
	if err != nil {
		return 0, fmt.Errorf("%w in %s", err, what)
	}
	if got != major {
		return 0, fmt.Errorf("%w: %s has CBOR major type %d, not %d", ErrMalformed, what, got, major)
	}
	return n, nil
}

// tag reads the tag number in front of the next item, if there is one.
func (c *cursor) tag() (number uint64, tagged bool, err error) {
	if len(c.rest) == 0 || c.rest[0]>>5 != majorTag {
		return 0, false, nil
	}
	_, number, err = c.head()
	return number, true, err
}

// frame reads the head of an array that must have exactly n elements.
func (c *cursor) frame(n uint64, what string) error {
	got, err := c.expect(majorArray, what)
	if err == nil && got != n {
		err = fmt.Errorf("%w: %s has %d elements, not %d", ErrMalformed, what, got, n)
	}
	return err
}

// bytes reads a byte string.
func (c *cursor) bytes(what string) ([]byte, error) {
	n, err := c.expect(majorBytes, what)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(c.rest)) {
		return nil, fmt.Errorf("%w: unexpected end in %s", ErrMalformed, what)
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b, nil
}

// optionalBytes reads a byte string or null. Null means detached.
func (c *cursor) optionalBytes(what string) (b []byte, detached bool, err error) {
	if len(c.rest) > 0 && c.rest[0] == cborNull {
		c.rest = c.rest[1:]
		return nil, true, nil
	}
	b, err = c.bytes(what)
	return b, false, err
}

// item reads one data item of any type and returns its encoding.
func (c *cursor) item(what string) ([]byte, error) {
	start := c.rest
	for pending := uint64(1); pending > 0; pending-- {
		major, n, err := c.head()
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, what)
		}
		switch major {
		case majorBytes, majorText:
			if n > uint64(len(c.rest)) {
				return nil, fmt.Errorf("%w: unexpected end in %s", ErrMalformed, what)
			}
			c.rest = c.rest[n:]
		case majorArray, majorMap, majorTag:
			items := uint64(1)
			if major != majorTag {
				items = n << (major - majorArray)
			}
			if items > uint64(len(c.rest)) || n > uint64(len(c.rest)) && major != majorTag {
				return nil, fmt.Errorf("%w: unexpected end in %s", ErrMalformed, what)
			}
			pending += items
		}
	}
	used := len(start) - len(c.rest)
	return start[:used:used], nil
}

// end checks that nothing follows.
func (c *cursor) end() error {
	if len(c.rest) != 0 {
		return fmt.Errorf("%w: %d bytes follow the message", ErrMalformed, len(c.rest))
	}
	return nil
}
