package wasm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/teetest/program"
	"github.com/go-teep/teep/tee/wasm"
)

// FuzzAnyProgramIsContained checks, opens and invokes arbitrary bytes as a program: it is refused,
// or it ends within its limits with an error of package tee, and never harms the runtime.
func FuzzAnyProgramIsContained(f *testing.F) {
	for _, code := range [][]byte{
		nil, program.Echo(), program.Reactor(), program.Save("f", 0), program.Spin(), program.Allocate(),
		program.BigTable(1 << 26), program.BigMemory(1 << 15), program.Recurse(), program.Trap(),
	} {
		f.Add(code)
	}
	r := newRuntime(f, nil)
	good := openCode(f, r, program.Echo(), nil)
	f.Fuzz(func(t *testing.T, code []byte) {
		ctx := context.Background()
		l := tee.Limits{MemoryBytes: 1 << 20, CallDuration: 50 * time.Millisecond, OutputBytes: 4096, StorageBytes: 4096}
		s, err := r.Open(ctx, tee.Application{Name: "fuzzed", Code: newBlob(code), Data: &appData{}, Limits: l})
		if err != nil {
			if !errors.Is(err, wasm.ErrProgram) && !errors.Is(err, tee.ErrQuota) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		for _, command := range []string{"go", "x"} {
			_, err := s.Invoke(ctx, command, []byte("input"))
			var exit *tee.ExitError
			if err != nil && !errors.Is(err, tee.ErrQuota) && !errors.Is(err, tee.ErrTrap) && !errors.As(err, &exit) {
				t.Fatalf("invoke: %v", err)
			}
		}
		if out, err := good.Invoke(ctx, "", []byte("well")); err != nil || string(out) != "well" {
			t.Fatalf("another application afterwards: %q, %v", out, err)
		}
	})
}
