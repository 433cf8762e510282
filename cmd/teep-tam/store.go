package main

import (
	"context"
	"io"
	"strings"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/sqlite"
)

// store is what both back ends are.
type store interface {
	tam.Store
	tam.Assigning
	tam.Overview
	tam.Idempotency
	tam.Feed
	tam.Webhooks
	tam.Recordings
	audit.Log
	audit.Recorder
	io.Closer
}

// isPostgres tells the URL of a database from the path of a file.
func isPostgres(name string) bool {
	return strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://")
}

// openStore opens what "store" in the configuration names.
func openStore(ctx context.Context, c *configuration) (store, error) {
	if isPostgres(c.Store) {
		return postgres.Open(ctx, c.Store, postgres.Options{InsecurePlaintext: c.InsecureStore, Schema: c.schema()})
	}
	return sqlite.Open(ctx, c.Store, sqlite.Options{})
}
