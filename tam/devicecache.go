package tam

import (
	"context"
	"sync"

	"github.com/go-teep/teep/cose"
)

// deviceCache keeps the records of devices that were heard from a moment ago, with their parsed key:
// a session is several messages.
//
// It is safe although others write to the store, because nothing that is read from it has an effect
// by itself: whatever a message changes, or is told in an Update, is committed against the revision
// that was read. A record that is out of date fails there, is read anew, and decided upon anew.
type deviceCache struct {
	store Devices
	mu    sync.Mutex
	data  map[[32]byte]cachedDevice
}

type cachedDevice struct {
	device *Device // never handed out, only clones of it
	key    *cose.Key
}

// deviceCacheEntries bounds the cache; a record takes some kilobytes.
const deviceCacheEntries = 4096

func newDeviceCache(s Devices) *deviceCache {
	return &deviceCache{store: s, data: make(map[[32]byte]cachedDevice)}
}

// get returns a copy of a device's record, perhaps an old one, and its key.
func (c *deviceCache) get(ctx context.Context, thumbprint []byte) (*Device, *cose.Key, error) {
	c.mu.Lock()
	cached, ok := c.data[[32]byte(thumbprint)]
	c.mu.Unlock()
	if ok {
		return cached.device.clone(), cached.key, nil
	}
	return c.refresh(ctx, thumbprint)
}

// refresh returns a copy of the newest record.
func (c *deviceCache) refresh(ctx context.Context, thumbprint []byte) (*Device, *cose.Key, error) {
	d, err := c.store.DeviceByKey(ctx, thumbprint)
	if err != nil {
		return nil, nil, err
	}
	key, err := cose.ParseKey(d.AgentKey)
	if err != nil {
		return nil, nil, err
	}
	c.put(d.clone(), key)
	return d, key, nil
}

// put remembers a record that was just read or written, and keeps it: the caller changes it no more.
func (c *deviceCache) put(d *Device, key *cose.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.data) >= deviceCacheEntries {
		for k := range c.data { // any will do
			delete(c.data, k)
			break
		}
	}
	c.data[[32]byte(d.KeyThumbprint)] = cachedDevice{d, key}
}

// forget drops a record that somebody else changed; nil is none.
func (c *deviceCache) forget(d *Device) {
	if d == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.data, [32]byte(d.KeyThumbprint))
}
