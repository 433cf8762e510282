// Package vectors finds the test vectors that others made. They are read where they lie and are
// never copied into the project, so that tests do not mark their own homework.
package vectors

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Dir returns the folder of the vectors: $TEEP_VECTORS, or shared/vectors beside the checkout.
// Without them the test is skipped with a line that says so; under CI=true it fails.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("TEEP_VECTORS")
	if dir == "" {
		dir = filepath.Join(checkout(tb), "..", "shared", "vectors")
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		const msg = "test vectors not found: set TEEP_VECTORS, or put shared/vectors beside the checkout"
		if os.Getenv("CI") == "true" {
			tb.Fatal(msg)
		}
		tb.Skip(msg)
	}
	return dir
}

// checkout is the folder of go.mod, above the folder of the package, in which tests run. What the compiler
// says of where this file is would not do: it says nothing with -trimpath.
func checkout(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			tb.Fatal("the tests do not run in the checkout: there is no go.mod above the working directory")
		}
		dir = above
	}
}

// Read returns the bytes of one vector, by its path below Dir.
func Read(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(Dir(tb), filepath.FromSlash(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// Hex returns the bytes of a vector that is written in hexadecimal, with white space and, from
// '#' or '/' comments on, anything else ignored.
func Hex(tb testing.TB, name string) []byte {
	tb.Helper()
	var digits strings.Builder
	for line := range strings.Lines(string(Read(tb, name))) {
		line, _, _ = strings.Cut(line, "#")
		for _, c := range line {
			if strings.ContainsRune("0123456789abcdefABCDEF", c) {
				digits.WriteRune(c)
			}
		}
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return data
}

// Names lists the vectors in a folder that end in suffix, by path below Dir.
func Names(tb testing.TB, folder, suffix string) []string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(Dir(tb), folder, "*"+suffix))
	if err != nil || len(found) == 0 {
		tb.Fatalf("no vectors %s/*%s (%v)", folder, suffix, err)
	}
	for i, f := range found {
		found[i] = folder + "/" + filepath.Base(f)
	}
	return found
}
