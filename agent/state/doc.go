// Package state is the agent's memory as bytes: one small record that names everything a TEEP
// Agent must not forget. Payloads are not in it; they are content-addressed blobs beside it, and
// the record says which blobs count. Replacing the record is what installs, updates and removes.
//
// [Decode] is strict: a record that it accepts encodes back to the same bytes, so nothing in
// sealed state is ignored, doubled or guessed. [Record] is treated as immutable once it is the
// current one; a change is a [Record.Clone] that is edited and replaces it.
package state
