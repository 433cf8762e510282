// Package cbor is the one place that decides which CBOR this project accepts and produces.
//
// Every other package encodes with [Marshal] and decodes with [Unmarshal]; nothing else
// configures the CBOR library. What arrives from outside must be definite-length, free of
// duplicate map keys, valid UTF-8, bounded in depth and size, and followed by nothing. What
// leaves is Core Deterministic Encoding (RFC 8949 §4.2.1).
//
// Non-shortest integers and unsorted maps are accepted on input, because the TEEP and SUIT
// texts ask decoders to be able to read what other encoders produced and because signatures
// are always checked over the received bytes. Where an item must itself be deterministic, use
// [IsDeterministic].
package cbor

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of every decoder in this project. They bound memory and time before a signature was
// checked; the largest legitimate message is an Update with integrated payloads, whose size is
// bounded by the transport, not here.
const (
	// MaxNesting is the deepest nesting of arrays, maps and tags in one item. Byte strings
	// that wrap further CBOR start again from zero.
	MaxNesting = 24
	// MaxArrayElements is the largest number of elements in one array.
	MaxArrayElements = 65536
	// MaxMapPairs is the largest number of pairs in one map.
	MaxMapPairs = 4096
)

// Aliases, so that no other package imports the CBOR library.
type (
	// RawMessage is one encoded data item, kept as it was received.
	RawMessage = cbor.RawMessage
	// Tag is a tag number with decoded content.
	Tag = cbor.Tag
	// RawTag is a tag number with content kept as received.
	RawTag = cbor.RawTag
	// ByteString is a byte string that can be a map key.
	ByteString = cbor.ByteString
	// SimpleValue is a CBOR simple value.
	SimpleValue = cbor.SimpleValue
	// Marshaler is implemented by types that encode themselves.
	Marshaler = cbor.Marshaler
	// Unmarshaler is implemented by types that decode themselves.
	Unmarshaler = cbor.Unmarshaler
)

// ErrTrailing says that a data item was followed by further bytes.
var ErrTrailing = errors.New("cbor: bytes follow the data item")

type policy struct {
	enc  cbor.EncMode
	dec  cbor.DecMode
	diag cbor.DiagMode
}

// strict is immutable after construction: modes of the CBOR library are safe for concurrent use.
var strict = mustPolicy()

func mustPolicy() policy {
	enc, err := encOptions().EncMode()
	if err != nil {
		panic("cbor: encoder options: " + err.Error())
	}
	dec, err := decOptions().DecMode()
	if err != nil {
		panic("cbor: decoder options: " + err.Error())
	}
	diag, err := cbor.DiagOptions{
		ByteStringEncoding: cbor.ByteStringBase16Encoding,
		MaxNestedLevels:    MaxNesting,
		MaxArrayElements:   MaxArrayElements,
		MaxMapPairs:        MaxMapPairs,
	}.DiagMode()
	if err != nil {
		panic("cbor: diagnostic options: " + err.Error())
	}
	return policy{enc: enc, dec: dec, diag: diag}
}

func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeUnix
	o.TagsMd = cbor.TagsAllowed
	return o
}

func decOptions() cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		MaxNestedLevels:   MaxNesting,
		MaxArrayElements:  MaxArrayElements,
		MaxMapPairs:       MaxMapPairs,
		UTF8:              cbor.UTF8RejectInvalid,
		IntDec:            cbor.IntDecConvertSignedOrFail,
		ExtraReturnErrors: cbor.ExtraDecErrorNone,
		TagsMd:            cbor.TagsAllowed,
		// Byte strings as map keys occur in SUIT text maps, as component identifiers do.
		MapKeyByteString: cbor.MapKeyByteStringAllowed,
	}
}

// Marshal encodes v deterministically (RFC 8949 §4.2.1).
func Marshal(v any) ([]byte, error) { return strict.enc.Marshal(v) }

// Unmarshal decodes exactly one data item. Bytes after it are [ErrTrailing].
func Unmarshal(data []byte, v any) error {
	rest, err := strict.dec.UnmarshalFirst(data, v)
	if err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	if len(rest) != 0 {
		return ErrTrailing
	}
	return nil
}

// UnmarshalFirst decodes the first data item of data and returns what follows it.
func UnmarshalFirst(data []byte, v any) (rest []byte, err error) {
	rest, err = strict.dec.UnmarshalFirst(data, v)
	if err != nil {
		return nil, fmt.Errorf("cbor: %w", err)
	}
	return rest, nil
}

// Wellformed checks that data is exactly one data item within the policy, duplicate keys aside:
// those are found when the item is decoded.
func Wellformed(data []byte) error {
	if err := strict.dec.Wellformed(data); err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	return nil
}

// IsDeterministic tells whether data is one item in Core Deterministic Encoding: it decodes
// under the policy and encodes back to the same bytes.
func IsDeterministic(data []byte) bool {
	var v any
	if Unmarshal(data, &v) != nil {
		return false
	}
	again, err := Marshal(v)
	return err == nil && bytes.Equal(again, data)
}

// Diagnose renders one data item in diagnostic notation (RFC 8949 §8). Byte strings that wrap
// CBOR stay hexadecimal here; package edn opens them.
func Diagnose(data []byte) (string, error) {
	s, err := strict.diag.Diagnose(data)
	if err != nil {
		return "", fmt.Errorf("cbor: %w", err)
	}
	return s, nil
}
