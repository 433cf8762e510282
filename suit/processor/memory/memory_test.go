package memory_test

import (
	"errors"
	"io"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

var (
	_ processor.Platform    = (*memory.Platform)(nil)
	_ processor.Environment = (*memory.Platform)(nil)
	_ processor.Slots       = (*memory.Platform)(nil)

	idX = suit.NewComponentID("x")
	idY = suit.NewComponentID("y")
)

func begin(t *testing.T, p *memory.Platform) processor.Tx {
	t.Helper()
	tx, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func write(t *testing.T, tx processor.Tx, id suit.ComponentID, s string) {
	t.Helper()
	w, err := tx.Create(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, tx processor.Tx, id suit.ComponentID) string {
	t.Helper()
	c, err := tx.Content(id)
	if errors.Is(err, processor.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(c)
	if err != nil || int64(len(b)) != c.Size() {
		t.Fatalf("%d of %d bytes, %v", len(b), c.Size(), err)
	}
	return string(b)
}

func TestTransactionSeesItselfAndNobodyElseDoes(t *testing.T) {
	p := memory.New(processor.Identity{})
	tx := begin(t, p)
	write(t, tx, idX, "x")
	if read(t, tx, idX) != "x" || len(p.State().Content) != 0 || read(t, begin(t, p), idX) != "" {
		t.Fatal("not isolated")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if read(t, begin(t, p), idX) != "x" {
		t.Fatal("not committed")
	}
	if _, err := tx.Content(idX); !errors.Is(err, memory.ErrDone) {
		t.Fatalf("used after commit: %v", err)
	}
}

func TestRollbackKeepsContentByDigest(t *testing.T) {
	p := memory.New(processor.Identity{})
	tx := begin(t, p)
	write(t, tx, idX, "x")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	tx = begin(t, p)
	if err := tx.Adopt(idY, suit.NewDigest([]byte("z"))); !errors.Is(err, processor.ErrNotExist) {
		t.Fatal(err)
	}
	if err := tx.Adopt(idY, suit.NewDigest([]byte("x"))); err != nil || read(t, tx, idY) != "x" {
		t.Fatalf("finished content is gone: %v", err)
	}
}

func TestUnfinishedContentIsLost(t *testing.T) {
	p := memory.New(processor.Identity{})
	tx := begin(t, p)
	w, err := tx.Create(idX)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	p.CrashAt(1)
	if err := w.Commit(); !errors.Is(err, memory.ErrCrashed) {
		t.Fatal(err)
	}
	if _, err := p.Begin(t.Context()); !errors.Is(err, memory.ErrCrashed) {
		t.Fatalf("a dead device answers: %v", err)
	}
	p.Restart()
	if err := tx.Commit(); !errors.Is(err, memory.ErrCrashed) {
		t.Fatalf("a transaction survived: %v", err)
	}
	if err := begin(t, p).Adopt(idX, suit.NewDigest([]byte("x"))); !errors.Is(err, processor.ErrNotExist) {
		t.Fatalf("unfinished content survived: %v", err)
	}
}

func TestTwoTransactionsCannotBothWin(t *testing.T) {
	p := memory.New(processor.Identity{})
	a, b := begin(t, p), begin(t, p)
	write(t, a, idX, "a")
	write(t, b, idX, "b")
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(); err == nil {
		t.Fatal("an update was lost")
	}
}

func TestSequenceNumbersOutliveTheirManifest(t *testing.T) {
	p := memory.New(processor.Identity{})
	tx := begin(t, p)
	for _, n := range []uint64{5, 3} {
		if err := tx.PutManifest(processor.ManifestRecord{ID: idX, SequenceNumber: n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.RemoveManifest(idX); err != nil {
		t.Fatal(err)
	}
	if n, err := tx.HighestSequence(idX); err != nil || n != 5 {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := tx.Manifest(idX); !errors.Is(err, processor.ErrNotExist) {
		t.Fatal(err)
	}
}
