package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
	cel "github.com/go-teep/teep/attest/policy"
)

// collateral keeps the verifier's endorsements, reference values and appraisal policy true to their
// files.
type collateral struct {
	files  []string
	owners []appraisal.Owner // who must have signed them; empty: they are the operator's own words
	store  *appraisal.Store
	// policyFile may be empty; then policy is nil.
	policyFile string
	policy     *cel.Current
	log        *slog.Logger
	seen       map[string]stamp
}

// stamp tells versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// openCollateral reads the files. One that does not exist yet counts as empty, because devices are
// endorsed after the TAM was set up; one that is wrong is an error.
func openCollateral(v *verifierConfig, log *slog.Logger) (*collateral, error) {
	store, err := appraisal.NewStore()
	if err != nil {
		return nil, err
	}
	owners, err := v.owners()
	if err != nil {
		return nil, err
	}
	c := &collateral{files: v.Collateral, owners: owners, store: store, policyFile: v.Policy, log: log, seen: map[string]stamp{}}
	for _, path := range c.files {
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
			c.log.Error("collateral and appraisal policy not changed, what was read before stays in force", "err", err)
			continue
		}
		c.log.Info("collateral read again", "appraisal-policy", c.policyFile != "")
	}
}

// changed looks whether a file is another than when it last looked.
func (c *collateral) changed() bool {
	any := false
	for _, path := range append(slices.Clone(c.files), c.policyFile) {
		var now stamp
		if st, err := os.Stat(path); err == nil {
			now = stamp{st.ModTime(), st.Size()}
		}
		any = any || c.seen[path] != now
		c.seen[path] = now
	}
	return any
}

// read replaces what is in force by what the files say, if all of them can be used.
func (c *collateral) read() error {
	var rules *cel.Policy
	if c.policyFile != "" {
		var err error
		if rules, err = readAppraisalPolicy(c.policyFile); err != nil {
			return err
		}
	}
	var all []*appraisal.Collateral
	for _, path := range c.files {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		one, err := c.parse(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, one)
	}
	if err := c.store.Replace(all...); err != nil {
		return err
	}
	switch {
	case rules == nil:
	case c.policy == nil:
		c.policy = cel.NewCurrent(rules)
	default:
		c.policy.Replace(rules)
	}
	return nil
}

// parse reads one file: signed by one of the owners, where there are any.
func (c *collateral) parse(data []byte) (*appraisal.Collateral, error) {
	if len(c.owners) > 0 {
		return appraisal.ParseSigned(data, c.owners...)
	}
	return appraisal.ParseYAML(data)
}
