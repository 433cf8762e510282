package teep

import (
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

// ExtensionTAMKey is this project's extension by which an agent says which of a TAM's keys it knows: the label
// of an option in QueryResponse and Error. While a TAM rotates its keys it signs QueryRequests with the old and
// the new one, and the rest of a session with one; who does not know the option ignores it (TEEP §11).
//
//	$$query-response-extensions //= ( ? 70102 => bstr .size 32 ) ; thumbprint (RFC 9679) of the key that
//	$$error-extensions //= ( ? 70102 => bstr .size 32 )          ; verified the QueryRequest
const ExtensionTAMKey = 70102

const thumbprintSize = 32

// TAMKey reads the option of [ExtensionTAMKey]; nil where there is none.
func TAMKey(extensions map[uint64]RawMessage) ([]byte, error) {
	raw, ok := extensions[ExtensionTAMKey]
	if !ok {
		return nil, nil
	}
	var thumbprint []byte
	if err := cbor.Unmarshal(raw, &thumbprint); err != nil {
		return nil, fmt.Errorf("teep: key of the TAM: %w", err)
	}
	if len(thumbprint) != thumbprintSize {
		return nil, fmt.Errorf("teep: key of the TAM: a thumbprint of %d bytes, not %d", len(thumbprint), thumbprintSize)
	}
	return thumbprint, nil
}

// TAMKeyOption is the option as a message's Extensions take it.
func TAMKeyOption(thumbprint []byte) (map[uint64]RawMessage, error) {
	if len(thumbprint) != thumbprintSize {
		return nil, fmt.Errorf("teep: key of the TAM: a thumbprint of %d bytes, not %d", len(thumbprint), thumbprintSize)
	}
	raw, err := cbor.Marshal(thumbprint)
	return map[uint64]RawMessage{ExtensionTAMKey: raw}, err
}
