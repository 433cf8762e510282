package inspect

import (
	"fmt"

	"github.com/go-teep/teep/internal/edn"
)

// defaultMaxBytes is the longest byte string that notation shows whole: longer ones are payloads.
const defaultMaxBytes = 256

// textPerByte is how much longer text may be to be shown whole.
const textPerByte = 4

// Notation shows any TEEP message, SUIT structure, EAT, COSE message or COSE key, protected or
// not, in diagnostic notation (RFC 8949 §8) with the name of every label; byte strings that wrap
// CBOR are opened. Long byte strings and long text are cut short. The error says where data stops being CBOR.
func Notation(data []byte) (string, error) { return notation(data, defaultMaxBytes) }

// FullNotation is [Notation] with every string whole.
func FullNotation(data []byte) (string, error) { return notation(data, 0) }

func notation(data []byte, maxBytes int) (string, error) {
	it, err := parse(data)
	if err != nil {
		return "", fmt.Errorf("not one CBOR data item: %w", err)
	}
	return edn.Format(redact(data), edn.Options{Schema: newSchemas().of(&it), MaxBytes: maxBytes, MaxText: textPerByte * maxBytes})
}
