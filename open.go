package teep

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Steps of validating a received message (TEEP §4.1.2).
const (
	StepCBOR      = 1 // a valid CBOR object
	StepCOSE      = 2 // a COSE_Sign1 or COSE_Sign structure
	StepHeader    = 3 // header parameters and values that are understood and supported
	StepSignature = 4 // the signature, by a key that is trusted
	StepMessage   = 5 // the message and its fields
)

// ValidationError says at which step of TEEP §4.1.2 a received message was rejected. At
// StepMessage, Err is a [*ProtocolError] and the message is authentic; before, it is not.
type ValidationError struct {
	Step int
	Err  error
}

func (e *ValidationError) Error() string {
	names := [...]string{"", "not valid CBOR", "no COSE_Sign1 or COSE_Sign structure", "COSE header not acceptable",
		"signature not acceptable", "message not acceptable"}
	name := "rejected"
	if e.Step > 0 && e.Step < len(names) {
		name = names[e.Step]
	}
	return fmt.Sprintf("teep: validation step %d: %s: %v", e.Step, name, e.Err)
}

// Unwrap returns the cause.
func (e *ValidationError) Unwrap() error { return e.Err }

// OpenOptions says what Open accepts. The zero value is secure.
type OpenOptions struct {
	// Algorithms that may have signed the message. Empty means ESP256, Ed25519 and ESP384. Once
	// a cipher suite is selected, only its algorithm belongs here (TEEP §8.1).
	Algorithms []cose.Algorithm
	// InsecureOlderPeers also accepts ES256 (-7) and EdDSA (-8), which leave the curve open and
	// which implementations of earlier drafts send. The keys given to Open decide the curve.
	InsecureOlderPeers bool
	// MaxSize is the largest message in bytes; 0 means 64 MiB.
	MaxSize int
	// Extensions decodes message types that this package does not know.
	Extensions Registry
}

// DefaultAlgorithms are the signature algorithms that Open accepts by itself.
func DefaultAlgorithms() []cose.Algorithm {
	return []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519, cose.AlgESP384}
}

const defaultMaxSize = 64 << 20

// Opened is an authentic message.
type Opened struct {
	Message Message
	// Payload is the encoded message as it was signed.
	Payload []byte
	// Key verified the signature: the sender.
	Key       *cose.Key
	Algorithm cose.Algorithm
	// Suite is the cipher suite that the message was protected with. A COSE_Sign message counts
	// as the COSE_Sign1 suite of the signature that was verified: it is the offer of that suite.
	Suite CipherSuite
	// Multiple says that the message was a COSE_Sign.
	Multiple bool
	// Signers are all signatures that hold, in the order of the message; Key and Algorithm are those of
	// the first.
	Signers []cose.VerifiedSigner
}

// Open validates a received message step by step (TEEP §4.1.2) and decodes it. Errors are
// [*ValidationError]. keys are those that the receiver trusts for this purpose, and no others.
func Open(data []byte, keys cose.KeySource, o OpenOptions) (*Opened, error) {
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	if len(data) > o.MaxSize {
		return nil, &ValidationError{StepCBOR, fmt.Errorf("%d bytes exceed the limit of %d", len(data), o.MaxSize)}
	}
	if err := cbor.Wellformed(data); err != nil {
		return nil, &ValidationError{StepCBOR, err}
	}
	multiple, err := coseShape(data)
	if err != nil {
		return nil, &ValidationError{StepCOSE, err}
	}
	algorithms := o.Algorithms
	if len(algorithms) == 0 {
		algorithms = DefaultAlgorithms()
	}
	if o.InsecureOlderPeers {
		algorithms = append(algorithms[:len(algorithms):len(algorithms)], cose.AlgES256, cose.AlgEdDSA)
	}
	v, err := cose.Verify(data, keys, cose.VerifyOptions{
		Algorithms: algorithms,
		// Senders need not name the content, but must not name another.
		ContentTypes: []any{nil, MediaType},
	})
	if err != nil {
		return nil, &ValidationError{coseStep(err), err}
	}
	m, err := Decoder{Extensions: o.Extensions}.Decode(v.Payload)
	if err != nil {
		return nil, &ValidationError{StepMessage, err}
	}
	return &Opened{
		Message: m, Payload: v.Payload, Key: v.Key, Algorithm: v.Algorithm,
		Suite: CipherSuiteSign1(v.Algorithm), Multiple: multiple, Signers: v.Signers,
	}, nil
}

// coseShape tells COSE_Sign from COSE_Sign1, by the tag or, where there is none, by the type of
// the fourth element: an array of signatures or a single one (RFC 9052 §4.1, §4.2).
func coseShape(data []byte) (multiple bool, err error) {
	const majorTag, majorArray = 6, 4
	// Tagged messages say what they are; cose.Verify finds out whether that is true.
	switch {
	case bytes.HasPrefix(data, []byte{0xc0 | byte(COSESign1), 0x84}):
		return false, nil
	case bytes.HasPrefix(data, []byte{0xd8, byte(COSESign), 0x84}):
		return true, nil
	}
	number := uint64(0)
	if data[0]>>5 == majorTag {
		var tag cbor.RawTag
		if err := cbor.Unmarshal(data, &tag); err != nil {
			return false, err
		}
		if tag.Number != COSESign1 && tag.Number != COSESign {
			return false, fmt.Errorf("CBOR tag %d is neither 18 (COSE_Sign1) nor 98 (COSE_Sign)", tag.Number)
		}
		number, data = tag.Number, tag.Content
	}
	var parts []cbor.RawMessage
	if len(data) == 0 || data[0]>>5 != majorArray {
		return false, errors.New("not an array")
	}
	if err := cbor.Unmarshal(data, &parts); err != nil {
		return false, err
	}
	if len(parts) != 4 {
		return false, fmt.Errorf("array of %d elements, expected 4", len(parts))
	}
	multiple = parts[3][0]>>5 == majorArray
	if number != 0 && multiple != (number == COSESign) {
		return false, fmt.Errorf("CBOR tag %d does not fit the structure inside", number)
	}
	return multiple, nil
}

func coseStep(err error) int {
	switch {
	case errors.Is(err, cose.ErrHeader), errors.Is(err, cose.ErrAlgorithm):
		return StepHeader
	case errors.Is(err, cose.ErrMalformed):
		return StepCOSE
	}
	return StepSignature // and a payload that is left out, which no signature can be checked with
}
