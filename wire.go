package teep

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// CBOR major types (RFC 8949 §3.1).
const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
)

// The encoder writes heads itself because options go out in the order in which the text lists them,
// which is how the text's own examples are encoded; it is as deterministic as an order by value, and
// a map that was sorted would be another encoding of the same example. Everything else is the
// shortest form (RFC 8949 §4.2.1).

func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major<<5|byte(n))
	case n < 1<<8:
		return append(b, major<<5|24, byte(n))
	case n < 1<<16:
		return append(b, major<<5|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(b, major<<5|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	b = append(b, major<<5|27)
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(n>>shift))
	}
	return b
}

func appendUint(b []byte, n uint64) []byte { return appendHead(b, majorUint, n) }

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNint, uint64(-1-n))
	}
	return appendUint(b, uint64(n))
}

func appendBytes(b, s []byte) []byte { return append(appendHead(b, majorBytes, uint64(len(s))), s...) }

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xf5)
	}
	return append(b, 0xf4)
}

func appendList[T any](b []byte, list []T, item func([]byte, T) []byte) []byte {
	b = appendHead(b, majorArray, uint64(len(list)))
	for _, v := range list {
		b = item(b, v)
	}
	return b
}

func appendComponentID(b []byte, id ComponentID) []byte {
	return appendList(b, id, appendBytes)
}

func appendCipherSuite(b []byte, s CipherSuite) []byte {
	return appendList(b, s, func(b []byte, op Operation) []byte {
		return appendInt(appendUint(appendHead(b, majorArray, 2), op.COSEType), int64(op.Algorithm))
	})
}

func appendSUITProfile(b []byte, p SUITProfile) []byte {
	return appendList(b, []cose.Algorithm{p.Digest, p.Auth, p.KeyExchange, p.Encryption},
		func(b []byte, a cose.Algorithm) []byte { return appendInt(b, int64(a)) })
}

func appendRaw(b []byte, r RawMessage) []byte { return append(b, r...) }

// optionMap collects the pairs of an options map in the order in which they are added.
type optionMap struct {
	pairs []byte
	count uint64
}

func (o *optionMap) label(label uint64) {
	o.pairs = appendUint(o.pairs, label)
	o.count++
}

func (o *optionMap) bytes(label uint64, s []byte) {
	if s != nil {
		o.label(label)
		o.pairs = appendBytes(o.pairs, s)
	}
}

func (o *optionMap) text(label uint64, s string) {
	if s != "" {
		o.label(label)
		o.pairs = appendText(o.pairs, s)
	}
}

func (o *optionMap) uint(label uint64, n *uint64) {
	if n != nil {
		o.label(label)
		o.pairs = appendUint(o.pairs, *n)
	}
}

func optionList[T any](o *optionMap, label uint64, list []T, item func([]byte, T) []byte) {
	if list != nil {
		o.label(label)
		o.pairs = appendList(o.pairs, list, item)
	}
}

func (o *optionMap) raw(m map[uint64]RawMessage) {
	for _, label := range slices.Sorted(maps.Keys(m)) {
		o.label(label)
		o.pairs = append(o.pairs, m[label]...)
	}
}

func (o *optionMap) appendTo(b []byte) []byte {
	return append(appendHead(b, majorMap, o.count), o.pairs...)
}

// The readers check the major type first: the CBOR library would take null for a zero value and
// look through tags.

func wantMajor(r RawMessage, major byte, name string) error {
	if len(r) == 0 || r[0]>>5 != major {
		return errors.New("is not " + name)
	}
	return nil
}

func readUint(r RawMessage) (n uint64, err error) {
	if err := wantMajor(r, majorUint, "an unsigned integer"); err != nil {
		return 0, err
	}
	return n, cbor.Unmarshal(r, &n)
}

func readUint32(r RawMessage) (uint32, error) {
	n, err := readUint(r)
	if err == nil && n > 1<<32-1 {
		return 0, errors.New("exceeds 4 bytes")
	}
	return uint32(n), err
}

func readAlgorithm(r RawMessage) (cose.Algorithm, error) {
	if wantMajor(r, majorUint, "") != nil && wantMajor(r, majorNint, "") != nil {
		return 0, errors.New("is not an integer")
	}
	var n int64
	err := cbor.Unmarshal(r, &n)
	return cose.Algorithm(n), err
}

func readBytes(r RawMessage) ([]byte, error) {
	if err := wantMajor(r, majorBytes, "a byte string"); err != nil {
		return nil, err
	}
	s := []byte{}
	err := cbor.Unmarshal(r, &s)
	return s, err
}

func readText(r RawMessage) (s string, err error) {
	if err := wantMajor(r, majorText, "a text string"); err != nil {
		return "", err
	}
	return s, cbor.Unmarshal(r, &s)
}

func readBool(r RawMessage) (bool, error) {
	if len(r) == 1 && (r[0] == 0xf4 || r[0] == 0xf5) {
		return r[0] == 0xf5, nil
	}
	return false, errors.New("is neither true nor false")
}

func readArray(r RawMessage) (items []RawMessage, err error) {
	if err := wantMajor(r, majorArray, "an array"); err != nil {
		return nil, err
	}
	return items, cbor.Unmarshal(r, &items)
}

func readMap(r RawMessage) (m map[uint64]RawMessage, err error) {
	if err := wantMajor(r, majorMap, "a map"); err != nil {
		return nil, err
	}
	if err := cbor.Unmarshal(r, &m); err != nil {
		return nil, fmt.Errorf("is not a map with unsigned integer labels, each once: %w", err)
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

func readClaims(r RawMessage) (RawMessage, error) {
	return r, wantMajor(r, majorMap, "a map")
}
