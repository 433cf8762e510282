// Package archtest holds the shape of the house: which room may import which, what a room must
// not pull in from outside, that every package says what it is, and that files stay small.
// It has no code of its own; its tests read the module with go list and the Go parser.
package archtest
