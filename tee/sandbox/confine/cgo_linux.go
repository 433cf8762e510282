//go:build cgo

package confine

// builtWithCgo says that threads of this program may belong to C. What all threads have to do is then left to
// libpsx, which finds them in /proc: in the namespaces of the confined process there is none, and it would wait
// for ever.
const builtWithCgo = true
