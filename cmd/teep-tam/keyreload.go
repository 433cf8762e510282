package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/pkcs11"
	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/tam"
)

// validityInterval is how often the validity of keys is looked at.
const validityInterval = time.Minute

// liveKeys keeps the keys of a TAM that runs true to their files.
type liveKeys struct {
	tam      *tam.TAM
	follower *filewatch.Follower
	log      *slog.Logger

	mu     sync.Mutex
	config *configuration
	// distinct refuses keys that another TAM of the service has; nil: there is none yet.
	distinct func(names []string, keys []*cose.Key) error
	// decryption and verification are for those who look at recorded messages.
	decryption, verification []*cose.Key
}

// followKeys begins with the keys that the TAM was made with.
func followKeys(c *configuration, t *tam.TAM, log *slog.Logger) (*liveKeys, error) {
	k := &liveKeys{tam: t, log: log, config: c}
	var err error
	k.follower, err = filewatch.NewFollower("keys", k.files, k.read, log)
	return k, err
}

// files are the ring, the keys, and the certificates of keys.
func (k *liveKeys) files() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := []string{k.config.Keys}
	for _, name := range slices.Concat(k.config.SignKeys, k.config.DecryptKey, k.config.Certificates) {
		if !pkcs11.IsURI(name) {
			all = append(all, name)
		}
	}
	return all
}

// read replaces the keys in force, if all can be used.
func (k *liveKeys) read() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := load(k.config.path)
	if err != nil {
		return err
	}
	now.olderPeers, now.opener = k.config.olderPeers, k.config.opener
	ring, err := now.ring()
	if err != nil {
		return err
	}
	if err := now.oneUse(); err != nil {
		return err
	}
	verification, err := now.publicKeys(now.SignKeys)
	if err != nil {
		return err
	}
	if k.distinct != nil {
		if err := k.distinct(slices.Concat(now.SignKeys, now.DecryptKey), slices.Concat(verification, ring.DecryptionKeys)); err != nil {
			return err
		}
	}
	if err := k.tam.SetKeys(ring); err != nil {
		return err
	}
	k.config, k.decryption, k.verification = now, ring.DecryptionKeys, verification
	for i, key := range verification {
		k.log.Info("signing key in use", "key", key.String(), "name", now.SignKeys[i])
	}
	return nil
}

// beside has keys that are read from now on looked at by distinct.
func (k *liveKeys) beside(distinct func(names []string, keys []*cose.Key) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.distinct = distinct
}

// current are the keys that explain recorded messages.
func (k *liveKeys) current() (decryption, verification []*cose.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.decryption, k.verification
}

// expire looks whether a key began or ceased to count, until ctx ends.
func (k *liveKeys) expire(ctx context.Context) error {
	tick := time.NewTicker(validityInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		k.lookAtValidity()
	}
}

func (k *liveKeys) lookAtValidity() {
	k.mu.Lock()
	before := k.config
	k.mu.Unlock()
	now, err := load(before.path)
	if err != nil || slices.Equal(now.SignKeys, before.SignKeys) && slices.Equal(now.DecryptKey, before.DecryptKey) {
		return // what is wrong with a file, follower says
	}
	if err := k.read(); err != nil {
		k.log.Error("keys not changed, what was read before stays in force", "err", err)
		return
	}
	k.log.Info("keys changed, because of their validity")
}
