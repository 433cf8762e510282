package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaInstalled is the schema from which on it is known of every device what it has installed.
const schemaInstalled = 95

// migrator knows the schemas.
func (s *Store) migrator(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	enter := func(ctx context.Context, _ *sql.DB) error { return s.enterInstalled(ctx) }
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithGoMigrations(goose.NewGoMigration(schemaInstalled, &goose.GoFunc{RunDB: enter}, nil)))
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	return p, nil
}

// connectToMigrate opens the connections that a migrator uses. Whoever gets them closes them.
func (s *Store) connectToMigrate() *sql.DB {
	config := s.pool.pool.Config().ConnConfig
	config.Tracer = nil
	if s.pool.schema != "" {
		config.RuntimeParams["search_path"] = s.pool.searchPath()
	}
	return stdlib.OpenDB(*config)
}

// migrate brings the schema to the newest version. Replicas may start at the same time: one that loses
// the race finds the work done when it looks again. Replicas of the release before go on meanwhile.
func (s *Store) migrate(ctx context.Context) error {
	db := s.connectToMigrate()
	defer db.Close()
	for attempt := 0; ; attempt++ {
		p, err := s.migrator(db)
		if err != nil {
			return err
		}
		if s.pool.schema != "" {
			_, err = db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+s.pool.searchPath())
		}
		if err == nil {
			if _, err = p.Up(ctx); err == nil {
				return nil
			}
		}
		if attempt == 5 || ctx.Err() != nil || unreachable(err) {
			return fmt.Errorf("postgres: migrating the schema: %w (is the server running, and may this user create tables in the database?)", err)
		}
		if err := pause(ctx, 50*time.Millisecond, attempt); err != nil {
			return fmt.Errorf("postgres: migrating the schema: %w", err)
		}
	}
}

func unreachable(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect)
}

// enterBatch is how many records are looked at in one transaction.
const enterBatch = 500

// enterInstalled enters what devices have whose records are older than [tam.Identities] and were not heard
// of since. Others write meanwhile: a record is locked while it is entered, and says itself whether it was.
func (s *Store) enterInstalled(ctx context.Context) error {
	for after := ""; ; {
		last, more := after, false
		err := s.write(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id > $1
				AND state LIKE '%"inventory":%' AND state NOT LIKE '%"inventoryMark":%' ORDER BY id LIMIT $2 FOR UPDATE`, after, enterBatch)
			list, err := scanDevices(rows, err)
			if err != nil {
				return err
			}
			more = len(list) == enterBatch
			batch := &pgx.Batch{}
			for i := range list {
				last = list[i].ID
				for _, has := range inService(&list[i]) {
					batch.Queue(insertInstalled, last, []byte(has.Manifest.Key()), sequenceKey(has.Sequence))
				}
			}
			if batch.Len() == 0 {
				return nil
			}
			return wrap(tx.SendBatch(ctx, batch).Close())
		})
		if err != nil || !more {
			return err
		}
		after = last
	}
}
