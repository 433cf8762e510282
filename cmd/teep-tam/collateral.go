package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
)

// collateral keeps the verifier's endorsements and reference values true to their files.
type collateral struct {
	files []string
	store *appraisal.Store
	log   *slog.Logger
	seen  map[string]stamp
}

// stamp tells versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// openCollateral reads the files. One that does not exist yet counts as empty, because devices are
// endorsed after the TAM was set up; one that is wrong is an error.
func openCollateral(files []string, log *slog.Logger) (*collateral, error) {
	store, err := appraisal.NewStore()
	if err != nil {
		return nil, err
	}
	c := &collateral{files: files, store: store, log: log, seen: map[string]stamp{}}
	for _, path := range files {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			log.Warn("collateral file does not exist yet: no device that it would endorse can attest", "file", path)
		}
	}
	c.changed()
	return c, c.read()
}

// follow reads the files again whenever one changed, until ctx ends. Files that are wrong leave
// what counted before in force.
func (c *collateral) follow(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !c.changed() {
			continue
		}
		if err := c.read(); err != nil {
			c.log.Error("collateral not changed, what was read before stays in force", "err", err)
			continue
		}
		c.log.Info("collateral read again")
	}
}

// changed looks whether a file is another than when it last looked.
func (c *collateral) changed() bool {
	any := false
	for _, path := range c.files {
		var now stamp
		if st, err := os.Stat(path); err == nil {
			now = stamp{st.ModTime(), st.Size()}
		}
		any = any || c.seen[path] != now
		c.seen[path] = now
	}
	return any
}

func (c *collateral) read() error {
	var all []*appraisal.Collateral
	for _, path := range c.files {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		one, err := appraisal.ParseYAML(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, one)
	}
	return c.store.Replace(all...)
}
