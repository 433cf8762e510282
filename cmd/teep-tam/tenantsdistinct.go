package main

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/go-teep/teep/tam"
)

// mark is a hash of a secret that no two TAMs of a service may share.
type mark [sha256.Size]byte

// What tenants share that have to be apart shows in the names of their files only as long as nobody copies or
// links them: whoever copies a tenant's folder to begin another has its keys twice, and devices that trust the
// one TAM obey the other; and operators' tokens of the one count in the copy of its store. So the secrets
// themselves are compared.

// readMarks notes what the instance has of its own, by what it is called.
func (i *instance) readMarks(ctx context.Context, store tam.Store) error {
	i.marks = map[mark]string{}
	names := i.config.keyFiles()
	keys, err := i.config.publicKeys(names)
	if err != nil {
		return err
	}
	for n, k := range keys {
		i.marks[sha256.Sum256(k.Thumbprint())] = "the key " + names[n]
	}
	tokens, err := store.TokenKeys(ctx)
	for _, k := range tokens {
		i.marks[sha256.Sum256(k.Secret)] = "what is in the store"
	}
	return err
}

// distinct refuses an instance that has keys or a store in common with others.
func (i *instance) distinct(others []*instance) error {
	for _, o := range others {
		name := "tenant " + o.config.tenant
		if o.config.tenant == "" {
			name = "the service itself"
		}
		for m, what := range i.marks {
			if _, ok := o.marks[m]; ok {
				return fmt.Errorf("%s: %s is a copy of that of %s, or the same by another name: a tenant has keys and a store of its own ('teep-tam tenant create' makes them)",
					i.config.path, what, name)
			}
		}
	}
	return nil
}
