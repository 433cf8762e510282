package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

func version(name string, sequence uint64) tam.Version {
	return tam.Version{
		Manifest:     manifest(name),
		Sequence:     sequence,
		Digest:       []byte{1, 2, 3},
		Components:   []tam.VersionComponent{{ID: suit.ComponentID{[]byte(name)}, Digest: []byte{4}, Size: 5}},
		Dependencies: []suit.ComponentID{manifest("runtime")},
		Pins:         []tam.Pin{{Manifest: manifest("runtime"), Digest: []byte{6}}},
		Envelope:     sha256.Sum256([]byte(name)),
		Size:         1 << 40,
		Publisher:    "acme",
		Uploaded:     start,
	}
}

func testVersions(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	must(t, s.AddVersion(ctx, version("a", 0)))
	must(t, s.AddVersion(ctx, version("a", 9)))
	want(t, s.AddVersion(ctx, version("a", 9)), tam.ErrSequence)
	want(t, s.AddVersion(ctx, version("a", 8)), tam.ErrSequence)
	must(t, s.AddVersion(ctx, version("a", 10))) // ten is more than nine, also as text
	must(t, s.AddVersion(ctx, version("a", 1<<64-1)))
	want(t, s.AddVersion(ctx, version("a", 1<<63)), tam.ErrSequence)
	must(t, s.AddVersion(ctx, version("b", 1))) // another manifest counts for itself

	var list []tam.Version
	var after tam.VersionCursor
	for {
		page, err := s.ListVersions(ctx, after, 2)
		must(t, err)
		list = append(list, page...)
		if len(page) < 2 {
			break
		}
		after = tam.VersionCursor{Manifest: page[1].Manifest, Sequence: page[1].Sequence}
	}
	equal(t, list, []tam.Version{
		version("a", 0), version("a", 9), version("a", 10), version("a", 1<<64-1), version("b", 1),
	})
}

func testSequenceConcurrent(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	won := concurrently(12, func(n int) error {
		return replicas[n%2].AddVersion(context.Background(), version("a", 5))
	})
	if won.ok != 1 || won.failed(tam.ErrSequence) != 11 {
		t.Fatalf("%d added the same sequence number, errors %v", won.ok, won.errs)
	}
	concurrently(12, func(n int) error {
		return replicas[n%2].AddVersion(context.Background(), version("a", uint64(6+n)))
	})
	list, err := replicas[0].ListVersions(t.Context(), tam.VersionCursor{}, 100)
	must(t, err)
	if last := list[len(list)-1]; last.Sequence != 17 {
		t.Fatalf("the highest number was refused: newest is %d", last.Sequence)
	}
}

func testWithdraw(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	want(t, s.WithdrawVersion(ctx, manifest("a"), 1, "", start), tam.ErrNotFound)
	must(t, s.AddVersion(ctx, version("a", 1)))
	want(t, s.WithdrawVersion(ctx, manifest("a"), 2, "", start), tam.ErrNotFound)
	must(t, s.WithdrawVersion(ctx, manifest("a"), 1, "faulty", start))
	must(t, s.WithdrawVersion(ctx, manifest("a"), 1, "another reason", start.Add(time.Hour)))
	list, err := s.ListVersions(ctx, tam.VersionCursor{}, 10)
	must(t, err)
	if v := list[0]; !v.Withdrawn.Equal(start) || v.WithdrawnReason != "faulty" {
		t.Fatalf("withdrawn %v because %q", v.Withdrawn, v.WithdrawnReason)
	}
	want(t, s.AddVersion(ctx, version("a", 1)), tam.ErrSequence) // its number stays taken
}

func testAssignments(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	a := tam.Assignment{Manifest: manifest("a"), Mode: tam.ModeRequired, Devices: []string{"x", "y"}}
	must(t, s.PutAssignment(ctx, tam.Assignment{Manifest: manifest("b"), Mode: tam.ModeForbidden}))
	must(t, s.PutAssignment(ctx, tam.Assignment{Manifest: manifest("a"), Mode: tam.ModeAvailable}))
	must(t, s.PutAssignment(ctx, a))
	list, err := s.Assignments(ctx)
	must(t, err)
	equal(t, list, []tam.Assignment{a, {Manifest: manifest("b"), Mode: tam.ModeForbidden}})
	must(t, s.DeleteAssignment(ctx, manifest("b")))
	want(t, s.DeleteAssignment(ctx, manifest("b")), tam.ErrNotFound)
}

func testPublishers(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	p := tam.Publisher{
		Name: "acme", Keys: [][]byte{{1}, {2}}, Prefixes: []suit.ComponentID{manifest("a")}, Created: start,
	}
	must(t, s.AddPublisher(ctx, p))
	want(t, s.AddPublisher(ctx, tam.Publisher{Name: "acme", Keys: [][]byte{{3}}}), tam.ErrExists)
	want(t, s.AddPublisher(ctx, tam.Publisher{Name: "thief", Keys: [][]byte{{4}, {2}}}), tam.ErrExists)
	_, err := s.Publisher(ctx, "thief")
	want(t, err, tam.ErrNotFound)
	must(t, s.AddPublisher(ctx, tam.Publisher{Name: "later", Keys: [][]byte{{4}}, Created: start})) // {4} was not taken
	got, err := s.Publisher(ctx, "acme")
	must(t, err)
	equal(t, *got, p)

	list, err := s.ListPublishers(ctx, "acme", 10)
	must(t, err)
	if len(list) != 1 || list[0].Name != "later" {
		t.Fatalf("after acme comes %v", list)
	}
	want(t, s.RevokePublisher(ctx, "nobody", start), tam.ErrNotFound)
	must(t, s.RevokePublisher(ctx, "acme", start))
	must(t, s.RevokePublisher(ctx, "acme", start.Add(time.Hour)))
	got, err = s.Publisher(ctx, "acme")
	must(t, err)
	if !got.Revoked.Equal(start) {
		t.Fatalf("revoked at %v, want the first time %v", got.Revoked, start)
	}
}

func testCatalogueRevision(t *testing.T, b Backend) {
	s, other, ctx := b.Open(t), b.Open(t), t.Context()
	last, err := other.CatalogueRevision(ctx)
	must(t, err)
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"AddPublisher", func() error { return s.AddPublisher(ctx, tam.Publisher{Name: "acme"}) }},
		{"AddVersion", func() error { return s.AddVersion(ctx, version("a", 1)) }},
		{"WithdrawVersion", func() error { return s.WithdrawVersion(ctx, manifest("a"), 1, "", start) }},
		{"PutAssignment", func() error {
			return s.PutAssignment(ctx, tam.Assignment{Manifest: manifest("a"), Mode: tam.ModeRequired})
		}},
		{"DeleteAssignment", func() error { return s.DeleteAssignment(ctx, manifest("a")) }},
		{"RevokePublisher", func() error { return s.RevokePublisher(ctx, "acme", start) }},
	} {
		must(t, change.do())
		now, err := other.CatalogueRevision(ctx)
		must(t, err)
		if now <= last {
			t.Fatalf("%s: revision %d after %d", change.name, now, last)
		}
		last = now
	}
	create(t, s, device(1))
	now, err := other.CatalogueRevision(ctx)
	must(t, err)
	equal(t, now, last) // devices are not the catalogue
}

func testAPITokens(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	tok := tam.APIToken{
		ID: "one", Name: "ci", Hash: sha256.Sum256([]byte("secret")), Scopes: []string{"publisher"},
		Publisher: "acme", Created: start, Expires: start.Add(time.Hour),
	}
	must(t, s.AddAPIToken(ctx, tok))
	want(t, s.AddAPIToken(ctx, tok), tam.ErrExists)
	got, err := s.APITokenByHash(ctx, tok.Hash)
	must(t, err)
	equal(t, *got, tok)
	_, err = s.APITokenByHash(ctx, [32]byte{})
	want(t, err, tam.ErrNotFound)
	want(t, s.RevokeAPIToken(ctx, "two", start), tam.ErrNotFound)
	must(t, s.RevokeAPIToken(ctx, "one", start))
	got, err = s.APITokenByHash(ctx, tok.Hash)
	must(t, err)
	if !got.Revoked.Equal(start) {
		t.Fatal("not revoked")
	}
	list, err := s.ListAPITokens(ctx, "", 10)
	must(t, err)
	equal(t, list, []tam.APIToken{*got})
}

func testTokenKeys(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	key := func(g uint32) tam.TokenKey {
		return tam.TokenKey{Generation: g, Secret: []byte{byte(g)}, Created: start.Add(time.Duration(g) * time.Hour)}
	}
	want(t, s.AddTokenKey(ctx, key(2)), tam.ErrConflict)
	must(t, s.AddTokenKey(ctx, key(1)))
	want(t, s.AddTokenKey(ctx, key(1)), tam.ErrConflict)
	must(t, s.AddTokenKey(ctx, key(2)))
	must(t, s.AddTokenKey(ctx, key(3)))
	list, err := s.TokenKeys(ctx)
	must(t, err)
	equal(t, list, []tam.TokenKey{key(1), key(2), key(3)})

	must(t, s.DropTokenKeys(ctx, start.Add(2*time.Hour)))
	list, err = s.TokenKeys(ctx)
	must(t, err)
	equal(t, list, []tam.TokenKey{key(2), key(3)})
	must(t, s.DropTokenKeys(ctx, start.Add(100*time.Hour)))
	list, err = s.TokenKeys(ctx)
	must(t, err)
	equal(t, list, []tam.TokenKey{key(3)}) // generations go on rising
	must(t, s.AddTokenKey(ctx, key(4)))
}

func testTokenKeyRace(t *testing.T, b Backend) {
	replicas := []tam.Store{b.Open(t), b.Open(t)}
	won := concurrently(8, func(n int) error {
		return replicas[n%2].AddTokenKey(context.Background(), tam.TokenKey{Generation: 1, Secret: []byte{byte(n)}, Created: start})
	})
	if won.ok != 1 || won.failed(tam.ErrConflict) != 7 {
		t.Fatalf("%d added generation 1, errors %v", won.ok, won.errs)
	}
}

func testReopening(t *testing.T, b Backend) {
	ctx := t.Context()
	d := device(1)
	s := b.Open(t)
	must(t, s.CommitExchange(ctx, exchange(1, d)))
	must(t, s.AddVersion(ctx, version("a", 3)))
	must(t, s.AddTokenKey(ctx, tam.TokenKey{Generation: 1, Secret: []byte{1}, Created: start}))

	s = b.Open(t)
	got, err := s.DeviceByKey(ctx, d.KeyThumbprint)
	must(t, err)
	equal(t, got, d)
	want(t, s.CommitExchange(ctx, tam.Exchange{Consume: &tam.Consumption{ID: [16]byte{1}, Expires: start}}), tam.ErrConsumed)
	want(t, s.AddVersion(ctx, version("a", 3)), tam.ErrSequence)
	want(t, s.AddTokenKey(ctx, tam.TokenKey{Generation: 1}), tam.ErrConflict)
}

func testCancelled(t *testing.T, b Backend) {
	s := b.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := device(1)
	if err := s.CommitExchange(ctx, exchange(1, d)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	must(t, s.CommitExchange(t.Context(), exchange(1, d))) // nothing of it was stored
}

// RunBlobs runs the suite for payload stores. open is called twice for the same data.
func RunBlobs(t *testing.T, fresh func(t *testing.T) (open func() tam.Blobs)) {
	t.Run("PutGetDelete", func(t *testing.T) {
		ctx, open := t.Context(), fresh(t)
		s := open()
		for _, data := range [][]byte{{}, []byte("one"), make([]byte, 1<<20)} {
			digest, err := s.Put(ctx, data)
			must(t, err)
			equal(t, digest, sha256.Sum256(data))
			again, err := s.Put(ctx, data)
			must(t, err)
			equal(t, again, digest)
			got, err := open().Get(ctx, digest)
			must(t, err)
			equal(t, sha256.Sum256(got), digest)
			must(t, s.Delete(ctx, digest))
			must(t, s.Delete(ctx, digest))
			_, err = s.Get(ctx, digest)
			want(t, err, tam.ErrNotFound)
		}
	})
	t.Run("ConcurrentPuts", func(t *testing.T) {
		open := fresh(t)
		replicas := []tam.Blobs{open(), open()}
		data := make([]byte, 100_000)
		o := concurrently(8, func(n int) error {
			digest, err := replicas[n%2].Put(context.Background(), data)
			if err != nil {
				return err
			}
			_, err = replicas[(n+1)%2].Get(context.Background(), digest)
			return err
		})
		if o.ok != 8 {
			t.Fatal(o.errs)
		}
	})
}
