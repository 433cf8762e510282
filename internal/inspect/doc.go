// Package inspect says what a piece of data is, shows it to people, and lists what is wrong with
// it. It knows every structure that TEEP devices and servers exchange or store: TEEP messages,
// SUIT envelopes, manifests and reports, EAT claims, COSE messages and COSE keys.
//
// [Notation] is the short way: annotated diagnostic notation and nothing else.
//
//	text, err := inspect.Notation(message)
//
// [Inspect] does everything: it finds out whether the input is binary, hexadecimal or base64,
// opens what is inside recursively, checks signatures with the keys it is given, decrypts what it
// has the keys for, and cites for each finding the section of the text that says so.
//
//	report, err := inspect.Inspect(data, inspect.Options{Keys: keys})
//
// Nothing here decides what is accepted; the packages that process messages do, and their verdict
// is among the findings. This package is more lenient, because broken data is what one looks at
// with it. Private and symmetric keys are never shown.
//
// The package does no I/O and keeps no state; all functions are safe for concurrent use.
package inspect
