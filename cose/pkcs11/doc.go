// Package pkcs11 signs with keys that never leave a PKCS #11 token: a hardware security module, a
// smart card, or SoftHSM.
//
//	where, err := pkcs11.ParseURI("pkcs11:token=developer;object=signing?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=pin.txt")
//	key, err := pkcs11.Open(where)
//	defer key.Close()
//	signer, err := cose.NewSigner(cose.AlgESP256, key)
//
// Tokens are reached through a C library, so that this works only in programs that are built with cgo
// and the tag pkcs11. In all others [Open] returns [ErrNotBuilt].
//
// Keys on P-256, P-384 and Ed25519 are supported. The private key is found by its label or its
// identifier, and its public half by the same identifier.
package pkcs11

import (
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Key is a private key in a token. It is safe for concurrent use; the token works on one signature
// at a time. Close it when it is not needed any more.
type Key interface {
	crypto.Signer
	Close() error
}

// Location says where a key is.
type Location struct {
	// Module is the file name of the token's library.
	Module string
	// Token is the label of the token.
	Token string
	// Object is the label of the key, ID its identifier; one of them, or both.
	Object string
	ID     []byte
	// PIN is the user's.
	PIN string
}

// Errors that callers tell apart.
var (
	// ErrNotBuilt says that the program has no support for tokens.
	ErrNotBuilt = errors.New("pkcs11: this program was built without it: build with cgo and -tags pkcs11")
	// ErrNotFound says that there is no such token, or no such key in it.
	ErrNotFound = errors.New("pkcs11: not found")
	// ErrURI says that a PKCS #11 URI is wrong.
	ErrURI = errors.New("pkcs11: not a usable PKCS #11 URI")
)

// IsURI tells whether a name is a PKCS #11 URI, and not that of a file.
func IsURI(name string) bool { return strings.HasPrefix(name, "pkcs11:") }

// ParseURI reads a PKCS #11 URI (RFC 7512) with token, object or id, module-path, and pin-source,
// which names a file that holds the PIN; the file is read here. A pin-value is refused: others on the
// machine see the arguments of a program.
func ParseURI(uri string) (Location, error) {
	var l Location
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return l, fmt.Errorf("%w: %q is no URI of the scheme pkcs11", ErrURI, uri)
	}
	path, query, _ := strings.Cut(rest, "?")
	pinSource := ""
	err := attributes(path, ";", map[string]func(string){
		"token":  func(v string) { l.Token = v },
		"object": func(v string) { l.Object = v },
		"id":     func(v string) { l.ID = []byte(v) },
		"type":   func(string) {},
	})
	if err == nil {
		err = attributes(query, "&", map[string]func(string){
			"module-path": func(v string) { l.Module = v },
			"pin-source":  func(v string) { pinSource = strings.TrimPrefix(v, "file:") },
		})
	}
	switch {
	case err != nil:
	case l.Module == "":
		err = fmt.Errorf("%w: add ?module-path= with the token's library, such as /usr/lib/softhsm/libsofthsm2.so", ErrURI)
	case l.Token == "":
		err = fmt.Errorf("%w: add token= with the token's label", ErrURI)
	case l.Object == "" && l.ID == nil:
		err = fmt.Errorf("%w: add object= with the key's label, or id=", ErrURI)
	case pinSource == "":
		err = fmt.Errorf("%w: add pin-source= with the name of a file that holds the PIN", ErrURI)
	}
	if err != nil {
		return Location{}, err
	}
	if st, err := os.Stat(pinSource); err == nil && st.Mode().Perm()&0o077 != 0 {
		return Location{}, fmt.Errorf("pkcs11: %s, which holds the PIN, can be read by others (mode %o): run 'chmod 600 %s'", pinSource, st.Mode().Perm(), pinSource)
	}
	pin, err := os.ReadFile(pinSource)
	if err != nil {
		return Location{}, fmt.Errorf("pkcs11: read the PIN: %w", err)
	}
	l.PIN = strings.TrimRight(string(pin), "\r\n")
	return l, nil
}

// attributes reads name=value pairs. The value of what is not known stays out of the error: it could
// be a PIN.
func attributes(list, separator string, known map[string]func(string)) error {
	if list == "" {
		return nil
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(list, separator) {
		name, value, ok := strings.Cut(pair, "=")
		set := known[name]
		switch {
		case name == "pin-value":
			return fmt.Errorf("%w: a PIN in the URI is seen by others: put it into a file and give pin-source", ErrURI)
		case !ok || set == nil:
			return fmt.Errorf("%w: attribute %q is not supported", ErrURI, name)
		case seen[name]:
			return fmt.Errorf("%w: %s is given twice", ErrURI, name)
		}
		seen[name] = true
		text, err := url.PathUnescape(value)
		if err != nil {
			return fmt.Errorf("%w: %s is not percent-encoded as it should be", ErrURI, name)
		}
		set(text)
	}
	return nil
}
