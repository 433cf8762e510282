package tam

import (
	"context"
	"encoding/hex"
	"io"
	"strings"
	"time"
)

// Payloads keeps payloads that travel beside their envelope, by the SHA-256 of their bytes. They may be
// larger than memory: no method holds one.
//
// A payload that Put acknowledged survives a crash. Methods are safe for concurrent use, also by several
// processes; what they return is for one goroutine.
type Payloads interface {
	// Put stores what r gives until io.EOF, and returns its digest and its size in bytes. Storing the
	// same bytes again is no error, and mends what was damaged. When r fails, nothing is stored and
	// the error wraps that of r.
	Put(ctx context.Context, r io.Reader) (digest [32]byte, size int64, err error)
	// Open opens a payload; ErrNotFound when there is none. It does not read it all: whoever does
	// compares the digest, as agents do. ctx bounds the reading too. Close it.
	Open(ctx context.Context, digest [32]byte) (Payload, error)
	// Each gives visit every payload that is stored, in no particular order, and ends with its error. One that
	// comes or goes meanwhile may be missing.
	Each(ctx context.Context, visit func(StoredPayload) error) error
	// Delete removes a payload that was stored before the given time, and not since; removing one that does not
	// exist is no error. Who reads it goes on.
	Delete(ctx context.Context, digest [32]byte, before time.Time) error
}

// StoredPayload is a payload as its store knows it.
type StoredPayload struct {
	Digest [32]byte
	Size   int64 // in bytes
	// Stored is when it was stored, or stored again, by the clock of the store.
	Stored time.Time
}

// Payload is one that is open, at its beginning.
type Payload interface {
	io.ReadSeekCloser
	// Size is that of the whole in bytes.
	Size() int64
}

// maxDetachedDependency bounds a dependency's envelope that is looked into, in bytes.
const maxDetachedDependency = 64 << 20

// payloadName is what follows one of the TAM's own payload URIs; own is false for every other URI.
func (t *TAM) payloadName(uri string) (name string, own bool) {
	for _, base := range t.payloadURIs {
		if rest, ok := strings.CutPrefix(uri, strings.TrimSuffix(base, "/")+"/"); ok {
			return rest, true
		}
	}
	return "", false
}

// ParsePayloadName reads the name of a payload in a URI: its SHA-256 in lower-case hexadecimal. There is
// one name for each, so that caches keep it once.
func ParsePayloadName(name string) (digest [32]byte, ok bool) {
	if len(name) != hex.EncodedLen(len(digest)) || strings.ToLower(name) != name {
		return digest, false
	}
	_, err := hex.Decode(digest[:], []byte(name))
	return digest, err == nil
}
