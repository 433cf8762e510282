package teetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/teetest/program"
)

// limits leave time enough for a slow machine; what is tested to run out of it gets less.
func limits() tee.Limits {
	return tee.Limits{MemoryBytes: 4 << 20, CallDuration: 3 * time.Second, OutputBytes: 64 << 10, StorageBytes: 64 << 10}
}

// open starts an application whose storage is that of its name.
func (b *bench) open(t *testing.T, name string, binary []byte) tee.Session {
	t.Helper()
	return b.openWith(t, name, binary, limits())
}

func (b *bench) openWith(t *testing.T, name string, binary []byte, l tee.Limits) tee.Session {
	t.Helper()
	s, err := b.tee.Runtime().Open(t.Context(), tee.Application{
		Name: name, Code: blobOf(binary), Data: b.tee.Store().AppData([]byte(name)), Limits: l,
	})
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	return s
}

// once opens an application, invokes it and closes it.
func (b *bench) once(t *testing.T, name string, binary []byte, input string) (string, error) {
	t.Helper()
	s := b.open(t, name, binary)
	out, err := s.Invoke(t.Context(), "command", []byte(input))
	must(t, s.Close())
	return string(out), err
}

func testCheck(t *testing.T, b *bench) {
	for name, binary := range map[string][]byte{"command": program.Echo(), "reactor": program.Reactor()} {
		if err := b.tee.Runtime().Check(t.Context(), blobOf(binary)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	echo := program.Echo()
	for name, binary := range map[string][]byte{
		"nothing": nil, "a script": []byte("#!/bin/sh\n"), "an ELF file": []byte("\x7fELF\x02\x01\x01"),
		"half a program": echo[:len(echo)/2], "a huge table": program.BigTable(1 << 26),
	} {
		if b.tee.Runtime().Check(t.Context(), blobOf(binary)) == nil {
			t.Errorf("%s passed for a program", name)
		}
		if _, err := b.tee.Runtime().Open(t.Context(), tee.Application{Name: name, Code: blobOf(binary)}); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
}

func testInvoke(t *testing.T, b *bench) {
	s := b.open(t, "echo", program.Echo())
	for _, in := range []string{"", "once", "and again"} {
		out, err := s.Invoke(t.Context(), "any", []byte(in))
		if err != nil || string(out) != in {
			t.Fatalf("echo of %q: %q, %v", in, out, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Invoke(ctx, "any", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("invoked with a context that was over: %v", err)
	}
	must(t, s.Close())
	must(t, s.Close())
	if _, err := s.Invoke(t.Context(), "any", nil); err == nil {
		t.Fatal("a closed session was invoked")
	}
}

func testApplicationStorage(t *testing.T, b *bench) {
	if _, err := b.once(t, "app", program.Save("f", 0), "kept"); err != nil {
		t.Fatal(err)
	}
	var exit *tee.ExitError
	if _, err := b.once(t, "app", program.Save("f", 4), "dropped"); !errors.As(err, &exit) || exit.Code != 4 {
		t.Fatalf("error is %v, want exit code 4", err)
	}
	_, err := b.once(t, "app", program.SaveThenTrap("f"), "dropped")
	want(t, "save and trap", err, tee.ErrTrap)
	_, err = b.once(t, "app", program.StoreForever("f"), "")
	want(t, "store without end", err, tee.ErrQuota)
	b.restart(t)
	if out, err := b.once(t, "app", program.Load("f"), ""); err != nil || out != "kept" {
		t.Fatalf("%q, %v", out, err)
	}
	values, err := b.tee.Store().AppData([]byte("app")).Load()
	if err != nil || string(values["f"]) != "kept" || len(values) != 1 {
		t.Fatalf("storage holds %q, %v", values, err)
	}
	must(t, b.tee.Store().AppData([]byte("app")).Remove())
	if out, err := b.once(t, "app", program.Load("f"), ""); err == nil {
		t.Fatalf("removed storage was read: %q", out)
	}
}

func testPersonalization(t *testing.T, b *bench) {
	digest := b.put(t, []byte("personal data"))
	blob, err := b.tee.Store().OpenBlob(digest)
	must(t, err)
	defer blob.Close()
	for _, tc := range []struct {
		binary []byte
		out    string
		exit   uint32
	}{
		{program.LoadPersonalization("config"), "personal data", 0},
		{program.WritePersonalization("config"), "", program.Contained},
	} {
		s, err := b.tee.Runtime().Open(t.Context(), tee.Application{
			Name: "app", Code: blobOf(tc.binary), Data: b.tee.Store().AppData([]byte("app")),
			Limits: limits(), Personalization: map[string]tee.Blob{"config": blob},
		})
		must(t, err)
		out, err := s.Invoke(t.Context(), "", nil)
		var exit *tee.ExitError
		if tc.exit == 0 && err != nil || tc.exit != 0 && (!errors.As(err, &exit) || exit.Code != tc.exit) || string(out) != tc.out {
			t.Fatalf("%q, %v; want %q, code %d", out, err, tc.out, tc.exit)
		}
		must(t, s.Close())
	}
}

func testHostile(t *testing.T, b *bench) {
	good := b.open(t, "good", program.Echo())
	defer good.Close()
	for _, tc := range []struct {
		name   string
		binary []byte
		want   error
		exit   uint32
	}{
		{"spin", program.Spin(), tee.ErrQuota, 0},
		{"sleep", program.Sleep(), tee.ErrQuota, 0},
		{"allocate", program.Allocate(), tee.ErrQuota, 0},
		{"start large", program.BigMemory(2000), tee.ErrQuota, 0},
		{"write", program.WriteForever(1), tee.ErrQuota, 0},
		{"log", program.WriteForever(2), tee.ErrQuota, 0},
		{"store", program.StoreForever("f"), tee.ErrQuota, 0},
		{"unlinked", program.Unlinked(false), tee.ErrQuota, 0},
		{"unlinked, then emptied", program.Unlinked(true), tee.ErrQuota, 0},
		{"sparse", program.SparseFile("f"), tee.ErrQuota, 0},
		{"descriptors", program.OpenForever("f"), tee.ErrQuota, 0},
		{"trap", program.Trap(), tee.ErrTrap, 0},
		{"exit", program.Exit(2, "reason"), nil, 2},
		{"files", program.Escape("/etc/passwd", "etc/passwd", "../../../etc/passwd", "../device-secret", "device-secret", "root", "../root"), nil, program.Contained},
		{"sockets", program.Socket(), nil, program.Contained},
		{"renumber", program.Renumber(), nil, program.Contained},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := limits()
			switch tc.name {
			case "spin", "sleep", "log": // nothing but the time ends them
				l.CallDuration = 500 * time.Millisecond
			}
			s := b.openWith(t, "hostile", tc.binary, l)
			defer s.Close()
			_, err := s.Invoke(t.Context(), "", []byte("input"))
			var exit *tee.ExitError
			if tc.want != nil && !errors.Is(err, tc.want) || tc.want == nil && (!errors.As(err, &exit) || exit.Code != tc.exit) {
				t.Fatalf("error is %v, want %v, code %d", err, tc.want, tc.exit)
			}
			if out, err := good.Invoke(t.Context(), "", []byte("well")); err != nil || string(out) != "well" {
				t.Fatalf("another application afterwards: %q, %v", out, err)
			}
		})
	}
	// A call stack without end is stopped, by its size or by the time it takes.
	s := b.open(t, "hostile", program.Recurse())
	defer s.Close()
	if _, err := s.Invoke(t.Context(), "", nil); !errors.Is(err, tee.ErrTrap) && !errors.Is(err, tee.ErrQuota) {
		t.Fatalf("recursion: %v", err)
	}
	b.checkNothingStored(t)
}

func (b *bench) checkNothingStored(t *testing.T) {
	t.Helper()
	if values, err := b.tee.Store().AppData([]byte("hostile")).Load(); err != nil || len(values) != 0 {
		t.Fatalf("failed invocations stored %d values, %v", len(values), err)
	}
}

func testApart(t *testing.T, b *bench) {
	if _, err := b.once(t, "one", program.Save("f", 0), "secret of one"); err != nil {
		t.Fatal(err)
	}
	if out, err := b.once(t, "two", program.Load("f"), ""); err == nil {
		t.Fatalf("another application read %q", out)
	}
	var exit *tee.ExitError
	if _, err := b.once(t, "two", program.Escape("f", "../one/f", "../f", "../../f"), ""); !errors.As(err, &exit) || exit.Code != program.Contained {
		t.Fatalf("another application reached it: %v", err)
	}
	if out, err := b.once(t, "one", program.Load("f"), ""); err != nil || out != "secret of one" {
		t.Fatalf("%q, %v", out, err)
	}
}

func testConcurrentSessions(t *testing.T, b *bench) {
	var wg sync.WaitGroup
	for i := range 4 {
		s := b.open(t, fmt.Sprint("app", i%2), program.Echo())
		for range 3 {
			wg.Go(func() {
				in := fmt.Sprint("input ", i)
				if out, err := s.Invoke(t.Context(), "", []byte(in)); err != nil || string(out) != in {
					t.Errorf("session %d: %q, %v", i, out, err)
				}
			})
		}
		defer s.Close()
	}
	wg.Wait()
}

func testReactor(t *testing.T, b *bench) {
	s := b.open(t, "reactor", program.Reactor())
	defer s.Close()
	for _, tc := range []struct {
		command string
		want    error
	}{{"echo", nil}, {"x", tee.ErrTrap}, {"echo", nil}, {"s", tee.ErrQuota}, {"p", tee.ErrTrap}, {"h", tee.ErrQuota}, {"echo", nil}} {
		out, err := s.Invoke(t.Context(), tc.command, []byte("input"))
		if !errors.Is(err, tc.want) || tc.want == nil && string(out) != "input" {
			t.Fatalf("command %s: %q, %v; want %v", tc.command, out, err, tc.want)
		}
	}
}
