package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam/archive"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/sqlite"
)

// errPostgresBackup says who backs up the other kind of store.
var errPostgresBackup = errors.New("the store is a PostgreSQL database, which has its own tools: pg_dump, or continuous archiving; back up the envelopes folder after the database")

func backupCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "backup --config FILE DIR",
		Short: "Back up the SQLite store, the envelopes and the payloads while the TAM works",
		Long: `Writes the store, as it is at one moment, the envelopes and the payloads to the new folder DIR. The TAM may go on working.
Keys and configuration are not in it: keep a copy of their folder, once. The backup is a secret: it holds the keys of
the TAM's tokens.`,
		Example: `  teep-tam backup --config tam/tam.yaml /backups/2026-03-01`,
		Args:    program.ExactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			s, err := backup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %v\n", args[0], s)
			return err
		},
	}
	return configFlag(c, &path)
}

func backup(ctx context.Context, c *configuration, dir string) (*archive.Summary, error) {
	if isPostgres(c.Store) {
		return nil, errPostgresBackup
	}
	store, err := sqlite.Open(ctx, c.Store, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	blobs, err := openBlobs(c)
	if err != nil {
		return nil, err
	}
	defer blobs.close()
	payloads := blobs.payloads
	if isS3(c.Blobs) {
		payloads = nil // those in a bucket are its service's to keep
	}
	return archive.Backup(ctx, store, blobs.envelopes, payloads, dir)
}

func restoreCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "restore --config FILE DIR",
		Short: "Make the store and the envelopes of a backup",
		Long: `Checks the backup in DIR, envelope by envelope, payload by payload and entry by entry of the audit log, and makes the
store, the envelopes and the payloads that the configuration names. Neither may exist. Tokens that the TAM sent before are refused from then on;
devices ask again by themselves.`,
		Example: `  teep-tam restore --config tam/tam.yaml /backups/2026-03-01`,
		Args:    program.ExactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			if isPostgres(c.Store) {
				return errPostgresBackup
			}
			if isS3(c.Blobs) {
				return fmt.Errorf("%s: blobs is a bucket: restore into a folder (blobs: envelopes), copy its files below envelopes/ in the bucket, and write the URL back", path)
			}
			s, err := archive.Restore(cmd.Context(), args[0], c.Store, c.Blobs, filepath.Join(c.Blobs, payloadFolder), time.Now(), rand.Reader)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored: %v\n", s)
			return err
		},
	}
	return configFlag(c, &path)
}

func migrateStoreCommand() *cobra.Command {
	var path, to string
	c := &cobra.Command{
		Use:   "migrate-store --config FILE --to URL",
		Short: "Move the SQLite store to a new PostgreSQL database",
		Long: `Copies everything of the SQLite store into the database, in one transaction, and verifies it; of a service with tenants
those of the tenants first, each into a schema of its own. Stop the TAM before: what it does meanwhile would be lost.
Afterwards write the URL into the service's configuration as store, and start the TAM, or several. SQLite files stay as
they are, and so do envelopes and payloads: all replicas need their folder.

A password belongs into PGPASSWORD or a passfile, so that no list of processes shows it.`,
		Example: `  teep-tam migrate-store --config tam/tam.yaml --to 'postgres://tam@db.example/tam?sslmode=verify-full'`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			return migrateStores(cmd.Context(), c, to, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&to, "to", "", "URL of the database")
	if err := c.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag was added a line above
	}
	return configFlag(c, &path)
}

// migrateStores moves the stores of a service's tenants and then its own, or that of the one tenant that c is, and
// says to out what was moved.
func migrateStores(ctx context.Context, c *configuration, url string, out io.Writer) error {
	tenants, err := c.loadTenants()
	if err != nil {
		return err
	}
	for _, of := range append(tenants, c) {
		counts, err := migrateStore(ctx, of, url)
		if err != nil && len(tenants) > 0 {
			return fmt.Errorf("%s: %w; what was moved before it stays in the database: drop that, make it anew, and move all again", of.path, err)
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", of.path, of.Store); err != nil {
			return err
		}
		for _, table := range slices.Sorted(maps.Keys(counts)) {
			if _, err := fmt.Fprintf(out, "%8d %s\n", counts[table], table); err != nil {
				return err
			}
		}
	}
	if c.tenant != "" {
		_, err = fmt.Fprintf(out, "Moved this tenant. Next: move the other tenants and the service (%s), each with its own configuration, before the service is started on the database.\n", c.TenantOf)
		return err
	}
	_, err = fmt.Fprintf(out, "Moved. Next: write the URL into %s as store, and start the TAM.\n", c.path)
	return err
}

func migrateStore(ctx context.Context, c *configuration, url string) (map[string]int64, error) {
	if isPostgres(c.Store) {
		return nil, errors.New("the configuration names a PostgreSQL database already: there is no SQLite store to move")
	}
	from, err := sqlite.Open(ctx, c.Store, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := postgres.Open(ctx, url, postgres.Options{InsecurePlaintext: c.InsecureStore, Schema: c.schema()})
	if err != nil {
		return nil, err
	}
	defer to.Close()
	return archive.Move(ctx, from, to)
}
