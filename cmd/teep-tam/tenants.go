package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/postgres"
)

// A tenant is a TAM of its own within the service: its keys, publishers, devices, policies and operators,
// its paths below /t/NAME, and its store. It lives in a folder of the tenants' folder, whose name is its
// own, with a configuration file tam.yaml that leads back to the service's with tenant-of.

// tenantFile is the configuration of a tenant in its folder.
const tenantFile = "tam.yaml"

// tenantStore and tenantBlobs are where a new tenant keeps what it has, in its folder.
const (
	tenantStore = "tam.db"
	tenantBlobs = "envelopes"
)

// tenantPath is before the names of tenants in paths.
const tenantPath = "/t/"

// tenantName fits into paths, schemas and labels.
var tenantName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// tenantPrefix is what the paths of a tenant begin with; "" for the service's own TAM.
func (c *configuration) prefix() string {
	if c.tenant == "" {
		return ""
	}
	return tenantPath + c.tenant
}

// schema is where a tenant's tables are in a PostgreSQL database.
func (c *configuration) schema() string {
	if c.tenant == "" {
		return ""
	}
	return schemaOf(c.tenant)
}

// schemaOf is the schema of the tenant of that name.
func schemaOf(tenant string) string { return "tenant_" + strings.ReplaceAll(tenant, "-", "_") }

// unusedSchema refuses the name of a tenant that there was: its devices would be the new one's, and its operators' tokens would count.
func (c *configuration) unusedSchema(ctx context.Context, name string) error {
	if !isPostgres(c.Store) {
		return nil
	}
	db, err := postgres.Open(ctx, c.Store, postgres.Options{InsecurePlaintext: c.InsecureStore})
	if err != nil {
		return err
	}
	defer db.Close()
	used, err := db.HasSchema(ctx, schemaOf(name))
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("the database has the schema %[1]s of an earlier tenant of that name, with its devices and its operators' tokens: choose another name, drop the schema (DROP SCHEMA %[1]s CASCADE), or, to go on with it, put back its folder from your copy",
			schemaOf(name))
	}
	return nil
}

// joinService fills in what a tenant has from the service that it is a tenant of.
func (c *configuration) joinService() error {
	main, err := load(c.TenantOf)
	if err != nil {
		return err
	}
	folder, err := filepath.Abs(filepath.Dir(c.path))
	if err != nil {
		return err
	}
	c.tenant = filepath.Base(folder)
	home, err := filepath.Abs(main.Tenants)
	own := defaults()
	switch {
	case err != nil:
		return err
	case main.TenantOf != "":
		return fmt.Errorf("%s: tenant-of names %s, which is a tenant itself", c.path, c.TenantOf)
	case main.Tenants == "" || filepath.Dir(folder) != home:
		return fmt.Errorf("%s: the folder is not one of those of %s: move it into the folder that its key tenants names", c.path, c.TenantOf)
	case !tenantName.MatchString(c.tenant):
		return fmt.Errorf("%s: a tenant cannot be called %q: rename the folder to lower-case letters, digits and hyphens, beginning with a letter", c.path, c.tenant)
	case c.TEEP.Listen != own.TEEP.Listen, c.TEEP.Path != own.TEEP.Path, c.TEEP.TLS != own.TEEP.TLS, c.API.Listen != own.API.Listen,
		c.API.TLS != own.API.TLS, c.API.InsecureHTTP, c.Metrics != own.Metrics, c.Console != own.Console, c.Tenants != "", c.ACME.set(), c.Tracing.set(),
		!c.Payloads.elsewhere(own.Payloads):
		return fmt.Errorf("%s: a tenant has no listen, path, tls, acme, metrics, tracing, console, payloads and tenants of its own: they are those of %s", c.path, c.TenantOf)
	}
	uri, limits := c.TEEP.URI, c.TEEP.Limits
	if limits.Connections != 0 || len(limits.TrustedProxies) > 0 {
		return fmt.Errorf("%s: a tenant has no teep.limits.connections and teep.limits.trusted-proxies of its own: they are those of %s, which listens", c.path, c.TenantOf)
	}
	c.TEEP, c.API.Listen, c.API.TLS, c.API.InsecureHTTP = main.TEEP, main.API.Listen, main.API.TLS, main.API.InsecureHTTP
	if limits.set() {
		limits.Connections, limits.TrustedProxies = main.TEEP.Limits.Connections, main.TEEP.Limits.TrustedProxies
		c.TEEP.Limits = limits
	}
	c.Console, c.API.Timeout = main.Console, cmp.Or(c.API.Timeout, main.API.Timeout)
	space := c.Payloads.MaxTotalBytes
	if c.Payloads = main.Payloads; space != 0 {
		c.Payloads.MaxTotalBytes = space
	}
	if c.Payloads.Path != "" {
		c.Payloads.Path = c.prefix() + main.Payloads.Path
		if main.Payloads.URI != "" {
			c.Payloads.URI = strings.TrimSuffix(strings.TrimSuffix(main.Payloads.URI, "/"), main.Payloads.Path) + c.Payloads.Path
		}
	}
	c.TEEP.Path = c.prefix() + main.TEEP.Path
	if c.TEEP.URI = uri; uri == "" && main.TEEP.URI != "" {
		c.TEEP.URI = strings.TrimSuffix(main.TEEP.URI, main.TEEP.Path) + c.TEEP.Path
	}
	if c.KeySecret == (keyfile.Source{}) {
		c.KeySecret = main.KeySecret
	}
	if isPostgres(main.Store) {
		if !isPostgres(c.Store) {
			c.unused = c.Store
		}
		c.Store, c.InsecureStore = main.Store, main.InsecureStore
	} else if isPostgres(c.Store) {
		return fmt.Errorf("%s: store is a database, and that of %s is a file: move the service to the database first", c.path, c.TenantOf)
	}
	return nil
}

// loadTenants reads the configurations of all tenants of a service, by name.
func (c *configuration) loadTenants() ([]*configuration, error) {
	if c.Tenants == "" {
		return nil, nil
	}
	paths, err := c.tenantFiles()
	if err != nil {
		return nil, err
	}
	var all []*configuration
	for _, path := range paths {
		t, err := c.loadTenant(path, all)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// loadTenant reads the configuration of one tenant beside others.
func (c *configuration) loadTenant(path string, others []*configuration) (*configuration, error) {
	t, err := load(path)
	if err != nil {
		return nil, err
	}
	if t.tenant == "" {
		return nil, fmt.Errorf("%s: tenant-of is missing: it leads to the service's configuration", path)
	}
	t.olderPeers, t.traces = c.olderPeers, c.traces.Tenant(t.tenant)
	return t, c.apart(t, others)
}

// apart refuses tenants that share what has to be their own.
func (c *configuration) apart(t *configuration, others []*configuration) error {
	for _, o := range append(slices.Clone(others), c) {
		name := o.tenant
		if name == "" {
			name = "the service itself"
		}
		for _, key := range t.keyFiles() {
			if slices.Contains(o.keyFiles(), key) {
				return fmt.Errorf("%s: the key %s is that of %s too: tenants have keys of their own", t.path, key, name)
			}
		}
		if !isPostgres(t.Store) && t.Store == o.Store {
			return fmt.Errorf("%s: the store %s is that of %s too: tenants have stores of their own", t.path, t.Store, name)
		}
		// What one of them needs no longer is removed.
		for _, place := range t.blobPlaces() {
			if slices.Contains(o.blobPlaces(), place) {
				return fmt.Errorf("%s: blobs is that of %s too, or within it: tenants have folders, or prefixes in a bucket, of their own", t.path, name)
			}
		}
	}
	return nil
}

// keyFiles are those of all private keys.
func (c *configuration) keyFiles() []string {
	all := slices.Concat(c.SignKeys, c.DecryptKey, []string{c.Verifier.Key, c.Distribution.Key, c.SelfAttestation.Key, c.SelfAttestation.VerifierKey})
	return slices.DeleteFunc(all, func(path string) bool { return path == "" })
}

// openTenantStore opens a tenant's store: in a database over the connections of the service's.
func openTenantStore(ctx context.Context, main store, c *configuration) (store, error) {
	if db, ok := main.(*postgres.Store); ok {
		return db.Tenant(ctx, c.schema())
	}
	return openStore(ctx, c)
}

func tenantCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "tenant",
		Short: "Further TAMs in the same service, apart from each other",
		Long: `A tenant has keys, publishers, devices, policies and operators of its own, and paths below /t/NAME. Every command
that takes --config works on a tenant with the configuration in its folder.`,
		Example: `  teep-tam tenant create --config tam/tam.yaml acme
  teep-tam token create --config tam/tenants/acme/tam.yaml --name ops --scope administrator`,
	}
	c.AddCommand(tenantCreate(), tenantList())
	return c
}

func tenantCreate() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "create --config FILE NAME",
		Short: "Make keys and a configuration for a new tenant",
		Long: `Makes the tenant's folder with keys and a configuration. The service has to be configured with the folder of its
tenants (tenants: tenants) when it starts, and serves a new one within a second or two.`,
		Example: `  teep-tam tenant create --config tam/tam.yaml acme`,
		Args:    program.ExactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			dir, err := c.createTenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is ready. Next: teep-tam token create --config %s\n",
				dir, filepath.Join(dir, tenantFile))
			return err
		},
	}
	return configFlag(c, &path)
}

func (c *configuration) createTenant(ctx context.Context, name string) (dir string, err error) {
	switch {
	case c.Tenants == "":
		return "", fmt.Errorf("%s: the service has no tenants: add the line 'tenants: tenants' first", c.path)
	case c.tenant != "":
		return "", fmt.Errorf("%s is a tenant itself: name the service's configuration", c.path)
	case !tenantName.MatchString(name):
		return "", &program.Usage{Err: fmt.Errorf("%q cannot be a tenant's name: use lower-case letters, digits and hyphens, beginning with a letter, at most 40", name)}
	}
	dir = filepath.Join(c.Tenants, name)
	for _, file := range []string{"keys", tenantFile, defaultRing, tenantStore, tenantBlobs} {
		if _, err := os.Lstat(filepath.Join(dir, file)); !errors.Is(err, fs.ErrNotExist) {
			return "", errors.Join(err, fmt.Errorf("%s has a %s already: choose another name, or remove the folder", dir, file))
		}
	}
	if err := c.unusedSchema(ctx, name); err != nil {
		return "", err
	}
	if err := recordAudit(ctx, c, audit.ActionTenantCreate, name, ""); err != nil {
		return "", err
	}
	if err := newKeyFiles(dir); err != nil {
		return "", err
	}
	back, err := filepath.Rel(dir, c.path)
	if err != nil {
		return "", err
	}
	store := "store: " + tenantStore + "\n"
	if isPostgres(c.Store) {
		store = "" // a schema of the service's database
	}
	text := fmt.Sprintf(`# Configuration of a tenant. Paths are relative to this file.
tenant-of: %s
name: %q
%sblobs: %s
%s`, back, name, store, tenantBlobs, keyLines("attested"))
	return dir, writeNew(filepath.Join(dir, tenantFile), []byte(text), 0o600)
}

func tenantList() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "list --config FILE", Short: "List the tenants and where agents reach them", Example: "  teep-tam tenant list --config tam/tam.yaml",
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			all, err := c.loadTenants()
			if err != nil {
				return err
			}
			var errs []error
			for _, t := range all {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", t.tenant, t.uri())
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	return configFlag(c, &path)
}
