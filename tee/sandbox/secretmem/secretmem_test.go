package secretmem_test

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/go-teep/teep/tee/sandbox/secretmem"
)

func page(t *testing.T) *secretmem.Page {
	t.Helper()
	p, err := secretmem.New()
	if p == nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Logf("this system does not protect the page: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestKeepMoves(t *testing.T) {
	p := page(t)
	one, two := []byte("the first secret"), []byte("the second")
	a, err := p.Keep(one)
	if err != nil || string(a) != "the first secret" || !bytes.Equal(one, make([]byte, len(one))) {
		t.Fatalf("%q, %q, %v", a, one, err)
	}
	b, err := p.Keep(two)
	if err != nil || string(b) != "the second" || string(a) != "the first secret" {
		t.Fatalf("%q, %q, %v", a, b, err)
	}
	if cap(a) != len(a) {
		t.Error("what is appended to the first overwrites the second")
	}
}

func TestFull(t *testing.T) {
	p := page(t)
	if _, err := p.Keep(make([]byte, 1<<20)); !errors.Is(err, secretmem.ErrFull) {
		t.Fatal(err)
	}
	if b, err := p.Keep([]byte("still")); err != nil || string(b) != "still" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestCloseZeroes(t *testing.T) {
	p := page(t)
	b, err := p.Keep([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, make([]byte, 6)) {
		t.Fatalf("after Close: %q", b)
	}
	if _, err := p.Keep([]byte("more")); err == nil {
		t.Fatal("a closed page took a secret")
	}
}

// TestUnreadableByDebuggers reads this process's memory in the way that a debugger does.
func TestUnreadableByDebuggers(t *testing.T) {
	p := page(t)
	if p.Kind() != secretmem.KindSecret {
		t.Skipf("this kernel does not give memfd_secret, but %s", p.Kind())
	}
	secret, err := p.Keep([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte("secret")
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip("no /proc/self/mem: ", err)
	}
	defer mem.Close()
	read := func(b []byte) error {
		_, err := mem.ReadAt(make([]byte, len(b)), int64(uintptr(unsafe.Pointer(&b[0]))))
		return err
	}
	if err := read(plain); err != nil {
		t.Fatalf("ordinary memory cannot be read so: %v", err)
	}
	if read(secret) == nil {
		t.Error("secret memory was read")
	}
	runtime.KeepAlive(plain)
}
