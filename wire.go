package teep

import (
	"maps"
	"slices"

	"github.com/go-teep/teep/cose"
)

// CBOR major types (RFC 8949 §3.1).
const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
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
