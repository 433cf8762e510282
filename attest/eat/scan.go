package eat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/go-teep/teep/internal/cbor"
)

// Claims sets are taken apart by hand: through reflection, reading them cost more than half of the
// signature verification before it. Everything here expects data that cbor.Wellformed accepted, which
// rules out indefinite lengths and bounds the nesting, and checks lengths nevertheless.

// maxClaims bounds the claims of one set, of which duplicates are found by comparing each with each.
const maxClaims = 256

var errTruncated = errors.New("an item that ends too early")

// head reads the head of an item: major type, argument, and its own size.
func head(data []byte) (majorType byte, arg uint64, size int, err error) {
	if len(data) == 0 {
		return 0, 0, 0, errTruncated
	}
	majorType, low := data[0]>>5, data[0]&0x1f
	if low < 24 {
		return majorType, uint64(low), 1, nil
	}
	if low > 27 {
		return 0, 0, 0, errors.New("an item of indefinite length")
	}
	size = 1 << (low - 24)
	if len(data) < 1+size {
		return 0, 0, 0, errTruncated
	}
	var b [8]byte
	copy(b[8-size:], data[1:1+size])
	return majorType, binary.BigEndian.Uint64(b[:]), 1 + size, nil
}

// itemSize returns how many bytes the first item takes.
func itemSize(data []byte) (int, error) {
	majorType, arg, size, err := head(data)
	if err != nil {
		return 0, err
	}
	items := uint64(0)
	switch majorType {
	case 2, 3:
		if arg > uint64(len(data)-size) {
			return 0, errTruncated
		}
		return size + int(arg), nil
	case 4:
		items = arg
	case 5:
		items = 2 * arg
	case 6:
		items = 1
	}
	if items > uint64(len(data)) {
		return 0, errTruncated
	}
	for range items {
		n, err := itemSize(data[size:])
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}

// scanArray returns the elements of an array as parts of data.
func scanArray(data []byte, low, high int) ([]cbor.RawMessage, error) {
	majorType, n, size, err := head(data)
	switch {
	case err != nil:
		return nil, err
	case majorType != 4:
		return nil, errors.New("not an array")
	case n < uint64(low) || n > uint64(high):
		return nil, fmt.Errorf("an array of %d, %d to %d are allowed", n, low, high)
	}
	items := make([]cbor.RawMessage, n)
	rest := data[size:]
	for i := range items {
		if size, err = itemSize(rest); err != nil {
			return nil, err
		}
		items[i], rest = cbor.RawMessage(rest[:size:size]), rest[size:]
	}
	if len(rest) != 0 {
		return nil, cbor.ErrTrailing
	}
	return items, nil
}

// member is a claim as it stands in a claims set.
type member struct {
	label int64
	value cbor.RawMessage
}

// scanClaims returns the members of a claims set, whose keys are integers (RFC 9711 §4).
func scanClaims(data []byte, limit int) ([]member, error) {
	majorType, n, size, err := head(data)
	switch {
	case err != nil:
		return nil, err
	case majorType != 5:
		return nil, errors.New("a claims set is a map")
	case n > uint64(limit):
		return nil, fmt.Errorf("%d claims, at most %d are read", n, limit)
	}
	members := make([]member, n)
	rest := data[size:]
	for i := range members {
		m := &members[i]
		for part := range 2 {
			size, err := itemSize(rest)
			if err != nil {
				return nil, err
			}
			if part == 1 {
				m.value = cbor.RawMessage(rest[:size:size])
			} else if m.label, err = parseInt(rest[:size], math.MinInt64, math.MaxInt64); err != nil {
				return nil, fmt.Errorf("a key: %w", err)
			}
			rest = rest[size:]
		}
		for _, before := range members[:i] {
			if before.label == m.label {
				return nil, fmt.Errorf("duplicate claim %d", m.label)
			}
		}
	}
	if len(rest) != 0 {
		return nil, cbor.ErrTrailing
	}
	return members, nil
}

// valueOf is the value under a label, or nil.
func valueOf(members []member, label int64) cbor.RawMessage {
	for i := range members {
		if members[i].label == label {
			return members[i].value
		}
	}
	return nil
}

// scanText splits a member off whose key is a text: the key, the value, and what follows.
func scanText(data []byte) (key string, value, rest []byte, err error) {
	n, err := itemSize(data)
	if err != nil {
		return "", nil, nil, err
	}
	size, content, err := scalar(data[:n], 3, "a text string")
	if err != nil {
		return "", nil, nil, fmt.Errorf("a key: %w", err)
	}
	if size != uint64(len(content)) || !utf8.Valid(content) {
		return "", nil, nil, errors.New("a key: not UTF-8")
	}
	data = data[n:]
	if n, err = itemSize(data); err != nil {
		return "", nil, nil, err
	}
	return string(content), data[:n:n], data[n:], nil
}
