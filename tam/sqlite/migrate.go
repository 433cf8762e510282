package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaInstalled is the schema from which on it is known of every device what it has installed.
const schemaInstalled = 95

// migrator knows the schemas. db needs two connections: goose keeps one, and gives migrations in Go another.
func migrator(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithGoMigrations(goose.NewGoMigration(schemaInstalled, &goose.GoFunc{RunDB: enterInstalled}, nil)))
	if err != nil {
		return nil, fmt.Errorf("sqlite: migrations: %w", err)
	}
	return p, nil
}

// migrate brings the schema of a file to the newest version. Two processes may start at the same time: the
// one that loses the race finds the work done when it looks again.
func migrate(ctx context.Context, dsn string) error {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	defer db.Close()
	for attempt := 0; ; attempt++ {
		p, err := migrator(db)
		if err != nil {
			return err
		}
		_, err = p.Up(ctx)
		if err == nil {
			return nil
		}
		if attempt == 4 || ctx.Err() != nil {
			return fmt.Errorf("sqlite: migrating the schema: %w (is the file a database of this program, and not of a newer release?)", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond << attempt):
		}
	}
}

// enterBatch is how many records are looked at in one transaction.
const enterBatch = 500

// enterInstalled enters what devices have whose records are older than [tam.Identities] and were not heard
// of since. Others may write between the transactions: a record says itself whether it was entered.
func enterInstalled(ctx context.Context, db *sql.DB) error {
	s := &Store{writer: db}
	for after := ""; ; {
		more := false
		err := s.write(ctx, func(tx *sql.Tx) error {
			rows, err := tx.QueryContext(ctx, `SELECT `+deviceColumns+` FROM devices WHERE id > $1
				AND instr(state, '"inventory":') > 0 AND instr(state, '"inventoryMark":') = 0 ORDER BY id LIMIT $2`, after, enterBatch)
			list, err := scanDevices(rows, err)
			if err != nil {
				return err
			}
			more = len(list) == enterBatch
			for i := range list {
				after = list[i].ID
				for _, has := range inService(&list[i]) {
					if _, err := tx.ExecContext(ctx, insertInstalled, after, []byte(has.Manifest.Key()), sequenceKey(has.Sequence)); err != nil {
						return wrap(err)
					}
				}
			}
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
}
