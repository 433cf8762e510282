//go:build !linux

package sandbox

// Hardening is what Harden achieved.
type Hardening struct {
	// Missing says, in words, what could not be done. It becomes part of the Evidence.
	Missing []string
}

// Harden does nothing on this system, and says so.
func Harden() Hardening {
	return Hardening{Missing: []string{"process not hardened: not known how on this system"}}
}
