package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/cose/pkcs11"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/tam"
)

// The keys of a TAM are listed in tam.yaml (signing-keys, decryption-keys), until 'teep-tam keys' rotates them
// for the first time. From then on the key ring counts, a file beside tam.yaml that the running service
// reads again when it changes.

// defaultRing is the file name of the key ring.
const defaultRing = "keys.yaml"

// role is what a key of the ring is for now.
type role string

const (
	// roleCurrent keys are used where nothing says that a device knows another.
	roleCurrent role = "current"
	// roleNext keys count already and are told to new devices; they become current with the next rotation.
	roleNext role = "next"
	// rolePrevious keys count still, for devices that know nothing newer.
	rolePrevious role = "previous"
)

// roles are in the order in which keys are tried.
var roles = []role{roleCurrent, roleNext, rolePrevious}

// keyRing is the content of the file.
type keyRing struct {
	Version    int       `yaml:"version"`
	Signing    []ringKey `yaml:"signing"`
	Decryption []ringKey `yaml:"decryption"`
}

// ringKey is a key of the ring. Key is a file relative to the ring's, or a PKCS #11 URI. It counts from NotBefore
// on and before NotAfter, where these are given.
type ringKey struct {
	Key       string    `yaml:"key"`
	Role      role      `yaml:"role"`
	NotBefore time.Time `yaml:"not-before,omitempty"`
	NotAfter  time.Time `yaml:"not-after,omitempty"`
}

// counts tells whether the key is used at a time.
func (k *ringKey) counts(now time.Time) bool {
	return !now.Before(k.NotBefore) && (k.NotAfter.IsZero() || now.Before(k.NotAfter))
}

// readRing reads the ring; nil if there is no such file.
func readRing(path string) (*keyRing, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r keyRing
	if err := config.Load(path, &r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

func (r *keyRing) check() error {
	if r.Version != 1 {
		return fmt.Errorf("version is %d: this program knows version 1", r.Version)
	}
	seen := map[string]bool{}
	for what, list := range map[string][]ringKey{"signing": r.Signing, "decryption": r.Decryption} {
		for i, k := range list {
			switch {
			case k.Key == "":
				return fmt.Errorf("%s: entry %d has no key", what, i+1)
			case !slices.Contains(roles, k.Role):
				return fmt.Errorf("%s: %s has the role %q: write current, next or previous", what, k.Key, k.Role)
			case seen[k.Key]:
				return fmt.Errorf("%s: %s is there twice: one key has one use and one role", what, k.Key)
			case !k.NotAfter.IsZero() && !k.NotAfter.After(k.NotBefore):
				return fmt.Errorf("%s: %s ends before it begins", what, k.Key)
			}
			seen[k.Key] = true
		}
	}
	return nil
}

// write replaces the file so that a crash leaves the old or the new ring.
func (r *keyRing) write(path string) error {
	if err := r.check(); err != nil {
		return err
	}
	var text bytes.Buffer
	text.WriteString("# The keys of the TAM. 'teep-tam keys' writes this file; the running service reads it again when it changes.\n")
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(r), enc.Close()); err != nil {
		return err
	}
	return replaceFile(path, text.Bytes())
}

// names lists the keys that count, in the order of roles.
func names(list []ringKey, now time.Time, of ...role) (all []string) {
	for _, r := range of {
		for _, k := range list {
			if k.Role == r && k.counts(now) {
				all = append(all, k.Key)
			}
		}
	}
	return all
}

// useRing puts the keys of the ring, if there is one, in place of those that tam.yaml lists.
func (c *configuration) useRing(now time.Time) error {
	c.Keys = config.Relative(c.path, c.Keys)
	ring, err := readRing(c.Keys)
	if err != nil {
		return err
	}
	c.announced = c.SignKeys
	if ring == nil {
		return nil
	}
	for _, list := range [][]ringKey{ring.Signing, ring.Decryption} {
		for i := range list {
			list[i].Key = keyName(c.Keys, list[i].Key)
		}
	}
	c.SignKeys, c.DecryptKey = names(ring.Signing, now, roles...), names(ring.Decryption, now, roles...)
	c.announced = names(ring.Signing, now, roleCurrent, roleNext)
	return nil
}

// listedRing is the ring that tam.yaml amounts to, with names relative to the ring's file.
func (c *configuration) listedRing() *keyRing {
	r := &keyRing{Version: 1}
	for _, name := range c.SignKeys {
		r.Signing = append(r.Signing, ringKey{Key: c.inRing(name), Role: roleCurrent})
	}
	for i, name := range c.DecryptKey {
		k := ringKey{Key: c.inRing(name), Role: roleCurrent}
		if i > 0 {
			k.Role = rolePrevious
		}
		r.Decryption = append(r.Decryption, k)
	}
	return r
}

// inRing is a key's name as the ring writes it.
func (c *configuration) inRing(name string) string {
	if pkcs11.IsURI(name) {
		return name
	}
	if relative, err := filepath.Rel(filepath.Dir(c.Keys), name); err == nil {
		return relative
	}
	return name
}

// keyName makes the name of a key absolute, or relative to where this program runs.
func keyName(file, name string) string {
	if pkcs11.IsURI(name) {
		return name
	}
	return config.Relative(file, name)
}

// opened opens private keys, with the secret that the configuration names. It reads that once.
func (c *configuration) opened() (*keyfile.Opener, error) {
	if c.opener == nil {
		secret, err := c.KeySecret.Read()
		if err != nil {
			return nil, fmt.Errorf("%s: key-secret: %w", c.path, err)
		}
		c.opener = &keyfile.Opener{Secret: secret}
	}
	return c.opener, nil
}

// openKeys opens private keys by name.
func (c *configuration) openKeys(names []string) ([]*keyfile.Key, error) {
	opener, err := c.opened()
	if err != nil {
		return nil, err
	}
	keys := make([]*keyfile.Key, len(names))
	for i, name := range names {
		keys[i], err = opener.Open(name)
		switch {
		case errors.Is(err, keyfile.ErrSecret) && opener.Secret == nil && c.KeySecret == (keyfile.Source{}):
			return nil, fmt.Errorf("%w: name it as key-secret in %s", err, c.path)
		case errors.Is(err, keyfile.ErrSecret) && opener.Secret == nil:
			return nil, fmt.Errorf("%w: key-secret of %s is read when the service starts: start it again", err, c.path)
		case err != nil:
			return nil, err
		}
	}
	return keys, nil
}

// privateKey opens a key that has to be in a file.
func (c *configuration) privateKey(name string) (*cose.Key, error) {
	keys, err := c.openKeys([]string{name})
	if err != nil {
		return nil, err
	}
	return keys[0].Private()
}

// publicKeys are the public parts of private keys.
func (c *configuration) publicKeys(names []string) ([]*cose.Key, error) {
	keys, err := c.openKeys(names)
	if err != nil {
		return nil, err
	}
	all := make([]*cose.Key, len(keys))
	for i, k := range keys {
		all[i] = k.Public()
	}
	return all, nil
}

func (c *configuration) signers(names []string) ([]cose.Signer, error) {
	keys, err := c.openKeys(names)
	if err != nil {
		return nil, err
	}
	all := make([]cose.Signer, len(keys))
	for i, k := range keys {
		if all[i], err = k.Signer(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// decryptionKeys reads the keys that agents encrypt to. One key has one use (RFC 9397 §5): a key
// that signs is refused.
func (c *configuration) decryptionKeys() ([]*cose.Key, error) {
	opened, err := c.openKeys(c.DecryptKey)
	if err != nil {
		return nil, err
	}
	signing, err := c.publicKeys(append(slices.Clone(c.SignKeys), c.Verifier.Key))
	if err != nil {
		return nil, err
	}
	keys := make([]*cose.Key, len(opened))
	for i, k := range opened {
		if k.Public().Curve() == cose.CurveEd25519 || slices.ContainsFunc(signing, k.Public().Equal) {
			return nil, fmt.Errorf("%s: decryption-keys: %s is a signing key: make one for ECDH with 'teep key generate --alg ECDH-ES+A128KW'",
				c.path, c.DecryptKey[i])
		}
		if keys[i], err = k.Private(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// ring makes what the TAM's core needs of the keys that count now.
func (c *configuration) ring() (tam.KeyRing, error) {
	plain, err := c.signers(c.SignKeys)
	if err != nil {
		return tam.KeyRing{}, err
	}
	signers, err := c.messageSigners(plain)
	if err != nil {
		return tam.KeyRing{}, err
	}
	decryption, err := c.decryptionKeys()
	return tam.KeyRing{Signers: signers, DecryptionKeys: decryption}, err
}
