package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/tam/console"
	"github.com/go-teep/teep/tam/identity"
	"github.com/go-teep/teep/tam/metrics"
)

// tenantInterval is how often a service looks for new tenants.
const tenantInterval = time.Second

// service is what runs: the service's own TAM, and the tenants that it began with or that came later.
type service struct {
	config *configuration
	store  store
	log    *slog.Logger
	// agents and operators route by path; instances are added while they serve.
	agents, operators *http.ServeMux
	// run runs an instance's tasks.
	run *errgroup.Group

	mu  sync.Mutex
	all []*instance
	// refused is what was wrong with folders that are no tenants yet, by path, so that it is said once.
	refused map[string]string
}

// add routes and runs an instance.
func (s *service) add(ctx context.Context, i *instance) {
	i.route(s.agents, s.operators)
	for _, task := range i.tasks {
		s.run.Go(func() error { return task(ctx) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, i)
}

// instances are those that are served now.
func (s *service) instances() []*instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// certificates are those that recognize operators by their client certificates.
func (s *service) certificates() (all []*identity.Certificates) {
	for _, i := range s.instances() {
		if i.who.certificates != nil {
			all = append(all, i.who.certificates)
		}
	}
	return all
}

// tenantMetrics are the measurements of the tenants.
func (s *service) tenantMetrics() (all []*metrics.Metrics) {
	for _, i := range s.instances() {
		if i.config.tenant != "" {
			all = append(all, i.measured)
		}
	}
	return all
}

// followTenants serves new tenants soon after their folders are there, until ctx ends. One that is wrong keeps
// nobody else from being served.
func (s *service) followTenants(ctx context.Context) error {
	if s.config.Tenants == "" {
		return nil
	}
	tick := time.NewTicker(tenantInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.lookForTenants(ctx)
		}
	}
}

func (s *service) lookForTenants(ctx context.Context) {
	served := map[string]bool{}
	var configurations []*configuration
	for _, i := range s.instances() {
		served[i.config.tenant] = true
		if i.config.tenant != "" {
			configurations = append(configurations, i.config)
		}
	}
	paths, err := s.config.tenantFiles()
	if err != nil {
		s.refuse(s.config.Tenants, err)
		return
	}
	for _, path := range paths {
		if served[filepath.Base(filepath.Dir(path))] {
			continue
		}
		i, err := s.openTenant(ctx, path, configurations)
		if err != nil {
			s.refuse(path, err)
			continue
		}
		configurations = append(configurations, i.config)
		s.add(ctx, i)
		s.log.Info("tenant is served", "tenant", i.config.tenant, "tam", i.config.uri())
	}
}

func (s *service) openTenant(ctx context.Context, path string, others []*configuration) (*instance, error) {
	t, err := s.config.loadTenant(path, others)
	if err != nil {
		return nil, err
	}
	return openTenantInstance(ctx, s.store, t, s.log)
}

// refuse says once what is wrong.
func (s *service) refuse(path string, err error) {
	if s.refused[path] == err.Error() {
		return
	}
	if s.refused == nil {
		s.refused = map[string]string{}
	}
	s.refused[path] = err.Error()
	s.log.Error("tenant is not served", "file", path, "err", err)
}

// openTenantInstance opens a tenant over the connections of the service's store.
func openTenantInstance(ctx context.Context, main store, t *configuration, log *slog.Logger) (*instance, error) {
	log = log.With("tenant", t.tenant)
	store, err := openTenantStore(ctx, main, t)
	if err != nil {
		return nil, fmt.Errorf("tenant %s: %w", t.tenant, err)
	}
	i, err := openInstance(ctx, t, store, metrics.NewTenant(t.tenant, store, log, time.Now), log)
	if err != nil {
		store.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("tenant %s: %w", t.tenant, err)
	}
	i.closers = append(i.closers, store)
	return i, nil
}

// tenantFiles lists the configurations in the tenants' folders.
func (c *configuration) tenantFiles() (all []string, err error) {
	entries, err := os.ReadDir(c.Tenants)
	if err != nil {
		return nil, fmt.Errorf("tenants: %w ('teep-tam tenant create' makes the folder)", err)
	}
	for _, e := range entries {
		path := filepath.Join(c.Tenants, e.Name(), tenantFile)
		if _, err := os.Stat(path); err == nil && e.IsDir() {
			all = append(all, path) // other folders do not say that they are tenants
		}
	}
	return all, nil
}

// switchable are the consoles of the service that one can go to; nil if there is one only.
func (c *configuration) switchable() *console.Tenants {
	switch {
	case c.tenant != "":
		return &console.Tenants{Path: tenantPath}
	case c.Tenants == "":
		return nil
	}
	return &console.Tenants{Path: tenantPath, Names: func() (names []string, err error) {
		paths, err := c.tenantFiles()
		for _, path := range paths {
			names = append(names, filepath.Base(filepath.Dir(path)))
		}
		return names, err
	}}
}
