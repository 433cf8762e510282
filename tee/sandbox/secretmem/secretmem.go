// Package secretmem keeps a process's long-lived secrets in a page of memory of their own: with
// memfd_secret, which the kernel takes out of its own reach and of every debugger's, or else locked, so
// that it is never swapped out, and left out of memory dumps.
//
//	page, err := secretmem.New()
//	key, err := page.Keep(bytes)   // bytes is zeroed
//	defer page.Close()             // key is zeroed
//
// What computes with a secret copies it for that time; such copies are the caller's to wipe.
package secretmem

import (
	"errors"
	"sync"
)

// Page holds secrets until it is closed. Safe for concurrent use; the slices it returns are the
// caller's to synchronize, and nobody writes to them but Close.
type Page struct {
	mu     sync.Mutex
	memory []byte
	used   int
	closed bool
	kind   Kind
}

// Kind says what protects a page.
type Kind string

// From best to worst.
const (
	KindSecret Kind = "memfd_secret"
	KindLocked Kind = "mlock"
	KindPlain  Kind = "none"
)

// Kind returns what protects the page.
func (p *Page) Kind() Kind { return p.kind }

// ErrFull says that a page holds no more.
var ErrFull = errors.New("secretmem: the page is full")

// Keep moves a secret into the page: it returns its place there and zeroes the original.
func (p *Page) Keep(secret []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("secretmem: the page is closed")
	}
	if len(secret) > len(p.memory)-p.used {
		return nil, ErrFull
	}
	place := p.memory[p.used : p.used+len(secret) : p.used+len(secret)]
	p.used += len(secret)
	copy(place, secret)
	clear(secret)
	return place, nil
}

// Close zeroes every secret. Their places stay readable, as zeros.
func (p *Page) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	clear(p.memory)
	return release(p.memory, p.kind)
}
