package teeptest

import "encoding/binary"

// Program makes a WebAssembly program that answers every command with text. Compiling it takes a
// runtime next to no time; tests that need more of an application bring their own.
func Program(text string) []byte {
	const (
		i32      = 0x7f
		textAt   = 16 // after the ciovec at 0 and the count of written bytes at 8
		pageSize = 64 << 10
	)
	sized := func(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }
	section := func(id byte, items ...[]byte) []byte {
		body := binary.AppendUvarint(nil, uint64(len(items)))
		for _, item := range items {
			body = append(body, item...)
		}
		return append([]byte{id}, sized(body)...)
	}
	name := func(s string) []byte { return sized([]byte(s)) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	data := binary.LittleEndian.AppendUint32(nil, textAt)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(text)))
	data = append(append(data, make([]byte, textAt-len(data))...), text...)
	// _start: fd_write(stdout 1, ciovec at 0, one of them, count at 8); drop.
	start := []byte{0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a, 0x0b}
	return join(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{0x60, 4, i32, i32, i32, i32, 1, i32}, []byte{0x60, 0, 0}),
		section(2, join(name("wasi_snapshot_preview1"), name("fd_write"), []byte{0, 0})),
		section(3, []byte{1}),
		section(5, binary.AppendUvarint([]byte{0}, uint64(len(data)/pageSize+1))),
		section(7, join(name("memory"), []byte{2, 0}), join(name("_start"), []byte{0, 1})),
		section(10, sized(start)),
		section(11, join([]byte{0, 0x41, 0, 0x0b}, sized(data))),
	)
}
