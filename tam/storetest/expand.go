package storetest

import (
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// firstReleased is the schema of before the first release: nobody has replicas of an older one.
const firstReleased = 81

var (
	// contracting is what a release before would stumble over, and what waits for all writers to be done.
	contracting = regexp.MustCompile(`(?is)\b(drop\s+(table|column|constraint|default)|rename\s|alter\s+column|set\s+not\s+null|truncate|lock\s+table|add\s+(constraint|unique|check|primary|foreign))\b`)
	addColumn   = regexp.MustCompile(`(?is)add\s+(column\s+)?[^;]*;`)
	createIndex = regexp.MustCompile(`(?is)create\s+(unique\s+)?index\s+(concurrently\s+)?(if\s+not\s+exists\s+)?(\w+)\s+on\s+(\w+)`)
	createTable = regexp.MustCompile(`(?is)create\s+table\s+(if\s+not\s+exists\s+)?(\w+)`)
	comments    = regexp.MustCompile(`--[^\n]*`)
)

// CheckExpanding reads the migrations since the first release: each may only add what those who do not know
// it need not know, so that replicas of the release before work on. What is no longer used goes one
// release later, with a remark in this test.
func CheckExpanding(t *testing.T, migrations fs.FS) {
	t.Helper()
	files, err := fs.Glob(migrations, "migrations/*.sql")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("there are no migrations")
	}
	for _, file := range files {
		number, _, _ := strings.Cut(path.Base(file), "_")
		n, err := strconv.Atoi(number)
		must(t, err)
		if n <= firstReleased {
			continue
		}
		data, err := fs.ReadFile(migrations, file)
		must(t, err)
		up, _, _ := strings.Cut(string(data), "-- +goose Down")
		for _, fault := range contracts(up) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	for text, faulty := range map[string]bool{ // the test itself
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT '';":                                     false,
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL;":                                                true,
		"ALTER TABLE a ADD COLUMN b TEXT;":                                                         false,
		"ALTER TABLE a RENAME TO b;":                                                               true,
		"CREATE TABLE a (b TEXT NOT NULL); CREATE INDEX c ON a (b);":                               false,
		"CREATE INDEX c ON a (b);":                                                                 true,
		"CREATE INDEX CONCURRENTLY IF NOT EXISTS c ON a (b);":                                      true,
		"DROP INDEX CONCURRENTLY IF EXISTS c; CREATE INDEX CONCURRENTLY IF NOT EXISTS c ON a (b);": false,
		"DROP INDEX CONCURRENTLY IF EXISTS d; CREATE INDEX CONCURRENTLY IF NOT EXISTS c ON a (b);": true,
		"CREATE TABLE a (b TEXT); CREATE UNIQUE INDEX c ON other (b);":                             true,
		"ALTER TABLE a ALTER COLUMN b SET NOT NULL;":                                               true,
		"-- DROP TABLE is for a later release\nCREATE TABLE a (b TEXT);":                           false,
	} {
		if got := contracts(text); len(got) > 0 != faulty {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func contracts(up string) (faults []string) {
	up = comments.ReplaceAllString(up, "")
	if found := contracting.FindString(up); found != "" {
		faults = append(faults, "'"+found+"' is something that replicas of the release before stumble over")
	}
	for _, column := range addColumn.FindAllString(up, -1) {
		if lower := strings.ToLower(column); strings.Contains(lower, "not null") && !strings.Contains(lower, "default") {
			faults = append(faults, "a new column that must have a value, and no default for those who do not know it: "+column)
		}
	}
	made := map[string]bool{}
	for _, m := range createTable.FindAllStringSubmatch(up, -1) {
		made[m[2]] = true
	}
	for _, m := range createIndex.FindAllStringSubmatchIndex(up, -1) {
		name, table, concurrently := up[m[8]:m[9]], up[m[10]:m[11]], m[4] >= 0
		dropped := regexp.MustCompile(`(?is)drop\s+index\s+concurrently\s+if\s+exists\s+` + name + `\s*;`)
		switch {
		case made[table]:
		case !concurrently:
			faults = append(faults, "an index on "+table+", which may be large, keeps writers waiting: make it CONCURRENTLY, with -- +goose NO TRANSACTION")
		case !dropped.MatchString(up[:m[0]]):
			faults = append(faults, "what a crash, or a wait that was given up, leaves of the index "+name+" is not valid, and would be taken for it: DROP INDEX CONCURRENTLY IF EXISTS "+name+" before")
		}
	}
	return faults
}
