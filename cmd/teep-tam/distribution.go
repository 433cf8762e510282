package main

import (
	"fmt"
	"slices"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// distributed reads the identifiers that the TAM may use in manifests of its own.
func (c *configuration) distributed() (prefix suit.ComponentID, components []suit.ComponentID, err error) {
	if c.Distribution.Key == "" {
		return nil, nil, nil
	}
	if prefix, err = suit.ParseComponentID(c.Distribution.Prefix); err != nil || len(prefix) == 0 {
		return nil, nil, fmt.Errorf("%s: distribution.prefix %q: write a component identifier, such as keys", c.path, c.Distribution.Prefix)
	}
	for _, text := range c.Distribution.Components {
		id, err := suit.ParseComponentID(text)
		if err != nil || len(id) == 0 {
			return nil, nil, fmt.Errorf("%s: distribution.components: %q: write a component identifier, such as hello/config", c.path, text)
		}
		components = append(components, id)
	}
	return prefix, components, nil
}

// distribution makes what the TAM needs to sign manifests of its own; nil if it is not to. Its key has no
// other use.
func (c *configuration) distribution() (*tam.Distribution, error) {
	if c.Distribution.Key == "" {
		return nil, nil
	}
	keys, err := c.openKeys([]string{c.Distribution.Key})
	if err != nil {
		return nil, err
	}
	others, err := c.publicKeys(slices.Concat(c.SignKeys, c.DecryptKey, []string{c.Verifier.Key}))
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(others, keys[0].Public().Equal) {
		return nil, fmt.Errorf("%s: distribution: %s has another use already: make a key with 'teep key generate'", c.path, c.Distribution.Key)
	}
	d := &tam.Distribution{}
	if d.Signer, err = keys[0].Signer(); err != nil {
		return nil, &program.Usage{Err: err}
	}
	d.Prefix, d.Components, err = c.distributed()
	return d, err
}

// oneUse refuses signing keys that sign the TAM's own manifests, too.
func (c *configuration) oneUse() error {
	if c.Distribution.Key == "" {
		return nil
	}
	_, err := c.distribution()
	return err
}

// signerAnchor is one entry of "signers" in a trust file.
type signerAnchor struct {
	Name       string   `yaml:"name"`
	Keys       []string `yaml:"keys"`
	Components []string `yaml:"components"`
}

// distributor is the entry of the key that signs the TAM's own manifests.
func (c *configuration) distributor() (*signerAnchor, error) {
	if c.Distribution.Key == "" {
		return nil, fmt.Errorf("%s: distribution.signing-key is missing: there is nothing to trust", c.path)
	}
	a := &signerAnchor{Name: c.Name + "-distribution", Components: append([]string{c.Distribution.Prefix}, c.Distribution.Components...)}
	keys, err := c.publicKeys([]string{c.Distribution.Key})
	if err != nil {
		return nil, err
	}
	for _, name := range c.Distribution.FurtherKeys {
		further, err := publicKey(name)
		if err != nil {
			return nil, fmt.Errorf("%s: distribution.further-keys: %w", c.path, err)
		}
		keys = append(keys, further)
	}
	for _, k := range keys {
		data, err := k.MarshalPEM()
		if err != nil {
			return nil, err
		}
		a.Keys = append(a.Keys, string(data))
	}
	return a, nil
}
