//go:build wasip1

// Hello is a Trusted Application: a command program for the WebAssembly runtime of a TEE. It
// shows everything that such a program can do.
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags "-s -w -X main.version=1.0.0" -o hello.wasm ./examples/hello
//
// The runtime starts it once for each invocation: the command is os.Args[1], the input is stdin,
// the output is stdout. Files below /data are its sealed storage; they are kept if it exits with
// 0. Files below /personalization are what its owner installed beside it.
//
//	greet   input is a name; greets it
//	count   counts its invocations in sealed storage
//	digest  SHA-256 of the input, in hexadecimal
//	remember, recall  keep the input in sealed storage, and return it
//	secret  SHA-256 of the personalization file "secret": proof of having it without showing it
//	whoami  name, version, time, and what it can see of its surroundings
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// version is set by the linker: -X main.version=1.2.3.
var version = "unreleased"

const (
	countFile  = "/data/count"
	noteFile   = "/data/note"
	secretFile = "/personalization/secret"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: hello COMMAND: greet, count, digest, remember, recall, secret or whoami")
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err.Error())
	}
	output, err := run(os.Args[1], input)
	if err != nil {
		fail(err.Error())
	}
	if _, err := os.Stdout.Write(output); err != nil {
		fail(err.Error())
	}
}

// fail refuses the command: a code other than 0 also undoes what was written to /data.
func fail(reason string) {
	fmt.Fprintln(os.Stderr, "hello: "+reason)
	os.Exit(1)
}

func run(command string, input []byte) ([]byte, error) {
	switch command {
	case "greet":
		return greet(string(input))
	case "count":
		return count()
	case "digest":
		return fmt.Appendf(nil, "%x", sha256.Sum256(input)), nil
	case "remember":
		return nil, os.WriteFile(noteFile, input, 0o600)
	case "recall":
		return os.ReadFile(noteFile)
	case "secret":
		return secret()
	case "whoami":
		return whoami(), nil
	}
	return nil, fmt.Errorf("there is no command %q", command)
}

func greet(name string) ([]byte, error) {
	name = strings.TrimSpace(name)
	if name == "" {
		return nil, errors.New("greet needs a name as its input")
	}
	return fmt.Appendf(nil, "Hello, %s! This is hello %s, inside the TEE.", name, version), nil
}

func count() ([]byte, error) {
	n := 0
	switch text, err := os.ReadFile(countFile); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if n, err = strconv.Atoi(string(text)); err != nil {
			return nil, fmt.Errorf("the stored count is damaged: %w", err)
		}
	}
	text := []byte(strconv.Itoa(n + 1))
	return text, os.WriteFile(countFile, text, 0o600)
}

func secret() ([]byte, error) {
	b, err := os.ReadFile(secretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no secret was installed for this application")
	}
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%x", sha256.Sum256(b)), nil
}

func whoami() []byte {
	return fmt.Appendf(nil, "%s %s\ntime %s\nenvironment variables %d\npersonalization files %d\nstored files %d\n",
		os.Args[0], version, time.Now().UTC().Format(time.RFC3339), len(os.Environ()),
		files("/personalization"), files("/data"))
}

func files(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	return len(entries)
}
