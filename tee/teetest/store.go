package teetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-teep/teep/tee"
)

func (b *bench) wantRecord(t *testing.T, record string, generation uint64) {
	t.Helper()
	got, gen, err := b.tee.Store().LoadRecord()
	must(t, err)
	if string(got) != record || gen != generation {
		t.Fatalf("record %q of generation %d, want %q of %d", got, gen, record, generation)
	}
}

func testRecord(t *testing.T, b *bench) {
	if got, gen, err := b.tee.Store().LoadRecord(); got != nil || gen != 0 || err != nil {
		t.Fatalf("a new store has record %q, generation %d, %v", got, gen, err)
	}
	want(t, "replace a generation to come", b.tee.Store().ReplaceRecord(1, nil), tee.ErrGeneration)
	must(t, b.tee.Store().ReplaceRecord(0, []byte("one")))
	b.wantRecord(t, "one", 1)
	want(t, "replace generation 0 again", b.tee.Store().ReplaceRecord(0, []byte("x")), tee.ErrGeneration)
	b.restart(t)
	b.wantRecord(t, "one", 1)
	large := strings.Repeat("large ", 100_000)
	must(t, b.tee.Store().ReplaceRecord(1, []byte(large)))
	must(t, b.tee.Store().ReplaceRecord(2, []byte{}))
	must(t, b.tee.Store().ReplaceRecord(3, []byte("four")))
	b.restart(t)
	b.wantRecord(t, "four", 4)
}

func testRecordRace(t *testing.T, b *bench) {
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range 8 {
		wg.Go(func() {
			switch err := b.tee.Store().ReplaceRecord(0, fmt.Append(nil, i)); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, tee.ErrGeneration):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of 8 replaced generation 0", won.Load())
	}
}

func testBlobs(t *testing.T, b *bench) {
	store := b.tee.Store()
	contents := [][]byte{{}, []byte("x"), pattern(65536), pattern(65537), pattern(1 << 20)}
	for _, content := range contents {
		digest := b.put(t, content)
		if digest != sha256.Sum256(content) {
			t.Fatal("a blob's name is not the SHA-256 of its content")
		}
		if again := b.put(t, content); again != digest {
			t.Fatal("the same content has two names")
		}
	}
	w, err := store.CreateBlob()
	must(t, err)
	_, err = w.Write([]byte("dropped"))
	must(t, err)
	must(t, w.Abort())
	_, err = store.StatBlob(sha256.Sum256([]byte("dropped")))
	want(t, "stat an aborted blob", err, tee.ErrNotExist)
	_, err = store.OpenBlob([32]byte{1})
	want(t, "open a blob that is not there", err, tee.ErrNotExist)

	b.restart(t)
	for _, content := range contents {
		b.checkBlob(t, content)
	}
}

func (b *bench) checkBlob(t *testing.T, content []byte) {
	t.Helper()
	digest := sha256.Sum256(content)
	got, err := b.read(digest)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Fatalf("blob of %d bytes reads otherwise", len(content))
	}
	if size, err := b.tee.Store().StatBlob(digest); err != nil || size != int64(len(content)) {
		t.Fatalf("blob of %d bytes: stat says %d, %v", len(content), size, err)
	}
	blob, err := b.tee.Store().OpenBlob(digest)
	must(t, err)
	defer blob.Close()
	if blob.Size() != int64(len(content)) {
		t.Fatalf("blob of %d bytes says %d", len(content), blob.Size())
	}
	off := len(content) / 2
	part := make([]byte, len(content)-off)
	if n, err := blob.ReadAt(part, int64(off)); n != len(part) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt %d: %d, %v", off, n, err)
	}
	if !bytes.Equal(part, content[off:]) {
		t.Fatalf("ReadAt %d reads otherwise", off)
	}
}

// testBlobMemory writes and reads a blob much larger than what may stay in memory.
func testBlobMemory(t *testing.T, b *bench) {
	if b.device.DiskInMemory {
		t.Skip("the disk is in memory")
	}
	size, allowed := 48<<20, uint64(8<<20)
	if b.device.Slow {
		size = 12 << 20
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, chunk := heap(), pattern(1<<20)
	w, err := b.tee.Store().CreateBlob()
	must(t, err)
	for range size / len(chunk) {
		_, err := w.Write(chunk)
		must(t, err)
	}
	if after := heap(); after > before+allowed {
		t.Errorf("the heap grew by %d bytes while a blob of %d was written", after-before, size)
	}
	digest, n, err := w.Commit()
	must(t, err)
	if n != int64(size) {
		t.Fatalf("committed %d of %d bytes", n, size)
	}
	blob, err := b.tee.Store().OpenBlob(digest)
	must(t, err)
	defer blob.Close()
	_, err = io.Copy(io.Discard, blob)
	must(t, err)
	if after := heap(); after > before+allowed {
		t.Errorf("the heap grew by %d bytes while a blob of %d was read", after-before, size)
	}
}

func testSweep(t *testing.T, b *bench) {
	keep, drop := b.put(t, []byte("keep")), b.put(t, []byte("drop"))
	w, err := b.tee.Store().CreateBlob() // never finished
	must(t, err)
	_, err = w.Write(pattern(200_000))
	must(t, err)
	b.restart(t)
	must(t, b.tee.Store().Sweep(func(d [32]byte) bool { return d == keep }))
	_, err = b.tee.Store().OpenBlob(drop)
	want(t, "open a swept blob", err, tee.ErrNotExist)
	b.checkBlob(t, []byte("keep"))
}

func testAppData(t *testing.T, b *bench) {
	one, two := b.tee.Store().AppData([]byte("one")), b.tee.Store().AppData([]byte("two"))
	if got, err := one.Load(); err != nil || len(got) != 0 {
		t.Fatalf("new storage holds %q, %v", got, err)
	}
	must(t, one.Remove())
	must(t, one.Apply(map[string][]byte{"a": []byte("1"), "b": []byte("2"), "empty": {}}))
	must(t, one.Apply(map[string][]byte{"a": []byte("3"), "b": nil, "none": nil}))
	for _, key := range []string{"", "\xc3", strings.Repeat("x", 256)} {
		if one.Apply(map[string][]byte{"a": []byte("lost"), key: []byte("v")}) == nil {
			t.Errorf("key %q accepted", key)
		}
	}
	must(t, one.Apply(map[string][]byte{strings.Repeat("x", 255): []byte("v")}))
	if got, err := two.Load(); err != nil || len(got) != 0 {
		t.Fatalf("another application sees %q, %v", got, err)
	}
	must(t, two.Apply(map[string][]byte{"a": []byte("other")}))
	b.restart(t)
	one = b.tee.Store().AppData([]byte("one"))
	got, err := one.Load()
	must(t, err)
	if len(got) != 3 || string(got["a"]) != "3" || got["empty"] == nil || len(got["empty"]) != 0 {
		t.Fatalf("after restart: %q", got)
	}
	must(t, one.Remove())
	b.restart(t)
	if got, err := b.tee.Store().AppData([]byte("one")).Load(); err != nil || len(got) != 0 {
		t.Fatalf("removed storage holds %q, %v", got, err)
	}
	if got, err := b.tee.Store().AppData([]byte("two")).Load(); err != nil || string(got["a"]) != "other" {
		t.Fatalf("the other application's storage holds %q, %v", got, err)
	}
}

// sealedFiles are the files of the device's folder, but for empty ones.
func (b *bench) sealedFiles(t *testing.T) map[string][]byte {
	t.Helper()
	if b.device.Dir == "" {
		t.Skip("nobody outside the TEE gets at its sealed files")
	}
	files := map[string][]byte{}
	must(t, filepath.WalkDir(b.device.Dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if len(content) > 0 {
			files[name] = content
		}
		return err
	}))
	return files
}

func testNothingReadable(t *testing.T, b *bench) {
	const marker = "MARKER-THAT-MUST-NOT-SHOW"
	digest := b.put(t, []byte(marker))
	must(t, b.tee.Store().ReplaceRecord(0, []byte(marker)))
	must(t, b.tee.Store().AppData([]byte(marker)).Apply(map[string][]byte{marker: []byte(marker)}))
	private, err := b.tee.Keys().Decryption()
	must(t, err)
	secret, err := private.MarshalCBOR()
	must(t, err)
	for name, content := range b.sealedFiles(t) {
		if bytes.Contains(content, []byte(marker[:12])) || bytes.Contains(content, secret[len(secret)-24:]) {
			t.Errorf("%s shows what it holds", name)
		}
		if strings.Contains(filepath.Base(name), fmt.Sprintf("%x", digest[:6])) {
			t.Errorf("%s tells the digest of what it holds", name)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v, %v", name, info.Mode(), err)
		}
	}
}

// testTampering flips a bit in each file, cuts each file, and removes each file: the TEE must not
// use what it finds then.
func testTampering(t *testing.T, b *bench) {
	content := pattern(100_000)
	digest := b.put(t, content)
	must(t, b.tee.Store().ReplaceRecord(0, []byte("record")))
	must(t, b.tee.Store().AppData([]byte("app")).Apply(map[string][]byte{"k": []byte("v")}))
	agent, err := b.tee.Keys().Public(tee.KeyAgent)
	must(t, err)
	files := b.sealedFiles(t)
	if len(files) < 4 {
		t.Fatalf("only %d files in %s", len(files), b.device.Dir)
	}
	b.stop(t)
	intact := func() error { return b.useEverything(digest, content, agent.Thumbprint()) }
	if err := intact(); err != nil {
		t.Fatalf("before tampering: %v", err)
	}
	for i, name := range slices.Sorted(maps.Keys(files)) {
		was := files[name]
		places := map[string][]byte{
			"first byte": flip(was, 0), "a byte near the start": flip(was, min(41, len(was)-1)), "middle": flip(was, len(was)/2),
			"last byte": flip(was, len(was)-1), "cut in half": was[:len(was)/2], "cut by one": was[:len(was)-1],
		}
		if b.device.Slow { // one thing for each file
			what := []string{"middle", "cut by one", "removed"}[i%3]
			places = map[string][]byte{what: places[what]}
			if what == "removed" {
				places = nil
			}
		}
		for what, changed := range places {
			must(t, os.WriteFile(name, changed, 0o600))
			if err := intact(); !errors.Is(err, tee.ErrCorrupt) {
				t.Errorf("%s, %s: error is %v, want %v", filepath.Base(name), what, err, tee.ErrCorrupt)
			}
			must(t, os.WriteFile(name, was, 0o600))
		}
		if b.device.Slow && places != nil {
			continue
		}
		must(t, os.Remove(name))
		if err := intact(); !errors.Is(err, tee.ErrCorrupt) && !errors.Is(err, tee.ErrNotExist) {
			t.Errorf("%s removed: error is %v", filepath.Base(name), err)
		}
		must(t, os.WriteFile(name, was, 0o600))
	}
	if err := intact(); err != nil {
		t.Fatalf("after everything was put back: %v", err)
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x10
	return b
}

// useEverything starts the TEE, reads all that is in it, and stops it. It returns the first error;
// it is an error too if something reads otherwise than it was written.
func (b *bench) useEverything(digest [32]byte, content, agent []byte) (err error) {
	if b.tee, err = b.device.Start(); err != nil {
		b.tee = nil
		return err
	}
	defer func() {
		running := b.tee
		b.tee = nil
		err = errors.Join(err, b.device.Stop(running))
	}()
	key, err := b.tee.Keys().Public(tee.KeyAgent)
	if err != nil {
		return err
	}
	if !bytes.Equal(key.Thumbprint(), agent) {
		return errors.New("the TEE has another agent key")
	}
	record, gen, err := b.tee.Store().LoadRecord()
	if err != nil {
		return err
	}
	if string(record) != "record" || gen != 1 {
		return fmt.Errorf("record %q of generation %d was used", record, gen)
	}
	values, err := b.tee.Store().AppData([]byte("app")).Load()
	if err != nil {
		return err
	}
	if string(values["k"]) != "v" {
		return fmt.Errorf("application data %q were used", values)
	}
	got, err := b.read(digest)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, content) {
		return errors.New("changed content was used")
	}
	return nil
}
