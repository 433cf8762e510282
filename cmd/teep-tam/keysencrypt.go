package main

import (
	"os"

	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/cose/pkcs11"
)

// encryptFile encrypts a key file in place, unless it is encrypted, or no file. announce is called before that.
func encryptFile(opener *keyfile.Opener, name string, announce func() error) (done bool, err error) {
	if pkcs11.IsURI(name) {
		return false, nil
	}
	if _, err := opener.Open(name); err != nil {
		return false, err // what is no key is left alone
	}
	data, err := os.ReadFile(name)
	if err != nil || keyfile.IsEncrypted(data) {
		return false, err
	}
	sealed, err := opener.Secret.Encrypt(data)
	if err != nil {
		return false, err
	}
	if err := announce(); err != nil {
		return false, err
	}
	return true, replaceFile(name, sealed)
}
