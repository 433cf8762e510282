package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/tam"
	fleet "github.com/go-teep/teep/tam/policy"
)

// fleetPolicy is what tam.yaml says, below policy, about devices as a whole.
type fleetPolicy struct {
	// AllowList is a file that names devices which are accepted without asking.
	AllowList string `yaml:"allow-list"`
	// Reenrolment is manual or automatic.
	Reenrolment string `yaml:"re-enrolment"`
	// RolloutApproval has a second person approve each rollout.
	RolloutApproval bool `yaml:"rollout-approval"`
	// RolloutInterval is how often rollouts are looked at.
	RolloutInterval time.Duration `yaml:"rollout-interval"`
}

const defaultRolloutInterval = 5 * time.Second

func (f *fleetPolicy) apply(p *tam.Policy) error {
	switch f.Reenrolment {
	case "", "manual":
		p.Reenrolment = tam.ReenrolManually
	case "automatic":
		p.Reenrolment = tam.ReenrolAutomatically
	default:
		return fmt.Errorf("policy.re-enrolment is %q: write manual or automatic", f.Reenrolment)
	}
	if f.AllowList != "" && p.Admission == tam.AdmitAttested {
		return fmt.Errorf("policy.allow-list has no effect, because policy.admission accepts every attested device: write admission: manual")
	}
	if f.RolloutInterval < 0 {
		return fmt.Errorf("policy.rollout-interval is negative: leave it out for %v", defaultRolloutInterval)
	}
	return nil
}

// allowList keeps a list true to its file.
type allowList struct {
	path     string
	list     atomic.Pointer[fleet.AllowList]
	follower *filewatch.Follower // nil: there is no list
}

// openAllowList reads the list; with no path there is none.
func openAllowList(path string, log *slog.Logger) (*allowList, error) {
	a := &allowList{path: path}
	if path == "" {
		return a, nil
	}
	var err error
	a.follower, err = filewatch.NewFollower("allow-list", func() []string { return []string{path} }, a.read, log)
	return a, err
}

// current is the list in force, or nil.
func (a *allowList) current() *fleet.AllowList { return a.list.Load() }

func (a *allowList) read() error {
	data, err := os.ReadFile(a.path)
	if err != nil {
		return fmt.Errorf("policy.allow-list: %w", err)
	}
	list, err := fleet.ParseAllowList(data)
	if err != nil {
		return fmt.Errorf("%s: %w", a.path, err)
	}
	a.list.Store(list)
	return nil
}

// follow keeps the list true to its file, until ctx ends.
func (a *allowList) follow(ctx context.Context) error { return a.follower.Follow(ctx) }

// advance opens the stages of rollouts that are due, until ctx ends. Every replica does it.
func (f *fleetPolicy) advance(t *tam.TAM, log *slog.Logger) func(context.Context) error {
	interval := f.RolloutInterval
	if interval == 0 {
		interval = defaultRolloutInterval
	}
	return func(ctx context.Context) error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if err := t.AdvanceRollouts(ctx); err != nil && ctx.Err() == nil {
				log.Error("rollouts", "err", err)
			}
		}
	}
}
