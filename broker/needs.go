package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/go-teep/teep/link"
)

// Needs remembers which app needs which component in which TEE, so that one app that leaves does not
// take from another what both use: the agent is told that a component is no longer needed when the
// last app said so (TEEP/HTTP §5.2). Safe for concurrent use.
type Needs struct {
	path string

	mu    sync.Mutex
	needs map[need]map[string]bool // apps
}

type need struct{ tee, component string }

// Bounds of what apps can make a broker remember.
const (
	maxNeeds        = 4096
	maxNeedsOfAnApp = 512
	maxNeedsFile    = 8 << 20
)

// ErrTooManyNeeds says that an app, or all together, named too many components.
var ErrTooManyNeeds = errors.New("broker: too many components are registered; unrequest some first")

// needsFile is the file.
type needsFile struct {
	Version int        `json:"version"`
	Needs   []needJSON `json:"needs"`
}

type needJSON struct {
	TEE       string   `json:"tee"`
	Component [][]byte `json:"component"`
	Apps      []string `json:"apps"`
}

// OpenNeeds reads a file that an earlier broker wrote; one that does not exist is as good as an empty
// one. Every change is written to it, whole or not at all. An empty path keeps them in memory.
func OpenNeeds(path string) (*Needs, error) {
	n := &Needs{path: path, needs: make(map[need]map[string]bool)}
	if path == "" {
		return n, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("broker: needs of apps: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() > maxNeedsFile {
		return nil, fmt.Errorf("broker: needs of apps: %s is larger than %d bytes, or cannot be looked at", path, maxNeedsFile)
	}
	var file needsFile
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil || file.Version != 1 {
		return nil, fmt.Errorf("broker: needs of apps: %s is not a file of this version (%v): remove it, and apps say again what they need", path, err)
	}
	for _, j := range file.Needs {
		k := need{j.TEE, componentKey(j.Component)}
		n.needs[k] = make(map[string]bool)
		for _, app := range j.Apps {
			n.needs[k][app] = true
		}
	}
	return n, nil
}

// add notes that an app needs a component.
func (n *Needs) add(tee string, component link.ComponentID, app string) error {
	k := need{tee, componentKey(component)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.needs[k][app] {
		return nil
	}
	all, own := 0, 0
	for _, apps := range n.needs {
		all += len(apps)
		if apps[app] {
			own++
		}
	}
	if all >= maxNeeds || own >= maxNeedsOfAnApp {
		return ErrTooManyNeeds
	}
	return n.change(k, app, true)
}

// remove notes that an app does not, and tells whether another one does.
func (n *Needs) remove(tee string, component link.ComponentID, app string) (needed bool, err error) {
	k := need{tee, componentKey(component)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.needs[k][app] {
		err = n.change(k, app, false)
	}
	return len(n.needs[k]) > 0, err
}

// change writes the file before the change counts.
func (n *Needs) change(k need, app string, needs bool) error {
	before := n.needs[k]
	after := maps.Clone(before)
	if after == nil {
		after = make(map[string]bool)
	}
	if needs {
		after[app] = true
	} else {
		delete(after, app)
	}
	if n.needs[k] = after; len(after) == 0 {
		delete(n.needs, k)
	}
	err := n.save()
	if err != nil {
		if n.needs[k] = before; len(before) == 0 {
			delete(n.needs, k)
		}
	}
	return err
}

func (n *Needs) save() error {
	if n.path == "" {
		return nil
	}
	file := needsFile{Version: 1}
	for k, apps := range n.needs {
		file.Needs = append(file.Needs, needJSON{k.tee, componentOf(k.component), slices.Sorted(maps.Keys(apps))})
	}
	data, err := json.Marshal(file)
	if err == nil {
		err = replaceFile(n.path, data)
	}
	if err != nil {
		return fmt.Errorf("broker: needs of apps: %w", err)
	}
	return nil
}

// replaceFile makes the change durable before it is seen.
func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// componentKey is a component identifier as a map key: parts with their lengths.
func componentKey(id link.ComponentID) string {
	data, err := json.Marshal(id)
	if err != nil {
		panic(err) // byte strings always encode
	}
	return string(data)
}

func componentOf(key string) [][]byte {
	var id [][]byte
	if err := json.Unmarshal([]byte(key), &id); err != nil {
		panic(err) // made by componentKey
	}
	return id
}
