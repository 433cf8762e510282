package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/go-teep/teep/attest/appraisal"
	cel "github.com/go-teep/teep/attest/policy"
	"github.com/go-teep/teep/internal/filewatch"
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
	follower   *filewatch.Follower
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
	c := &collateral{files: v.Collateral, owners: owners, store: store, policyFile: v.Policy}
	for _, path := range c.files {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			log.Warn("collateral file does not exist yet: no device that it would endorse can attest", "file", path)
		}
	}
	c.follower, err = filewatch.NewFollower("collateral", c.paths, c.read, log)
	return c, err
}

// follow keeps what is in force true to the files, until ctx ends.
func (c *collateral) follow(ctx context.Context) error { return c.follower.Follow(ctx) }

func (c *collateral) paths() []string {
	if c.policyFile == "" {
		return c.files
	}
	return append(slices.Clone(c.files), c.policyFile)
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
