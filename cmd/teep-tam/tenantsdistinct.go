package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
)

// mark is a hash of a secret that no two TAMs of a service may share.
type mark [sha256.Size]byte

// What tenants share that have to be apart shows in the names of their files only as long as nobody copies or
// links them: whoever copies a tenant's folder to begin another has its keys twice, and devices that trust the
// one TAM obey the other; and operators' tokens of the one count in the copy of its store. So the secrets
// themselves are compared.

// marks are what a TAM has of its own, by what it is called. Keys come to them while it is served.
type marks struct {
	mu  sync.Mutex
	all map[mark]string
}

// add notes keys by their names.
func (m *marks) add(names []string, keys []*cose.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, k := range keys {
		m.all[sha256.Sum256(k.Thumbprint())] = "the key " + names[i]
	}
}

func (m *marks) copied() map[mark]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.all)
}

// readMarks notes what the instance has when it is opened.
func (i *instance) readMarks(ctx context.Context, store tam.Store) error {
	i.marks.all = map[mark]string{}
	names := i.config.keyFiles()
	keys, err := i.config.publicKeys(names)
	if err != nil {
		return err
	}
	i.marks.add(names, keys)
	made, err := store.TokenKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range made {
		i.marks.all[sha256.Sum256(k.Secret)] = "what is in the store"
	}
	// A store that was restored from another's backup has new token keys, and the operators' tokens of the other.
	tokens, err := store.ListAPITokens(ctx, "", markedTokens)
	for _, t := range tokens {
		i.marks.all[sha256.Sum256([]byte(t.ID))] = "what is in the store, with the operators' token " + t.ID + ","
	}
	return err
}

// markedTokens bounds the operators' tokens that are compared: a store has few, and a copy all of them.
const markedTokens = 1000

// distinct refuses what others have as well.
func distinct(file string, own map[mark]string, others []*instance) error {
	for _, o := range others {
		name := "tenant " + o.config.tenant
		if o.config.tenant == "" {
			name = "the service itself"
		}
		theirs := o.marks.copied()
		for m, what := range own {
			if _, ok := theirs[m]; ok {
				return fmt.Errorf("%s: %s is a copy of that of %s, or the same by another name: a tenant has keys and a store of its own ('teep-tam tenant create' makes them)",
					file, what, name)
			}
		}
	}
	return nil
}

// others are the instances that are served now but for one.
func (s *service) others(than *instance) []*instance {
	return slices.DeleteFunc(s.instances(), func(i *instance) bool { return i == than })
}

// newKeys refuses keys that came to an instance while it is served, if another has them.
func (s *service) newKeys(i *instance) func(names []string, keys []*cose.Key) error {
	return func(names []string, keys []*cose.Key) error {
		came := marks{all: map[mark]string{}}
		came.add(names, keys)
		if err := distinct(i.config.path, came.all, s.others(i)); err != nil {
			return err
		}
		i.marks.add(names, keys)
		return nil
	}
}
