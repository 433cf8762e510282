//go:build wasip1

// Counter is a Trusted Application that stays in memory between invocations: a reactor program.
// One invocation costs microseconds instead of the start of a program.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags "-s -w" -o counter.wasm ./examples/counter
//
// It keeps named counters in sealed storage, one file each.
//
//	add   input is a counter's name; adds one to it and returns the value
//	get   returns the value
//	ping  returns the input and touches no storage
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"unsafe"
)

// main is not called in a reactor, but a Go program has one.
func main() {}

// request holds the command and the input of one invocation, response its output. They belong to
// the program; the runtime reads and writes them between calls.
var request, response []byte

// alloc gives the runtime a buffer for the next request.
//
//go:wasmexport teep_alloc
func alloc(size uint32) unsafe.Pointer {
	// One byte more, so that there is an address even for nothing.
	if int(size) >= cap(request) {
		request = make([]byte, size+1)
	}
	request = request[:cap(request)]
	return unsafe.Pointer(&request[0])
}

// invoke runs the command in the request and returns address<<32 | length of its output.
//
//go:wasmexport teep_invoke
func invoke(commandLen, inputLen uint32) uint64 {
	command := string(request[:commandLen])
	input := request[commandLen : commandLen+inputLen]
	output, err := run(command, input)
	if err != nil {
		// Exiting refuses the command; the runtime starts a fresh instance for the next one.
		fmt.Fprintln(os.Stderr, "counter: "+err.Error())
		os.Exit(1)
	}
	if len(output) == 0 {
		return 0
	}
	response = output
	return uint64(uintptr(unsafe.Pointer(&response[0])))<<32 | uint64(len(response))
}

func run(command string, input []byte) ([]byte, error) {
	switch command {
	case "ping":
		return input, nil
	case "get":
		n, err := read(string(input))
		return strconv.AppendInt(nil, n, 10), err
	case "add":
		n, err := read(string(input))
		if err != nil {
			return nil, err
		}
		value := strconv.AppendInt(nil, n+1, 10)
		return value, os.WriteFile("/data/"+string(input), value, 0o600)
	}
	return nil, fmt.Errorf("there is no command %q", command)
}

func read(name string) (int64, error) {
	if name == "" {
		return 0, errors.New("the input is the name of a counter")
	}
	text, err := os.ReadFile("/data/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(text), 10, 64)
}
