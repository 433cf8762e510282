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
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/console"
	"github.com/go-teep/teep/tam/identity"
	"github.com/go-teep/teep/tam/metrics"
)

const (
	// tenantInterval is how often a service looks for new, changed and removed tenants.
	tenantInterval = time.Second
	// tenantPatience is the longest time between two tries to serve a tenant that is wrong, and whose configuration
	// stays as it is. It doubles from tenantInterval on: what is wrong may be in another file.
	tenantPatience = 30 * time.Second
)

// service is what runs: the service's own TAM, and the tenants that it began with or that came later.
type service struct {
	config *configuration
	store  store
	log    *slog.Logger
	// agents and operators route by path; instances come and go while they serve.
	agents, operators *routes
	// run runs the instances' tasks.
	run *errgroup.Group

	mu  sync.Mutex
	all []*instance
	// refused is what was wrong with folders that are no tenants yet, by path.
	refused map[string]refusal
	// missed are tenants whose configuration was not there at the last look.
	missed map[string]bool
}

// refusal is what was wrong with a tenant, of which configuration, so that it is said once; and when it is tried again.
type refusal struct {
	why   string
	of    fileStamp
	again time.Time
	wait  time.Duration
}

func newService(c *configuration, store store, log *slog.Logger) *service {
	s := &service{config: c, store: store, log: log, agents: &routes{}, operators: &routes{}, refused: map[string]refusal{}, missed: map[string]bool{}}
	s.route()
	return s
}

// routes are a multiplexer whose paths can be replaced while it serves.
type routes struct{ current atomic.Pointer[http.ServeMux] }

// ServeHTTP implements http.Handler.
func (r *routes) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.current.Load().ServeHTTP(w, req)
}

// route gives the instances that there are their paths. It is called with mu held, or before anybody else can.
func (s *service) route() {
	agents, operators := http.NewServeMux(), http.NewServeMux()
	for _, i := range s.all {
		i.route(agents, operators)
	}
	s.agents.current.Store(agents)
	s.operators.current.Store(operators)
}

// add routes and runs an instance.
func (s *service) add(ctx context.Context, i *instance) { s.replace(ctx, nil, i) }

// replace routes and runs an instance in place of another, which then ends; either may be nil.
func (s *service) replace(ctx context.Context, old, new *instance) {
	if new != nil {
		context.AfterFunc(ctx, new.stop)
		new.keys.beside(s.newKeys(new))
		for _, task := range new.tasks {
			new.running.Add(1)
			s.run.Go(func() error {
				defer new.running.Done()
				return s.ended(new, task(new.ctx))
			})
		}
	}
	s.mu.Lock()
	s.all = slices.DeleteFunc(slices.Clone(s.all), func(i *instance) bool { return i == old })
	if new != nil {
		s.all = append(s.all, new)
	}
	s.route()
	s.mu.Unlock()
	if old != nil {
		s.run.Go(func() error { old.drain(); return nil })
	}
}

// ended is what the end of an instance's task means to the service: that of a tenant's ends nobody else's.
func (s *service) ended(i *instance, err error) error {
	if err == nil || i.config.tenant == "" {
		return err
	}
	s.log.Error("a task of the tenant ended, and is not begun again before its configuration changes or the service is started anew", "tenant", i.config.tenant, "err", err)
	return nil
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

// beginTenants serves those that there are when the service begins. One that is wrong keeps the service and the others no more from
// beginning than from going on.
func (s *service) beginTenants(ctx context.Context) {
	if s.config.Tenants != "" {
		s.lookForTenants(ctx)
	}
}

// followTenants serves new tenants soon after their folders are there, those with a changed configuration with the new one, and
// those that were removed no longer, until ctx ends. One that is wrong keeps nobody else from being served.
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
	paths, err := s.config.tenantFiles()
	if err != nil {
		s.refuse(s.config.Tenants, fileStamp{}, "tenants are served as before", err) // and nobody is taken out of service: the folder may come back
		return
	}
	served := map[string]*instance{}
	for _, i := range s.instances() {
		if i.config.tenant != "" {
			served[i.config.path] = i
		}
	}
	for path, i := range served {
		switch {
		case slices.Contains(paths, path):
			delete(s.missed, path)
		case s.missed[path]: // some programs replace files by removing them first
			delete(s.missed, path)
			s.replace(ctx, i, nil)
			s.log.Info("tenant is not served any more: its configuration is gone", "tenant", i.config.tenant)
			if err := s.store.AddAuditEntry(ctx, audit.ActionTenantRemove, i.config.tenant, "not served any more: its configuration is gone"); err != nil {
				s.log.Error("that a tenant was removed is not in the audit log", "tenant", i.config.tenant, "err", err)
			}
		default:
			s.missed[path] = true
		}
	}
	for _, path := range paths {
		old := served[path]
		stamp := stampOf(path)
		if old != nil && stamp == old.config.read {
			continue
		}
		if r := s.refused[path]; r.of == stamp && time.Now().Before(r.again) {
			continue
		}
		i, err := s.openTenant(ctx, path, old)
		if err != nil {
			what := "tenant is not served"
			if old != nil {
				what += " so, what was read before stays in force"
			}
			s.refuse(path, stamp, what, err)
			continue
		}
		delete(s.refused, path)
		s.replace(ctx, old, i)
		s.log.Info("tenant is served", "tenant", i.config.tenant, "tam", i.config.uri(), "anew", old != nil)
	}
}

// openTenant opens a tenant beside all but the instance of its that there is already, if any.
func (s *service) openTenant(ctx context.Context, path string, old *instance) (*instance, error) {
	beside := s.others(old)
	var others []*configuration
	for _, i := range beside {
		if i.config.tenant != "" {
			others = append(others, i.config)
		}
	}
	t, err := s.config.loadTenant(path, others)
	if err != nil {
		return nil, err
	}
	i, err := openTenantInstance(ctx, s.store, t, s.log)
	if err != nil {
		return nil, err
	}
	if err := distinct(t.path, i.marks.copied(), beside); err != nil {
		i.stop()
		i.close()
		return nil, err
	}
	return i, nil
}

// refuse says once what is wrong, and what comes of it.
func (s *service) refuse(path string, of fileStamp, what string, err error) {
	before, r := s.refused[path], refusal{why: err.Error(), of: of, wait: tenantInterval}
	if before.of == r.of && before.wait > 0 {
		r.wait = min(2*before.wait, tenantPatience)
	}
	r.again = time.Now().Add(r.wait)
	s.refused[path] = r
	if before.why != r.why {
		s.log.Error(what, "file", path, "err", err)
	}
}

// openTenantInstance opens a tenant over the connections of the service's store.
func openTenantInstance(ctx context.Context, main store, t *configuration, log *slog.Logger) (*instance, error) {
	log = log.With("tenant", t.tenant)
	if _, err := os.Stat(t.unused); t.unused != "" && err == nil {
		log.Warn("what is in the tenant's SQLite file is not served, because the service's store is a database: move it there ('teep-tam migrate-store', before the service's configuration names the database), or put the file away", "file", t.unused)
	}
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

// fileStamp tells versions of a file apart.
type fileStamp struct {
	modified time.Time
	size     int64
}

// stampOf is the stamp of a file, and the zero value where there is none.
func stampOf(path string) fileStamp {
	st, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{st.ModTime(), st.Size()}
}
