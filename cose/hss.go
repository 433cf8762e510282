package cose

import "fmt"

func (k *Key) materializeHSSLMS() error {
	return fmt.Errorf("%w: HSS-LMS keys are not supported", ErrKey)
}

func verifyHSSLMS(public, message, signature []byte) bool { return false }
