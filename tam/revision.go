package tam

import (
	"context"
	"runtime"
	"sync"
)

// sharedRevision reads the catalogue's revision once for all who ask at the same time. Everybody gets a
// value that was read after they asked, so that what was published before counts.
type sharedRevision struct {
	store Catalogue
	mu    sync.Mutex
	next  *revisionRead // not begun yet
}

type revisionRead struct {
	done     chan struct{}
	revision int64
	err      error
}

func (s *sharedRevision) read(ctx context.Context) (int64, error) {
	s.mu.Lock()
	r := s.next
	if r != nil {
		s.mu.Unlock()
		select {
		case <-r.done:
			return r.revision, r.err
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	r = &revisionRead{done: make(chan struct{})}
	s.next = r
	s.mu.Unlock()
	runtime.Gosched() // whoever is about to ask may join
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	// Others wait for this: that one caller went away must not fail them.
	r.revision, r.err = s.store.CatalogueRevision(context.WithoutCancel(ctx))
	close(r.done)
	return r.revision, r.err
}
