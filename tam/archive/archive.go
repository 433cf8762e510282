// Package archive backs up a TAM's SQLite store with its envelopes and payloads, restores them, and moves the store
// to PostgreSQL.
//
// A backup is a folder: tam.db, which is a SQLite store like any other, envelopes/, and payloads/. It is made while
// the TAM works. It does not hold the TAM's keys and its configuration, which never change by
// themselves; it does hold the keys of its tokens, so it is a secret.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/blobfs"
	"github.com/go-teep/teep/tam/postgres"
	"github.com/go-teep/teep/tam/sqlite"
)

const (
	databaseName  = "tam.db"
	envelopesName = "envelopes"
	payloadsName  = "payloads"
)

// Summary says what was found in a store.
type Summary struct {
	Versions int
	// Payloads are those that lie beside their envelopes, PayloadBytes their sizes together.
	Payloads     int
	PayloadBytes int64
	Audit        audit.Head
}

// ErrDamaged says that a backup is not whole.
var ErrDamaged = errors.New("archive: the backup is not whole")

// partialMark is in the name of a backup's folder until the backup is whole.
const partialMark = ".partial-"

// Backup writes a store, its envelopes and its payloads (nil: there are none) to the new folder dir, which is there when
// all is in it: one that is cut off leaves a folder of another name, that nobody takes for a backup. What cannot be finished
// otherwise is removed.
func Backup(ctx context.Context, store *sqlite.Store, blobs tam.Blobs, payloads tam.Payloads, dir string) (s *Summary, err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("archive: %s exists: a backup is a new folder", dir), err)
	}
	parent, name := filepath.Split(filepath.Clean(dir))
	partial, err := os.MkdirTemp(parent, name+partialMark) // for its owner alone
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(partial))
		}
	}()
	if s, err = fill(ctx, store, blobs, payloads, partial); err != nil {
		return nil, err
	}
	if err := os.Rename(partial, dir); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return s, syncFolder(filepath.Dir(dir))
}

// syncFolder makes the names in a folder survive a loss of power.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// fill makes the content of a backup.
func fill(ctx context.Context, store *sqlite.Store, blobs tam.Blobs, payloads tam.Payloads, dir string) (s *Summary, err error) {
	// The database first: every version that it lists has its envelope, and keeps it.
	if err := store.Backup(ctx, filepath.Join(dir, databaseName)); err != nil {
		return nil, err
	}
	copied, err := sqlite.Open(ctx, filepath.Join(dir, databaseName), sqlite.Options{})
	if err != nil {
		return nil, err
	}
	defer copied.Close()
	to, err := blobfs.Open(filepath.Join(dir, envelopesName))
	if err != nil {
		return nil, err
	}
	defer to.Close()
	if s, err = transfer(ctx, copied, blobs, to); err != nil || payloads == nil {
		return s, err
	}
	kept, err := blobfs.OpenPayloads(filepath.Join(dir, payloadsName))
	if err != nil {
		return nil, err
	}
	defer kept.Close()
	return s, s.transferPayloads(ctx, payloads, kept)
}

// transferPayloads copies payloads, and looks at each byte of them.
func (s *Summary) transferPayloads(ctx context.Context, from, to tam.Payloads) error {
	return from.Each(ctx, func(p tam.StoredPayload) error {
		open, err := from.Open(ctx, p.Digest)
		if errors.Is(err, tam.ErrNotFound) {
			return nil // nobody needed it, and it went
		}
		if err != nil {
			return err
		}
		defer open.Close() //nolint:errcheck // was only read
		digest, size, err := to.Put(ctx, open)
		if err == nil && digest != p.Digest {
			err = errors.Join(fmt.Errorf("payload %x was changed where it is stored: upload it again with teep publish --payload", p.Digest),
				to.Delete(ctx, digest, time.Now().Add(time.Hour)))
		}
		s.Payloads++
		s.PayloadBytes += size
		return err
	})
}

// Restore checks the backup in dir and makes database, envelopes and payloads of it, which must not exist. Payloads
// that the backup does not have are not made: those of a bucket, or of older releases. The backup stays as it is, and
// may be of an older release. What cannot be finished is removed.
//
// Tokens and challenges that were issued until now are refused from then on, because the restored store
// does not know which of them were used since the backup; devices ask again.
func Restore(ctx context.Context, dir, database, envelopes, payloads string, now time.Time, rand io.Reader) (s *Summary, err error) {
	if strings.Contains(filepath.Base(dir), partialMark) {
		return nil, fmt.Errorf("%w: making %s was cut off", ErrDamaged, dir)
	}
	partial := database + ".restoring"
	for _, path := range []string{database, database + "-wal", envelopes, payloads, partial} {
		switch _, err := os.Lstat(path); {
		case err == nil:
			return nil, fmt.Errorf("archive: %s exists and is not overwritten: stop the TAM, and move it away first", path)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("archive: %w", err)
		}
	}
	// A copy of the database, because opening one brings it to the newest schema. Who makes it is the only one at work.
	if err := copyDatabase(filepath.Join(dir, databaseName), partial); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(envelopes), os.RemoveAll(payloads), os.RemoveAll(partial))
		}
	}()
	if s, err = restore(ctx, dir, partial, envelopes, payloads); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := replaceTokenKeys(ctx, partial, now, rand); err != nil {
		return nil, err
	}
	// The database last: without it there is no TAM that could miss an envelope.
	if err := os.Rename(partial, database); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return s, syncFolder(filepath.Dir(database))
}

// copyDatabase copies the file of a store that nobody has open.
func copyDatabase(from, to string) error {
	if st, err := os.Stat(from + "-wal"); err == nil && st.Size() > 0 {
		return fmt.Errorf("%s-wal is not empty: somebody has the database of the backup open, or changed it", from)
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it holds the token keys
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// restore checks the copy of a backup's database, and makes what it speaks of.
func restore(ctx context.Context, dir, database, envelopes, payloads string) (*Summary, error) {
	store, err := sqlite.Open(ctx, database, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := store.Check(ctx); err != nil {
		return nil, err
	}
	// Opening makes a folder that is not there.
	if _, err := os.Stat(filepath.Join(dir, envelopesName)); err != nil {
		return nil, err
	}
	from, err := blobfs.Open(filepath.Join(dir, envelopesName))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := blobfs.Open(envelopes)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	s, err := transfer(ctx, store, from, to)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, payloadsName)); err == nil {
		if err := s.restorePayloads(ctx, filepath.Join(dir, payloadsName), payloads); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Summary) restorePayloads(ctx context.Context, from, to string) error {
	kept, err := blobfs.OpenPayloads(from)
	if err != nil {
		return err
	}
	defer kept.Close()
	made, err := blobfs.OpenPayloads(to)
	if err != nil {
		return err
	}
	defer made.Close()
	return s.transferPayloads(ctx, kept, made)
}

// replaceTokenKeys makes a new key and forgets all older ones.
func replaceTokenKeys(ctx context.Context, database string, now time.Time, rand io.Reader) error {
	store, err := sqlite.Open(ctx, database, sqlite.Options{})
	if err != nil {
		return err
	}
	keys, err := store.TokenKeys(ctx)
	if err == nil && len(keys) > 0 {
		secret := make([]byte, len(keys[0].Secret))
		if _, err := io.ReadFull(rand, secret); err != nil {
			return errors.Join(err, store.Close())
		}
		next := tam.TokenKey{Generation: keys[len(keys)-1].Generation + 1, Secret: secret, Created: now}
		err = store.AddTokenKey(ctx, next)
		if err == nil {
			err = store.DropTokenKeys(ctx, now.Add(time.Second)) // the newest stays
		}
	}
	return errors.Join(err, store.Close())
}

// transfer copies the envelopes of all versions and verifies the audit log.
func transfer(ctx context.Context, store *sqlite.Store, from, to tam.Blobs) (*Summary, error) {
	s := &Summary{}
	for after := (tam.VersionCursor{}); ; {
		const page = 200
		list, err := store.ListVersions(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for _, v := range list {
			after = tam.VersionCursor{Manifest: v.Manifest, Sequence: v.Sequence}
			data, err := from.Get(ctx, v.Envelope)
			if err != nil {
				return nil, fmt.Errorf("envelope of %v, sequence number %d: %w", v.Manifest, v.Sequence, err)
			}
			if _, err := to.Put(ctx, data); err != nil {
				return nil, err
			}
			s.Versions++
		}
		if len(list) < page {
			break
		}
	}
	var err error
	s.Audit, err = verifyAudit(ctx, store)
	return s, err
}

func verifyAudit(ctx context.Context, log audit.Log) (audit.Head, error) {
	head, err := log.AuditHead(ctx)
	if err != nil {
		return head, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(audit.Export(ctx, log, 0, w)) }()
	report, err := audit.Verify(r)
	// An Export that Verify gave up on ends here.
	r.CloseWithError(errors.New("archive: verified no further"))
	if err != nil {
		return head, err
	}
	if report.Head != head {
		return head, fmt.Errorf("the audit log ends with entry %d and should with %d", report.Head.Seq, head.Seq)
	}
	return head, nil
}

// Move copies everything of a SQLite store into a fresh PostgreSQL database. Envelopes stay where they
// are: the new configuration names the same folder. It returns the number of rows by table.
func Move(ctx context.Context, from *sqlite.Store, to *postgres.Store) (map[string]int64, error) {
	if err := from.Check(ctx); err != nil {
		return nil, err
	}
	if _, err := verifyAudit(ctx, from); err != nil {
		return nil, err
	}
	counts, err := to.Load(ctx, func(insert func(string, []string, []any) error) error {
		return from.Dump(ctx, func(r sqlite.Row) error { return insert(r.Table, r.Columns, r.Values) })
	})
	if err != nil {
		return nil, err
	}
	if _, err := verifyAudit(ctx, to); err != nil {
		return nil, fmt.Errorf("after moving: %w", err)
	}
	return counts, nil
}

// String says what was found, in a line.
func (s *Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d versions with their envelopes, ", s.Versions)
	if s.Payloads > 0 {
		fmt.Fprintf(&b, "%d payloads of %d bytes, ", s.Payloads, s.PayloadBytes)
	}
	fmt.Fprintf(&b, "audit log of %d entries", s.Audit.Seq)
	if s.Audit.Seq > 0 {
		fmt.Fprintf(&b, " to %d:%v", s.Audit.Seq, s.Audit.Hash)
	}
	return b.String()
}
