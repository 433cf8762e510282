package cose

import "errors"

// Every error of this package wraps one of these. None of them carries key material or plaintext.
var (
	// ErrMalformed says that bytes are not the COSE structure that they should be.
	ErrMalformed = errors.New("cose: malformed")
	// ErrTooLarge says that a message exceeds one of the limits of this package. It is reported
	// together with ErrMalformed.
	ErrTooLarge = errors.New("cose: over the limit")
	// ErrHeader says that a header parameter is missing, misplaced, duplicated, of the wrong type,
	// or critical and not understood.
	ErrHeader = errors.New("cose: header parameter")
	// ErrContentType says that the content type is not one that the caller accepts. It is reported
	// together with ErrHeader.
	ErrContentType = errors.New("cose: content type")
	// ErrAlgorithm says that an algorithm is not supported, not allowed by the caller, or does not
	// fit the key or the message.
	ErrAlgorithm = errors.New("cose: algorithm")
	// ErrKey says that a key is invalid or cannot do what was asked of it.
	ErrKey = errors.New("cose: key")
	// ErrUnknownSigner says that no trusted key fits any signature of the message.
	ErrUnknownSigner = errors.New("cose: unknown signer")
	// ErrSignature says that a signature or authentication tag does not hold.
	ErrSignature = errors.New("cose: signature verification failed")
	// ErrNoKey says that none of the given keys fits any recipient of an encrypted message.
	ErrNoKey = errors.New("cose: no key for any recipient")
	// ErrDecrypt says that a content key could not be unwrapped, or that ciphertext, headers and
	// additional data are not what was encrypted.
	ErrDecrypt = errors.New("cose: decryption failed")
	// ErrPayload says that a detached payload or ciphertext is missing, or given although the
	// message carries its own.
	ErrPayload = errors.New("cose: detached payload")
)

// moreTelling picks, of the reasons why several signatures or recipients were of no use, the one
// that says most: a key was found and the signature is wrong, rather than no key was found, rather
// than the algorithm is of no interest here.
func moreTelling(a, b error) error {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func rank(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrSignature), errors.Is(err, ErrDecrypt):
		return 5
	case errors.Is(err, ErrTooLarge):
		return 4
	case errors.Is(err, ErrUnknownSigner), errors.Is(err, ErrNoKey):
		return 3
	case errors.Is(err, ErrAlgorithm):
		return 2
	}
	return 1
}
