package seal

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
)

// Limits of one application's sealed storage, beside Config.MaxAppBytes.
const (
	MaxAppKeys     = 4096 // internal/cbor takes maps of as many pairs
	MaxAppKeyBytes = 255
)

// appData keeps all values of one application in one item.
//
//	app-data = { * key: tstr => value: bstr }
type appData struct {
	store *Store
	name  string
}

// AppData implements tee.Store.
func (s *Store) AppData(id []byte) tee.AppData {
	return &appData{store: s, name: "app/" + s.hiddenName("app", id)}
}

// Load implements tee.AppData. Storage that was never written is empty.
func (a *appData) Load() (map[string][]byte, error) {
	a.store.mu.RLock()
	defer a.store.mu.RUnlock()
	values, err := a.load()
	if err != nil {
		return nil, fmt.Errorf("seal: load application data: %w", err)
	}
	return values, nil
}

func (a *appData) load() (map[string][]byte, error) {
	values := map[string][]byte{}
	// The keys and the encoding come on top of the values.
	b, err := a.store.readItem(a.name, a.store.maxApp+MaxAppKeys*(MaxAppKeyBytes+16))
	if errors.Is(err, tee.ErrNotExist) {
		return values, nil
	}
	if err != nil {
		return nil, err
	}
	if err := cbor.Unmarshal(b, &values); err != nil {
		return nil, fmt.Errorf("%w: %w", tee.ErrCorrupt, err)
	}
	return values, nil
}

// Apply implements tee.AppData.
func (a *appData) Apply(changes map[string][]byte) error {
	if len(changes) == 0 {
		return nil
	}
	for k := range changes {
		if k == "" || len(k) > MaxAppKeyBytes || !utf8.ValidString(k) {
			return fmt.Errorf("seal: application data: a key is 1 to %d bytes of UTF-8, not %q", MaxAppKeyBytes, k)
		}
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if err := a.apply(changes); err != nil {
		return fmt.Errorf("seal: change application data: %w", err)
	}
	return nil
}

func (a *appData) apply(changes map[string][]byte) error {
	values, err := a.load()
	if err != nil {
		return err
	}
	for k, v := range changes {
		if v == nil {
			delete(values, k)
		} else {
			values[k] = v
		}
	}
	var total int64
	for _, v := range values {
		total += int64(len(v))
	}
	if total > a.store.maxApp {
		return fmt.Errorf("%w: %d bytes of application data, limit %d", tee.ErrQuota, total, a.store.maxApp)
	}
	if len(values) > MaxAppKeys {
		return fmt.Errorf("%w: %d keys of application data, limit %d", tee.ErrQuota, len(values), MaxAppKeys)
	}
	b, err := cbor.Marshal(values)
	if err != nil {
		return err
	}
	return a.store.change(a.name, b, a.store.root.Generation)
}

// Remove implements tee.AppData.
func (a *appData) Remove() error {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if a.store.root.salt(a.name) == nil {
		return nil
	}
	if err := a.store.change(a.name, nil, a.store.root.Generation); err != nil {
		return fmt.Errorf("seal: remove application data: %w", err)
	}
	return nil
}
