package frame

import (
	"context"
	"errors"
)

// Codes says which errors of a protocol cross under which codes, the most telling first: an error often
// wraps several. Two errors may share a code; the first of them is what it becomes on the other side.
type Codes []CodedError

// CodedError is an error that crosses, and its code.
type CodedError struct {
	Code uint64
	Err  error
}

// Failure is what crosses of an error: its code and its whole text where the error is one of the list. An error
// that is not, but for one that says that a call was cancelled, is returned as it is, and so crosses as
// CodeInternal.
func (c Codes) Failure(err error) error {
	for _, coded := range c {
		if errors.Is(err, coded.Err) {
			return &Failure{Code: coded.Code, Text: err.Error()}
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Failure{Code: CodeCancelled, Text: "cancelled"}
	}
	return err
}

// Err is the other side of Failure: the text that crossed, which [errors.Is] the error of the list. It is nil
// for a code that is not in it.
func (c Codes) Err(f *Failure) error {
	for _, coded := range c {
		if f.Code != coded.Code {
			continue
		}
		if f.Text == "" || f.Text == coded.Err.Error() {
			return coded.Err
		}
		return &RemoteError{Text: f.Text, Err: coded.Err}
	}
	return nil
}

// RemoteError is an error that came over the connection: the other side's text, and what it is for errors.Is.
type RemoteError struct {
	Text string
	Err  error
}

// Error implements error.
func (e *RemoteError) Error() string { return e.Text }

// Unwrap returns what it is.
func (e *RemoteError) Unwrap() error { return e.Err }
