// Package wasm runs Trusted Applications: WebAssembly programs in any language, each kept apart
// from the others, from the agent and from the device. It implements [tee.Runtime] for every TEE
// in this module.
//
// # Command programs
//
// A command is a WASI preview 1 program with an export "_start", which is what compilers make by
// default (GOOS=wasip1 GOARCH=wasm go build; clang --target=wasm32-wasi). Every invocation is a
// fresh run of the program:
//
//	argv[0], argv[1]  the application's name, the command
//	stdin, stdout     the input, the output
//	stderr            goes to the log, bounded; the end of it to the caller of a failed command
//	exit code         0, or the invocation fails with *tee.ExitError and storage stays as it was
//	/data             the application's sealed storage, read and write
//	/personalization  what its owner installed beside it, read only
//	clock, random     real
//
// There is nothing else: no environment, network, other files, processes or threads.
//
// What is written below /data becomes durable in one step when the invocation succeeds, and is
// dropped when it does not. Paths are keys of [tee.AppData]; folders exist while something is
// in them.
//
// # Reactor programs
//
// A reactor stays in memory between invocations, so that one costs microseconds. It is a WASI
// preview 1 module without "_start" that exports
//
//	_initialize ()                        called once, before anything else
//	teep_alloc  (size i32) -> i32         address of a buffer of size bytes for the next request
//	teep_invoke (commandLen, inputLen i32) -> i64
//
// The runtime asks teep_alloc for a buffer, writes the command and directly behind it the input
// into it, and calls teep_invoke. The result is address<<32 | length of the output, which stays
// valid until the next call. To refuse a command a reactor writes the reason to stderr and exits
// with a code other than 0, as a command program does. In Go: -buildmode=c-shared and
// //go:wasmexport; examples/counter shows all of it.
//
// On one core of a small virtual machine an invocation of a command in Go takes about 12 ms, of a
// small command 0.1 ms, of a reactor in Go 0.1 ms, with storage 0.2 ms (BenchmarkInvoke).
//
// A reactor sees the same files. Files do not stay open across invocations. After an invocation
// that failed in any way the instance is discarded with everything in its memory, and the next
// one starts from _initialize: what it remembers never differs from what its storage says.
//
// # Interpreters
//
// An interpreter compiled to WebAssembly and the script it runs are two components: the
// interpreter is the application's Code, the script is one of its Personalization files, which
// the interpreter opens below /personalization. Either is replaced without the other.
//
// # Limits
//
// [tee.Limits] bound linear memory, time, output and storage of an application; [Config] bounds
// how many run at once and how many are open. Not every byte that the host spends is linear
// memory: compiled code is about five times the program, compiling it takes time that no limit
// counts (a second for a large one, on purpose more: who may sign programs is the limit), and a runaway recursion takes up to
// 150 MB of the host's memory for its call stack before it is stopped.
//
// Compiled code is kept in this process's memory alone, by the digest of the program, so that
// nobody outside can put code of their own in its place.
package wasm
