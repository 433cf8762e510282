//go:build !pkcs11 || !cgo

package pkcs11

// Open finds the key in its token and logs in. In this build there is no support for it.
func Open(Location) (Key, error) { return nil, ErrNotBuilt }
