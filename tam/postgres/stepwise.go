package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

// PostgreSQL undoes the changes of a schema with their transaction. CockroachDB commits each by itself, or refuses
// some together (an index on a column that the same transaction added), and so does YugabyteDB unless it is told
// otherwise. There, a migration is one statement after the other, and one that was interrupted begins again: a
// statement whose work is done is none the second time.

// changesSchemasStepwise tells such a server by what it says of itself.
func changesSchemasStepwise(version string) bool {
	return strings.HasPrefix(version, "CockroachDB") || strings.Contains(version, "-YB-")
}

// stepwiseMigrations are the migrations in files, each of their statements a transaction of its own.
func stepwiseMigrations(files fs.FS) ([]*goose.Migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	var list []*goose.Migration
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("postgres: migrations: %w", err)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("postgres: %w", err)
		}
		steps := upStatements(string(text))
		run := func(ctx context.Context, db *sql.DB) error { return takeSteps(ctx, db, steps) }
		list = append(list, goose.NewGoMigration(version, &goose.GoFunc{RunDB: run}, nil))
	}
	return list, nil
}

// upStatements are the statements of a migration's way up. No text in one of ours has a semicolon or two hyphens in it; a
// test compares what they make with what the whole makes.
func upStatements(migration string) (list []string) {
	up, _, _ := strings.Cut(migration, "-- +goose Down")
	var code strings.Builder
	for line := range strings.Lines(up) {
		line, _, _ = strings.Cut(line, "--")
		code.WriteString(line + "\n")
	}
	for statement := range strings.SplitSeq(code.String(), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			list = append(list, statement)
		}
	}
	return list
}

func takeSteps(ctx context.Context, db *sql.DB, steps []string) error {
	for _, step := range steps {
		err := retry(ctx, func() error { _, err := db.ExecContext(ctx, step); return err })
		if err != nil && !done(step, err) {
			return err
		}
	}
	return nil
}

// done tells from the error of a statement that its work was done before: by this process, by one that crashed, or
// by another replica.
func done(step string, err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "42P07", "42701", "42710": // duplicate table or index, column, object
		return true
	case "23505": // a row that is there; that an index would not be unique is something else
		return strings.HasPrefix(step, "INSERT")
	}
	return false
}
