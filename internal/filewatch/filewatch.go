// Package filewatch keeps a value that was made of files true to them: certificates, keys and lists that
// are replaced while a server runs.
//
//	certificate, err := filewatch.New([]string{"tls.crt", "tls.key"}, parse, log)
//	config.GetCertificate = func(…) (…) { return certificate.Get(), nil }
package filewatch

import (
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// interval is how old a look at the files may be.
const interval = time.Second

// Value is made of files. Its methods are safe for concurrent use.
type Value[T any] struct {
	files []string
	parse func(contents [][]byte) (T, error)
	log   *slog.Logger

	mu      sync.Mutex
	value   T
	seen    []stamp
	checked time.Time
}

// stamp tells versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// New reads the files and makes the value of their contents, which come in the same order.
func New[T any](files []string, parse func(contents [][]byte) (T, error), log *slog.Logger) (*Value[T], error) {
	v := &Value[T]{files: files, parse: parse, log: log, checked: time.Now()}
	v.seen = v.look()
	var err error
	v.value, err = v.read()
	return v, err
}

// Get returns the value, after reading the files again when one of them changed; it looks at most once
// a second. Files that are wrong, or half written, leave what counted before in force.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := time.Now(); now.Sub(v.checked) >= interval {
		v.checked = now
		v.refresh()
	}
	return v.value
}

func (v *Value[T]) refresh() {
	now := v.look()
	changed := false
	for i := range now {
		changed = changed || now[i] != v.seen[i]
	}
	if !changed {
		return
	}
	value, err := v.read()
	if err != nil {
		// Looked at again in a second: the other file of a pair may be on its way.
		v.log.Error("files not taken over, what was read before stays in force", "files", strings.Join(v.files, " "), "err", err)
		return
	}
	v.value, v.seen = value, now
	v.log.Info("files read again", "files", strings.Join(v.files, " "))
}

func (v *Value[T]) look() []stamp {
	all := make([]stamp, len(v.files))
	for i, path := range v.files {
		if st, err := os.Stat(path); err == nil {
			all[i] = stamp{st.ModTime(), st.Size()}
		}
	}
	return all
}

func (v *Value[T]) read() (none T, err error) {
	contents := make([][]byte, len(v.files))
	for i, path := range v.files {
		if contents[i], err = os.ReadFile(path); err != nil {
			return none, err
		}
	}
	return v.parse(contents)
}
