package sandbox

import (
	"fmt"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tee"
)

// keys implements tee.Keys. It does not change after it was made.
type keys struct {
	byUse   map[tee.KeyUse]*cose.Key
	signers map[tee.KeyUse]cose.Signer
}

func parseKeys(encoded map[string][]byte) (*keys, error) {
	k := &keys{byUse: map[tee.KeyUse]*cose.Key{}, signers: map[tee.KeyUse]cose.Signer{}}
	for _, use := range []tee.KeyUse{tee.KeyAgent, tee.KeyAttestation, tee.KeyReport, tee.KeyEncryption} {
		key, err := cose.ParseKey(encoded[string(use)])
		if err != nil {
			return nil, fmt.Errorf("%w: the %s key: %w", tee.ErrCorrupt, use, err)
		}
		if !key.IsPrivate() {
			return nil, fmt.Errorf("%w: the %s key is not private", tee.ErrCorrupt, use)
		}
		k.byUse[use] = key
		if use == tee.KeyEncryption {
			continue
		}
		if k.signers[use], err = key.Signer(); err != nil {
			return nil, fmt.Errorf("the %s key: %w", use, err)
		}
	}
	return k, nil
}

// Signer implements tee.Keys.
func (k *keys) Signer(use tee.KeyUse) (cose.Signer, error) {
	s := k.signers[use]
	if s == nil {
		return nil, fmt.Errorf("sandbox: a signer for %q: %w", use, tee.ErrNotExist)
	}
	return s, nil
}

// Decryption implements tee.Keys.
func (k *keys) Decryption() (*cose.Key, error) { return k.byUse[tee.KeyEncryption], nil }

// Public implements tee.Keys.
func (k *keys) Public(use tee.KeyUse) (*cose.Key, error) {
	key := k.byUse[use]
	if key == nil {
		return nil, fmt.Errorf("sandbox: a key for %q: %w", use, tee.ErrNotExist)
	}
	return key.Public(), nil
}
