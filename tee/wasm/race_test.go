//go:build race

package wasm_test

// raceDetector says that compiling a large program takes half a minute.
const raceDetector = true
