// Package seal keeps a TEE's state in one folder that others can write to but not read, and not
// change unnoticed. It implements [tee.Store] for every TEE that has no sealed storage of its own:
// the TEE brings a sealing secret and, where it has one, a monotonic counter.
//
//	disk, err := seal.OpenFolder(dir)
//	store, err := seal.Open(seal.Config{Disk: disk, Secret: secret, Rand: rand.Reader})
//
// # Files
//
// Every file is a sequence of AES-256-GCM chunks of 64 KiB under a key of its own, which HKDF
// derives from the sealing secret, a random salt in the file's header, and what the file is for:
//
//	file    = magic (8) / salt (32) / chunk … / trailer
//	chunk   = GCM(up to 65,536 bytes of plaintext), nonce = 000000 / index (8) / 00, or 01 for the last
//	trailer = GCM(SHA-256 of the plaintext / its size (8)), nonce = 000000 / number of chunks (8) / 02
//
// So chunks can be neither exchanged, repeated nor left out, and a reader with 64 KiB of memory
// can authenticate any part of a file of any size.
//
//	root         the table of items: which file, by salt, holds what. Replacing it is the commit.
//	items/<salt> one immutable version of an item: the state record, the TEE's keys, the data of
//	             one application. "<salt>.new" is an item whose root may not have been written.
//	blobs/<name> one payload. Its name is a keyed hash of its digest, so that names tell nothing;
//	             "<random>.tmp" is a payload that is still arriving.
//
// # Guarantees
//
// A change is: write items/<salt>.new, sync, write root.tmp, sync, rename over root, sync the
// folder; then rename the item to its final name and remove its predecessor. What was
// acknowledged survives loss of power, and a crash at any step leaves the old or the new table. A
// change that could not be made durable is an error, and the store takes care that the old table
// stays in force.
//
// An older version of any one file that is put back is found: a root knows its items by salt and
// names the one file that it made obsolete, so an older root meets files that it cannot explain
// and misses others. An older copy of the whole folder is authentic in itself; it takes a
// [MonotonicCounter] to find that.
//
// An older version of the program itself, with a hole that an update closed, is refused once a newer one has
// opened the store (Config.Version).
//
// What the folder shows to everybody: the number and approximate sizes of payloads and items, and
// when they change.
package seal
