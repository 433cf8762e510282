package tam

import "errors"

// Unavailable marks an error of a Store, of Blobs or of anything else behind a TAM as an outage that may
// pass by itself: a database that does not answer, a disk that is full. Package transport answers such an
// error with 503 and Retry-After, the operator API too; any other failure is one that waiting does not
// mend. nil stays nil. The marked error has a method Temporary that returns true, and wraps err.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &unavailableError{err}
}

// IsUnavailable tells whether [Unavailable] marked err or an error that it wraps.
func IsUnavailable(err error) bool {
	var u *unavailableError
	return errors.As(err, &u)
}

type unavailableError struct{ err error }

func (e *unavailableError) Error() string { return e.err.Error() }
func (e *unavailableError) Unwrap() error { return e.err }

// Temporary is what package transport looks for.
func (*unavailableError) Temporary() bool { return true }
