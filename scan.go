package teep

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// A message is checked once against the CBOR policy, as a whole, before it is read. What follows reads the
// items inside of it: decoding each of them with the CBOR library would check every byte once more for each
// level that it is under. It holds for itself all the same: no length is believed that the bytes do not have.
//
// The readers check the major type first: null is no value here, and no tag is looked through.

// Errors of items; the caller says which item it is.
var (
	errItemShort = errors.New("ends too early")
	errItemHead  = errors.New("is not of definite length")
)

// readHead reads the head of the first item: its major type, argument, and size in bytes.
func readHead(r []byte) (major byte, arg uint64, size int, err error) {
	if len(r) == 0 {
		return 0, 0, 0, errItemShort
	}
	info := r[0] & 0x1f
	if info < 24 {
		return r[0] >> 5, uint64(info), 1, nil
	}
	if info > 27 {
		return 0, 0, 0, errItemHead
	}
	size = 1 + 1<<(info-24)
	if len(r) < size {
		return 0, 0, 0, errItemShort
	}
	for _, b := range r[1:size] {
		arg = arg<<8 | uint64(b)
	}
	return r[0] >> 5, arg, size, nil
}

// itemSize is the size of the first item, in bytes.
func itemSize(r []byte) (int, error) {
	at := 0
	for left := uint64(1); left > 0; left-- {
		major, arg, size, err := readHead(r[at:])
		if err != nil {
			return 0, err
		}
		at += size
		rest := uint64(len(r) - at)
		switch major {
		case majorBytes, majorText:
			if arg > rest {
				return 0, errItemShort
			}
			at += int(arg)
		case majorArray, majorMap, majorTag:
			if arg > rest && major != majorTag { // an element has a byte at least
				return 0, errItemShort
			}
			switch major {
			case majorArray:
				left += arg
			case majorMap:
				left += 2 * arg
			default:
				left++
			}
		}
	}
	return at, nil
}

// content is what follows the head of one whole item of a major type, and the head's argument.
func content(r RawMessage, major byte, name string) (arg uint64, rest []byte, err error) {
	if err := wantMajor(r, major, name); err != nil {
		return 0, nil, err
	}
	_, arg, size, err := readHead(r)
	if err != nil {
		return 0, nil, err
	}
	return arg, r[size:], nil
}

func wantMajor(r RawMessage, major byte, name string) error {
	if len(r) == 0 || r[0]>>5 != major {
		return errors.New("is not " + name)
	}
	return nil
}

func readUint(r RawMessage) (uint64, error) {
	n, rest, err := content(r, majorUint, "an unsigned integer")
	if err == nil && len(rest) != 0 {
		err = cbor.ErrTrailing
	}
	return n, err
}

func readUint32(r RawMessage) (uint32, error) {
	n, err := readUint(r)
	if err == nil && n > math.MaxUint32 {
		return 0, errors.New("exceeds 4 bytes")
	}
	return uint32(n), err
}

func readAlgorithm(r RawMessage) (cose.Algorithm, error) {
	major, n, size, err := readHead(r)
	switch {
	case err != nil:
		return 0, err
	case major != majorUint && major != majorNint:
		return 0, errors.New("is not an integer")
	case size != len(r):
		return 0, cbor.ErrTrailing
	case n > math.MaxInt64:
		return 0, errors.New("exceeds 8 bytes")
	case major == majorNint:
		return cose.Algorithm(-1 - int64(n)), nil
	}
	return cose.Algorithm(n), nil
}

// stringBytes are the bytes of a byte or text string, inside of r.
func stringBytes(r RawMessage, major byte, name string) ([]byte, error) {
	n, rest, err := content(r, major, name)
	switch {
	case err != nil:
		return nil, err
	case n > uint64(len(rest)):
		return nil, errItemShort
	case n < uint64(len(rest)):
		return nil, cbor.ErrTrailing
	}
	return rest, nil
}

// readBytes returns a copy, so that what is kept of a message does not keep all of it.
func readBytes(r RawMessage) ([]byte, error) {
	s, err := stringBytes(r, majorBytes, "a byte string")
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(s)), s...), nil
}

func readText(r RawMessage) (string, error) {
	s, err := stringBytes(r, majorText, "a text string")
	if err == nil && !utf8.Valid(s) {
		err = errors.New("is not UTF-8")
	}
	return string(s), err
}

func readBool(r RawMessage) (bool, error) {
	if len(r) == 1 && (r[0] == 0xf4 || r[0] == 0xf5) {
		return r[0] == 0xf5, nil
	}
	return false, errors.New("is neither true nor false")
}

// next splits the first item off.
func next(r []byte) (item RawMessage, rest []byte, err error) {
	n, err := itemSize(r)
	if err != nil {
		return nil, nil, err
	}
	return r[:n:n], r[n:], nil
}

// readArray returns the elements, which share memory with r.
func readArray(r RawMessage) ([]RawMessage, error) {
	n, rest, err := content(r, majorArray, "an array")
	if err != nil {
		return nil, err
	}
	if n > cbor.MaxArrayElements {
		return nil, fmt.Errorf("has %d elements, at most %d are read", n, cbor.MaxArrayElements)
	}
	if n > uint64(len(rest)) {
		return nil, errItemShort
	}
	items := make([]RawMessage, n)
	for i := range items {
		if items[i], rest, err = next(rest); err != nil {
			return nil, err
		}
	}
	if len(rest) != 0 {
		return nil, cbor.ErrTrailing
	}
	return items, nil
}

// readMap returns the pairs of a map of options. The values share memory with r.
func readMap(r RawMessage) (map[uint64]RawMessage, error) {
	const shape = "is not a map with unsigned integer labels, each once"
	n, rest, err := content(r, majorMap, "a map")
	if err != nil {
		return nil, err
	}
	if n > cbor.MaxMapPairs {
		return nil, fmt.Errorf("has %d pairs, at most %d are read", n, cbor.MaxMapPairs)
	}
	if n > uint64(len(rest)) {
		return nil, errItemShort
	}
	m := make(map[uint64]RawMessage, n)
	for range n {
		major, label, size, err := readHead(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shape, err)
		}
		if major != majorUint {
			return nil, errors.New(shape)
		}
		if _, twice := m[label]; twice {
			return nil, fmt.Errorf("%s: %d occurs twice", shape, label)
		}
		if m[label], rest, err = next(rest[size:]); err != nil {
			return nil, err
		}
	}
	if len(rest) != 0 {
		return nil, cbor.ErrTrailing
	}
	return m, nil
}

func readList[T any](r RawMessage, item func(RawMessage) (T, error)) ([]T, error) {
	items, err := readArray(r)
	if err != nil {
		return nil, err
	}
	list := make([]T, len(items))
	for i, raw := range items {
		if list[i], err = item(raw); err != nil {
			return nil, fmt.Errorf("element %d %w", i, err)
		}
	}
	return list, nil
}

func readComponentID(r RawMessage) (ComponentID, error) {
	id, err := readList(r, readBytes)
	return ComponentID(id), err
}

func readCipherSuite(r RawMessage) (CipherSuite, error) {
	ops, err := readList(r, func(r RawMessage) (op Operation, err error) {
		parts, err := readArray(r)
		if err != nil {
			return op, err
		}
		if len(parts) != 2 {
			return op, fmt.Errorf("has %d elements, an operation has 2", len(parts))
		}
		if op.COSEType, err = readUint(parts[0]); err != nil {
			return op, err
		}
		op.Algorithm, err = readAlgorithm(parts[1])
		return op, err
	})
	if err == nil && len(ops) == 0 {
		return nil, errors.New("is a cipher suite without operations")
	}
	return CipherSuite(ops), err
}

func readSUITProfile(r RawMessage) (p SUITProfile, err error) {
	algs, err := readList(r, readAlgorithm)
	if err != nil {
		return p, err
	}
	if len(algs) != 4 {
		return p, fmt.Errorf("has %d elements, a SUIT profile has 4", len(algs))
	}
	return SUITProfile{Digest: algs[0], Auth: algs[1], KeyExchange: algs[2], Encryption: algs[3]}, nil
}

// readClaims keeps the claims of a component as they are, in memory of their own.
func readClaims(r RawMessage) (RawMessage, error) {
	return bytes.Clone(r), wantMajor(r, majorMap, "a map")
}
