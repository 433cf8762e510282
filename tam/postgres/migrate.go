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
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaInstalled is the schema from which on it is known of every device what it has installed.
const schemaInstalled = 95

// migrator knows the schemas. Each change of one is a transaction, or each of its statements is (see stepwise.go).
func (s *Store) migrator(db *sql.DB, stepwise bool) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	enter := func(ctx context.Context, _ *sql.DB) error { return s.enterInstalled(ctx) }
	inGo := []*goose.Migration{goose.NewGoMigration(schemaInstalled, &goose.GoFunc{RunDB: enter}, nil)}
	if stepwise {
		steps, err := stepwiseMigrations(files)
		if err != nil {
			return nil, err
		}
		files, inGo = nil, append(inGo, steps...)
	}
	versions, err := newVersionTable()
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectCustom, db, files, goose.WithStore(versions), goose.WithGoMigrations(inGo...))
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	return p, nil
}

// lockTimeout bounds how long a change of the schema waits for a table. Everybody who comes after it to that table
// waits behind it: without a bound, one long transaction of somebody else (pg_dump has one) would keep
// all replicas from serving until it ends.
const lockTimeout = time.Second

// connectToMigrate opens the connections that a migrator uses. Whoever gets them closes them.
func (s *Store) connectToMigrate() *sql.DB {
	config := s.pool.pool.Config().ConnConfig
	config.Tracer = nil
	if s.pool.schema != "" {
		config.RuntimeParams["search_path"] = s.pool.searchPath()
	}
	return stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, fmt.Sprintf(`SET lock_timeout = %d`, lockTimeout.Milliseconds()))
		return err
	}))
}

const (
	// migrateAttempts is how often a migration may fail that no other replica gets on with, and lockAttempts how often it
	// may find a table in use for longer than [lockTimeout]: that is minutes.
	migrateAttempts, lockAttempts = 6, 120
	migratePause                  = 50 * time.Millisecond
)

// migrate brings the schema to the newest version. Replicas may start at the same time: one that loses
// the race finds the work done when it looks again. Replicas of the release before go on meanwhile.
func (s *Store) migrate(ctx context.Context) error {
	db := s.connectToMigrate()
	defer db.Close()
	var server string
	if err := db.QueryRowContext(ctx, `SELECT version()`).Scan(&server); err != nil {
		return fmt.Errorf("postgres: %w (is the server running?)", err)
	}
	return s.migrateOver(ctx, db, changesSchemasStepwise(server))
}

func (s *Store) migrateOver(ctx context.Context, db *sql.DB, stepwise bool) error {
	reached, failed, waited := int64(-1), 0, 0
	for {
		p, err := s.migrator(db, stepwise)
		if err != nil {
			return err
		}
		if err = s.up(ctx, db, p); err == nil {
			return nil
		}
		// As long as another replica gets on with it, this one is in no hurry.
		if now, e := p.GetDBVersion(ctx); e == nil && now > reached {
			reached, failed, waited = now, 0, 0
		}
		if locked(err) {
			waited++
		} else {
			failed++
		}
		switch {
		case failed == migrateAttempts || ctx.Err() != nil || unreachable(err):
			return fmt.Errorf("postgres: migrating the schema: %w (is the server running, and may this user create tables in the database?)", err)
		case waited == lockAttempts:
			return fmt.Errorf("postgres: migrating the schema: %w (a long transaction, such as that of pg_dump, has a table that is to be changed: start again when it is over)", err)
		}
		if err := pause(ctx, migratePause, failed); err != nil {
			return fmt.Errorf("postgres: migrating the schema: %w", err)
		}
	}
}

func (s *Store) up(ctx context.Context, db *sql.DB, p *goose.Provider) error {
	if s.pool.schema != "" {
		if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+s.pool.searchPath()); err != nil {
			return err
		}
	}
	if err := recordOnce(ctx, db); err != nil {
		return err
	}
	_, err := p.Up(ctx)
	return err
}

// versionTable is where the migrator notes which schemas a database has been brought through. Each is noted once: a
// migration that is no single transaction would else be noted by every replica that starts while it runs.
type versionTable struct{ database.StoreExtender }

const (
	versionTableName = "goose_db_version"
	uniqueVersions   = `CREATE UNIQUE INDEX IF NOT EXISTS goose_db_version_once ON ` + versionTableName + ` (version_id)`
)

func newVersionTable() (*versionTable, error) {
	s, err := database.NewStore(database.DialectPostgres, versionTableName)
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	extended, ok := s.(database.StoreExtender)
	if !ok {
		return nil, errors.New("postgres: migrations: the migrator cannot tell whether its table exists")
	}
	return &versionTable{extended}, nil
}

// CreateVersionTable implements [database.Store].
func (v *versionTable) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	if err := v.StoreExtender.CreateVersionTable(ctx, db); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, uniqueVersions)
	return err
}

// recordOnce mends the table of databases of before, in which schemas may be noted twice.
func recordOnce(ctx context.Context, db *sql.DB) error {
	var exists, once bool
	err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1),
		EXISTS (SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() AND indexname = 'goose_db_version_once')`, versionTableName).Scan(&exists, &once)
	if err != nil || !exists || once {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to undo
	if _, err := tx.ExecContext(ctx, `DELETE FROM `+versionTableName+` a WHERE EXISTS (
		SELECT 1 FROM `+versionTableName+` b WHERE b.version_id = a.version_id AND b.id < a.id)`); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, uniqueVersions); err != nil {
		return err
	}
	return tx.Commit()
}

// locked tells that somebody else had for too long what was to be changed.
func locked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
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
			list, err := readRows(rows, err, scanDevice)
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
