package processor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-teep/teep/suit"
)

// Failure is the error of every procedure: why it ended, and where.
type Failure struct {
	// Reason is what the SUIT report says.
	Reason suit.Reason
	// Manifest leads from the root manifest to the one that failed, by dependency (SUIT report
	// §3); empty for the root.
	Manifest []uint64
	// Section is the command sequence, Offset the place in it as a SUIT_Record gives it, and
	// Command what stands there. Section is 0 when nothing ran yet.
	Section suit.Label
	Offset  int
	Command suit.CommandCode
	// Component is the component that the command was for.
	Component      suit.ComponentID
	ComponentIndex int
	// Err says what went wrong.
	Err error

	// soft tells that suit-directive-try-each and suit-directive-run-sequence may go on.
	soft bool
}

func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString("processor: ")
	if len(f.Manifest) > 0 {
		fmt.Fprintf(&b, "dependency %v: ", f.Manifest)
	}
	if f.Section != 0 {
		fmt.Fprintf(&b, "%s at byte %d: ", f.Section, f.Offset)
		if f.Command != 0 {
			fmt.Fprintf(&b, "%s: ", f.Command)
		}
	}
	if f.Component != nil {
		fmt.Fprintf(&b, "component %s: ", f.Component)
	}
	fmt.Fprintf(&b, "%v (%s)", f.Err, f.Reason)
	return b.String()
}

// Unwrap returns what went wrong.
func (f *Failure) Unwrap() error { return f.Err }

// Sentinels that callers tell apart; each is wrapped in a Failure.
var (
	// ErrDowngrade says that the sequence number is not higher than one that was committed.
	ErrDowngrade = errors.New("sequence number is not higher than what was installed before: sign the manifest again with a higher one")
	// ErrReferenced says that other manifests still refer to what was to be changed.
	ErrReferenced = errors.New("other manifests refer to it: update or uninstall them in the same run, or first")
	// ErrLimit says that one of Limits was reached.
	ErrLimit = errors.New("limit reached")
	// ErrUnverified says that content from outside would have been installed without any check.
	ErrUnverified = errors.New("content that was fetched has not been checked: let the manifest run condition-image-match on it")
	// ErrRolledBack is the failure of a manifest that was undone because another one of the
	// same run failed.
	ErrRolledBack = errors.New("undone, because another manifest of the same run failed")
)

func fail(reason suit.Reason, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// after says that a failure without a place came when a section had ended. In a report its offset is
// 0, where no command can stand.
func after(section suit.Label, err error) error {
	if err == nil {
		return nil
	}
	f := *asFailure(err)
	if f.Section == 0 {
		f.Section = section
	}
	return &f
}

// unmet is the failure of a condition.
func unmet(format string, args ...any) *Failure {
	f := fail(suit.ReasonConditionFailed, format, args...)
	f.soft = true
	return f
}

// asFailure makes any error a Failure; what is none yet is a failed operation.
func asFailure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	reason := suit.ReasonOperationFailed
	var pe *suit.ParseError
	if errors.As(err, &pe) || errors.Is(err, suit.ErrUnauthorized) || errors.Is(err, suit.ErrNoAuthentication) ||
		errors.Is(err, suit.ErrManifestDigest) || errors.Is(err, suit.ErrHash) {
		reason = suit.ReasonFor(err)
	}
	return &Failure{Reason: reason, Err: err}
}
