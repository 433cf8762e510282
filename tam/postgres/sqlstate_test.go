package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-teep/teep/tam"
)

// TestOutages: what may pass by itself is told from what waiting does not mend.
func TestOutages(t *testing.T) {
	state := func(code string) error { return fmt.Errorf("in a call: %w", &pgconn.PgError{Code: code}) }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"none":                {nil, false},
		"connection broke":    {io.ErrUnexpectedEOF, true},
		"no server":           {&pgconn.ConnectError{}, true},
		"deadline":            {context.DeadlineExceeded, true},
		"the caller left":     {context.Canceled, false},
		"connection failure":  {state("08006"), true},
		"serialization":       {state("40001"), true},
		"disk full":           {state("53100"), true},
		"too many":            {state("53300"), true},
		"shutdown":            {state("57P01"), true},
		"starting":            {state("57P03"), true},
		"input and output":    {state("58030"), true},
		"standby":             {state("25006"), true},
		"lock":                {state("55P03"), true},
		"no row":              {pgx.ErrNoRows, false},
		"not text":            {state("22021"), false},
		"unique":              {state("23505"), false},
		"password":            {state("28P01"), false},
		"syntax":              {state("42601"), false},
		"table is not there":  {state("42P01"), false},
		"damaged":             {state("XX001"), false},
		"short code":          {state("5"), false},
		"unexpected contents": {pgx.ScanArgError{ColumnIndex: 1, Err: errors.New("cannot scan")}, false},
	} {
		if got := tam.IsUnavailable(wrap(c.err)); got != c.want {
			t.Errorf("%s: %v is an outage: %v", name, c.err, got)
		}
	}
}
