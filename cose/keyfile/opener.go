package keyfile

import (
	"errors"
	"fmt"
	"sync"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/pkcs11"
)

// Opener opens private keys by name: that of a file, or a PKCS #11 URI. The zero value opens what is not
// encrypted. Its methods are safe for concurrent use.
type Opener struct {
	// Secret decrypts files; nil: those that are encrypted are refused.
	Secret *Secret

	mu     sync.Mutex
	tokens map[string]pkcs11.Key // by URI
}

// Key is a private key that was opened.
type Key struct {
	name   string
	key    *cose.Key // nil: it is in a token
	token  pkcs11.Key
	public *cose.Key
}

// Open opens a key. One in a token is opened once and stays so until Close.
func (o *Opener) Open(name string) (*Key, error) {
	if pkcs11.IsURI(name) {
		return o.openToken(name)
	}
	data, err := readPrivate(name)
	if err != nil {
		return nil, err
	}
	key, err := o.parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Key{name: name, key: key, public: key.Public()}, nil
}

// parse reads the content of a key file.
func (o *Opener) parse(data []byte) (*cose.Key, error) {
	if IsEncrypted(data) {
		var err error
		if data, err = o.Secret.decrypt(data); err != nil {
			return nil, err
		}
	}
	key, err := cose.ParsePEM(data)
	if err != nil {
		return nil, err
	}
	if !key.IsPrivate() {
		return nil, errors.New("it is a public key; the private one is needed")
	}
	return key, nil
}

func (o *Opener) openToken(uri string) (*Key, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	token := o.tokens[uri]
	if token == nil {
		where, err := pkcs11.ParseURI(uri)
		if err != nil {
			return nil, err
		}
		if token, err = pkcs11.Open(where); err != nil {
			return nil, fmt.Errorf("%s: %w", uri, err)
		}
		if o.tokens == nil {
			o.tokens = map[string]pkcs11.Key{}
		}
		o.tokens[uri] = token
	}
	public, err := cose.NewPublicKey(token.Public())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	return &Key{name: uri, token: token, public: public}, nil
}

// Close closes the tokens. Keys in them do not sign any more.
func (o *Opener) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, t := range o.tokens {
		errs = append(errs, t.Close())
	}
	o.tokens = nil
	return errors.Join(errs...)
}

// Name is what the key was opened by.
func (k *Key) Name() string { return k.name }

// Public is the public part.
func (k *Key) Public() *cose.Key { return k.public }

// Signer signs with the algorithm that is natural for the key.
func (k *Key) Signer() (cose.Signer, error) { return k.SignerFor(k.public.Alg()) }

// SignerFor signs with another algorithm that fits the key.
func (k *Key) SignerFor(alg cose.Algorithm) (cose.Signer, error) {
	var s cose.Signer
	var err error
	if k.token != nil {
		s, err = cose.NewSigner(alg, k.token)
	} else {
		s, err = k.key.SignerFor(alg)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	return s, nil
}

// Private is the key itself, for uses other than signing. One in a token does not leave it.
func (k *Key) Private() (*cose.Key, error) {
	if k.key == nil {
		return nil, fmt.Errorf("%s: a key in a token signs, and this use takes a key in a file: encrypt that with a secret", k.name)
	}
	return k.key, nil
}
