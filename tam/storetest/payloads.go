package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-teep/teep/tam"
)

// RunPayloads runs the suite for stores of payloads. open is called several times for the same data.
func RunPayloads(t *testing.T, fresh func(t *testing.T) (open func() tam.Payloads)) {
	for name, test := range map[string]func(*testing.T, func() tam.Payloads){
		"PutOpen": payloadPutOpen, "Seek": payloadSeek, "Missing": payloadMissing,
		"FailingReader": payloadFailingReader, "Cancelled": payloadCancelled, "ConcurrentPuts": payloadConcurrentPuts,
		"EachDelete": payloadEachDelete,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func payloadPutOpen(t *testing.T, open func() tam.Payloads) {
	large := make([]byte, 3<<20+1)
	_, err := io.ReadFull(rand.Reader, large)
	must(t, err)
	s := open()
	for _, data := range [][]byte{{}, []byte("one"), large} {
		for range 2 {
			digest, size, err := s.Put(t.Context(), iotest.HalfReader(bytes.NewReader(data)))
			must(t, err)
			equal(t, digest, sha256.Sum256(data))
			equal(t, size, int64(len(data)))
			for _, replica := range []tam.Payloads{s, open()} {
				p, err := replica.Open(t.Context(), digest)
				must(t, err)
				equal(t, p.Size(), size)
				got, err := io.ReadAll(p)
				must(t, err)
				equal(t, sha256.Sum256(got), digest)
				must(t, p.Close())
			}
		}
	}
}

func payloadSeek(t *testing.T, open func() tam.Payloads) {
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	digest, _, err := open().Put(t.Context(), bytes.NewReader(data))
	must(t, err)
	p, err := open().Open(t.Context(), digest)
	must(t, err)
	defer p.Close()
	for _, step := range []struct {
		offset, want int64
		whence       int
	}{
		{0, 100_000, io.SeekEnd}, {0, 0, io.SeekStart}, {99_990, 99_990, io.SeekStart}, {7, 7, io.SeekStart}, {-3, 99_997, io.SeekEnd}, {100_000, 100_000, io.SeekStart},
	} {
		at, err := p.Seek(step.offset, step.whence)
		must(t, err)
		equal(t, at, step.want)
		part := make([]byte, min(10, int64(len(data))-at))
		_, err = io.ReadFull(p, part)
		must(t, err)
		equal(t, string(part), string(data[at:at+int64(len(part))]))
	}
	if n, err := p.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("at the end: %d, %v", n, err)
	}
}

func payloadMissing(t *testing.T, open func() tam.Payloads) {
	_, err := open().Open(t.Context(), sha256.Sum256([]byte("never stored")))
	want(t, err, tam.ErrNotFound)
}

func payloadFailingReader(t *testing.T, open func() tam.Payloads) {
	s, broken, half := open(), errors.New("the connection broke"), []byte("half of it")
	_, _, err := s.Put(t.Context(), io.MultiReader(bytes.NewReader(half), iotest.ErrReader(broken)))
	want(t, err, broken)
	_, err = s.Open(t.Context(), sha256.Sum256(half))
	want(t, err, tam.ErrNotFound)
}

func payloadCancelled(t *testing.T, open func() tam.Payloads) {
	s, data := open(), []byte("nobody waits for this")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, bytes.NewReader(data)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	_, err := s.Open(t.Context(), sha256.Sum256(data))
	want(t, err, tam.ErrNotFound)
}

func payloadConcurrentPuts(t *testing.T, open func() tam.Payloads) {
	replicas := []tam.Payloads{open(), open()}
	data := make([]byte, 100_000)
	o := concurrently(8, func(n int) error {
		digest, _, err := replicas[n%2].Put(context.Background(), bytes.NewReader(data))
		if err != nil {
			return err
		}
		p, err := replicas[(n+1)%2].Open(context.Background(), digest)
		if err != nil {
			return err
		}
		defer p.Close()
		got, err := io.ReadAll(p)
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("other bytes came back")
		}
		return err
	})
	if o.ok != 8 {
		t.Fatal(o.errs)
	}
}

func payloadEachDelete(t *testing.T, open func() tam.Payloads) {
	s, ctx := open(), t.Context()
	list := func() map[[32]byte]int64 {
		t.Helper()
		found := map[[32]byte]int64{}
		must(t, open().Each(ctx, func(p tam.StoredPayload) error {
			found[p.Digest] = p.Size
			if age := time.Since(p.Stored); age < -time.Minute || age > time.Hour {
				t.Errorf("stored %v ago", age)
			}
			return nil
		}))
		return found
	}
	equal(t, list(), map[[32]byte]int64{})
	one, _, err := s.Put(ctx, bytes.NewReader([]byte("one")))
	must(t, err)
	two, _, err := s.Put(ctx, bytes.NewReader([]byte("two, longer")))
	must(t, err)
	equal(t, list(), map[[32]byte]int64{one: 3, two: 11})
	stop := errors.New("stop")
	visited := 0
	if err := s.Each(ctx, func(tam.StoredPayload) error { visited++; return stop }); !errors.Is(err, stop) || visited != 1 {
		t.Errorf("%v after %d payloads", err, visited)
	}
	// One that was stored after the given time stays.
	must(t, s.Delete(ctx, one, time.Now().Add(-time.Hour)))
	equal(t, len(list()), 2)
	reading, err := s.Open(ctx, one)
	must(t, err)
	defer reading.Close()
	must(t, open().Delete(ctx, one, time.Now().Add(time.Hour)))
	must(t, s.Delete(ctx, one, time.Now().Add(time.Hour)))
	equal(t, list(), map[[32]byte]int64{two: 11})
	_, err = s.Open(ctx, one)
	want(t, err, tam.ErrNotFound)
	again, _, err := s.Put(ctx, bytes.NewReader([]byte("one")))
	must(t, err)
	equal(t, again, one)
}
