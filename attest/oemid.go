package attest

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-teep/teep/internal/cbor"
)

// Sizes of the byte string forms of the oemid claim (RFC 9711 §4.2.3).
const (
	ieeeOEMIDSize   = 3
	randomOEMIDSize = 16
)

// An oemid claim is handled as its encoding, because its three forms have three types:
//
//	oemid = oemid-pen / oemid-ieee / oemid-random
//	oemid-pen = int              ; IANA Private Enterprise Number, major type 0
//	oemid-ieee = bstr .size 3    ; OUI, MA-M, MA-S or CID
//	oemid-random = bstr .size 16

// ParseOEMID encodes an oemid claim that is written as "pen:76543", "ieee:ac-de-48" or
// "random:" with 32 hexadecimal digits.
func ParseOEMID(text string) ([]byte, error) {
	form, value, _ := strings.Cut(text, ":")
	size := 0
	switch form {
	case "pen":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("attest: oemid %q: the enterprise number is not an unsigned integer of 32 bits", text)
		}
		return cbor.Marshal(n)
	case "ieee":
		size = ieeeOEMIDSize
	case "random":
		size = randomOEMIDSize
	default:
		return nil, fmt.Errorf("attest: oemid %q: write pen:NUMBER, ieee:XX-XX-XX or random:HEX", text)
	}
	b, err := hex.DecodeString(strings.NewReplacer("-", "", ":", "").Replace(value))
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("attest: oemid %q: %s takes %d bytes in hexadecimal", text, form, size)
	}
	return cbor.Marshal(b)
}

// FormatOEMID writes an encoded oemid claim as [ParseOEMID] reads it.
func FormatOEMID(encoded []byte) (string, error) {
	var v any
	if err := cbor.Unmarshal(encoded, &v); err != nil {
		return "", fmt.Errorf("%w: oemid: %w", ErrFormat, err)
	}
	switch v := v.(type) {
	case int64:
		if v >= 0 && v <= 1<<32-1 {
			return fmt.Sprintf("pen:%d", v), nil
		}
	case []byte:
		switch len(v) {
		case ieeeOEMIDSize:
			return fmt.Sprintf("ieee:%x-%x-%x", v[:1], v[1:2], v[2:]), nil
		case randomOEMIDSize:
			return fmt.Sprintf("random:%x", v), nil
		}
	}
	return "", errOEMID
}

// CanonicalOEMID checks an encoded oemid claim and returns its deterministic encoding, in which
// equal identifiers are equal bytes.
func CanonicalOEMID(encoded []byte) ([]byte, error) {
	var v any
	if err := cbor.Unmarshal(encoded, &v); err != nil {
		return nil, fmt.Errorf("%w: oemid: %w", ErrFormat, err)
	}
	switch v := v.(type) {
	case int64:
		if v >= 0 && v <= math.MaxUint32 {
			return cbor.Marshal(v)
		}
	case []byte:
		if len(v) == ieeeOEMIDSize || len(v) == randomOEMIDSize {
			return cbor.Marshal(v)
		}
	}
	return nil, errOEMID
}

var errOEMID = fmt.Errorf("%w: oemid is neither an enterprise number, nor 3 nor 16 bytes (RFC 9711 §4.2.3)", ErrFormat)
