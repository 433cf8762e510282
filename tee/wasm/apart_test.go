package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/teetest/program"
)

// TestApplicationsAreApart: applications of one and the same compiled program, at the same time,
// get back what they were given, and their storage is their own. That none can import a memory,
// TestProgramsThatAreRefused shows.
func TestApplicationsAreApart(t *testing.T) {
	r := newRuntime(t, nil)
	reactor := program.Reactor()
	var wg sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprint("app", i)
		s := open(t, r, tee.Application{Name: name, Code: newBlob(reactor), Data: &appData{}, Limits: limits()})
		wg.Go(func() {
			for n := range 50 {
				in := fmt.Sprint(name, " says ", n)
				if out, err := s.Invoke(t.Context(), "echo", []byte(in)); err != nil || string(out) != in {
					t.Errorf("%s: %q, %v", name, out, err)
				}
			}
		})
	}
	wg.Wait()
	one, two := &appData{}, &appData{}
	if _, err := openCode(t, r, program.Save("f", 0), one).Invoke(t.Context(), "", []byte("of one")); err != nil {
		t.Fatal(err)
	}
	load := program.Load("f")
	if out, err := open(t, r, tee.Application{Name: "two", Code: newBlob(load), Data: two, Limits: limits()}).Invoke(t.Context(), "", nil); err == nil {
		t.Errorf("another application read %q", out)
	}
	if out, err := open(t, r, tee.Application{Name: "one", Code: newBlob(load), Data: one, Limits: limits()}).Invoke(t.Context(), "", nil); err != nil || string(out) != "of one" {
		t.Errorf("its owner read %q, %v", out, err)
	}
}

// TestCrashHarmsNoOther: while others end in every bad way, one goes on answering.
func TestCrashHarmsNoOther(t *testing.T) {
	r := newRuntime(t, nil)
	good := open(t, r, tee.Application{Name: "good", Code: newBlob(program.Reactor()), Data: &appData{}, Limits: limits()})
	ctx, done := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	answered := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if out, err := good.Invoke(t.Context(), "echo", []byte("still here")); err != nil || string(out) != "still here" {
				t.Errorf("%q, %v", out, err)
				return
			}
			answered++
		}
	})
	for name, code := range map[string][]byte{
		"traps": program.Trap(), "spins": program.Spin(), "recurses": program.Recurse(), "allocates": program.Allocate(),
		"exits": program.Exit(9, "no"), "floods": program.WriteForever(1), "fills": program.StoreForever("f"),
	} {
		s := open(t, r, tee.Application{Name: name, Code: newBlob(code), Data: &appData{}, Limits: limits()})
		_, err := s.Invoke(t.Context(), "", nil)
		var exit *tee.ExitError
		if !errors.Is(err, tee.ErrTrap) && !errors.Is(err, tee.ErrQuota) && !errors.As(err, &exit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	done()
	wg.Wait()
	if answered < 7 {
		t.Errorf("the good one answered %d times only", answered)
	}
}

// turncoat is a program that is another one when it is read again.
type turncoat struct {
	tee.Blob
	next tee.Blob
	size int64
}

func (b *turncoat) Size() int64 { return b.size }

func (b *turncoat) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Blob.ReadAt(p, off)
	b.Blob = b.next
	return n, err
}

// moduleHeader is the length of what section puts before a section.
const moduleHeader = 8

// padded makes a program longer by a custom section, which means nothing.
func padded(t *testing.T, code []byte, size int) []byte {
	t.Helper()
	body := append([]byte{1, 'x'}, make([]byte, size-len(code)-4)...)
	code = append(code, section(0, body...)[moduleHeader:]...)
	if len(code) != size {
		t.Fatalf("%d bytes, not %d", len(code), size)
	}
	return code
}

// TestCompiledCodeIsByContent: neither an application's name nor an earlier reading decides which
// compiled code runs, but what was read for this session.
func TestCompiledCodeIsByContent(t *testing.T) {
	r := newRuntime(t, nil)
	echo, exit := program.Echo(), program.Exit(7, "")
	size := max(len(echo), len(exit)) + 4
	echo, exit = padded(t, echo, size), padded(t, exit, size)
	blob := &turncoat{Blob: newBlob(echo), next: newBlob(exit), size: int64(size)}
	if err := r.Check(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	var ended *tee.ExitError
	if out, err := open(t, r, tee.Application{Name: "app", Code: blob, Data: &appData{}, Limits: limits()}).Invoke(t.Context(), "", []byte("in")); !errors.As(err, &ended) || ended.Code != 7 {
		t.Errorf("what was read is not what ran: %q, %v", out, err)
	}
	if out, err := openCode(t, r, echo, &appData{}).Invoke(t.Context(), "", []byte("in")); err != nil || string(out) != "in" {
		t.Errorf("%q, %v", out, err)
	}
}
