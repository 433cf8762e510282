package filewatch

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"
)

// Follower reads files again soon after they changed, whether or not somebody asks for what is in them. It is
// for what has several parts, or is made of files that other files name; [Value] is for what is made of some
// files when it is needed.
type Follower struct {
	what  string
	files func() []string
	read  func() error
	log   *slog.Logger
	seen  map[string]stamp
}

// NewFollower calls read, which takes the files over and says what is wrong with them. files are those to
// look at; it is called before each look, because what was read may name further ones. One that is not there
// is looked for. what is said of them in the log.
func NewFollower(what string, files func() []string, read func() error, log *slog.Logger) (*Follower, error) {
	f := &Follower{what: what, files: files, read: read, log: log}
	f.changed()
	if err := read(); err != nil {
		return nil, err
	}
	f.changed() // further files may have been named just now
	return f, nil
}

// Follow reads the files again whenever one of them changed, until ctx ends. Files that are wrong, or half
// written, leave in force what was read before. A nil Follower has nothing to follow.
func (f *Follower) Follow(ctx context.Context) error {
	if f == nil {
		return nil
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = f.Look() // said in the log
		}
	}
}

// Look is one look of Follow: whether a file was another, and what was wrong with reading them. It must not
// run beside another.
func (f *Follower) Look() (changed bool, err error) {
	if !f.changed() {
		return false, nil
	}
	if err := f.read(); err != nil {
		f.log.Error(f.what+" not changed, what was read before stays in force", "err", err)
		return true, err
	}
	f.log.Info(f.what + " read again")
	f.changed()
	return true, nil
}

// changed looks whether a file is another than at the last look, or there are others.
func (f *Follower) changed() bool {
	now := map[string]stamp{}
	for _, path := range slices.Sorted(slices.Values(f.files())) {
		if st, err := os.Stat(path); err == nil {
			now[path] = stamp{st.ModTime(), st.Size()}
		} else {
			now[path] = stamp{}
		}
	}
	different := len(now) != len(f.seen)
	for path, s := range now {
		before, known := f.seen[path]
		different = different || !known || before != s
	}
	f.seen = now
	return different
}
