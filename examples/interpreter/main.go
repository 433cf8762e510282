//go:build wasip1

// Interpreter is a runtime inside the TEE: it runs scripts, which are Trusted Components of their
// own with a manifest that depends on the interpreter's (trust domains §template-dependency).
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags "-s -w" -o interpreter.wasm ./examples/interpreter
//
// An app on the device opens the script, not the interpreter. The TEE starts the interpreter with
// the script as /personalization/application, the script's own sealed storage in /data, and what
// belongs to the script in /personalization.
//
// Scripts are in a small language of words on a stack, as in Forth. The command of an invocation is
// the word to run; what it leaves on the stack is the output, a line each.
//
//	: greet   "Hello, " input cat "!" cat ;          # input of the invocation
//	: motto   "motto" data ;                         # a personalization file
//	: visit   "visits" load 1 + dup "visits" store ; # sealed storage; what is not there is empty
//	: size    input len dup 10 > if drop "long" else drop "short" then ;
//
// Words: + - * / = < > cat len dup drop swap over, "name" load, value "name" store, "name" data,
// input, if … else … then, fail (refuses the invocation with the text on the stack). "#" begins a
// comment. Numbers are texts of digits; arithmetic takes an empty text for 0.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const scriptFile = "/personalization/application"

func main() {
	output, err := run()
	if err != nil {
		// A code other than 0 refuses the command, and undoes what was written to /data.
		fmt.Fprintln(os.Stderr, "interpreter: "+err.Error())
		os.Exit(1)
	}
	if _, err := os.Stdout.WriteString(output); err != nil {
		os.Exit(1)
	}
}

func run() (string, error) {
	if len(os.Args) != 2 || os.Args[1] == "" {
		return "", errors.New("name the word to run")
	}
	source, err := os.ReadFile(scriptFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", errors.New("no script: install one with a manifest that depends on this one, and open that")
	}
	if err != nil {
		return "", err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return "", err
	}
	m, err := load(string(source))
	if err != nil {
		return "", err
	}
	m.input = string(input)
	if _, ok := m.words[os.Args[1]]; !ok {
		return "", fmt.Errorf("the script does not define %q", os.Args[1])
	}
	if err := m.call(os.Args[1]); err != nil {
		return "", err
	}
	return strings.Join(m.stack, "\n"), nil
}
