// Package program makes small WebAssembly programs, well-behaved and hostile ones, for tests of a
// TEE's runtime. They need no compiler, and each does one thing that a compiler would not let a
// program do by itself: spin, swallow memory, write without end, reach for files and sockets.
//
// Programs that try to break out end with the code [Contained] when every attempt failed, and
// with 0 when one succeeded.
package program

import (
	"encoding/binary"
)

// Contained is the exit code of a program that tried to break out and could not.
const Contained = 77

// The functions that every program imports, by index; its own follow.
const (
	procExit = iota
	fdWrite
	fdRead
	pathOpen
	sockAccept
	pollOneoff
	fdRenumber
	fdSeek
	pathFilestatGet
	pathUnlinkFile
	fdFilestatSetSize
	imports
)

// Addresses in the memory of every program.
const (
	iov     = 16       // ciovec: address, length
	result  = 32       // where host functions put results
	text    = 1024     // the program's constant text
	buffer  = 64 << 10 // input, one page in
	bufSize = 60 << 10
)

const (
	i32 = 0x7f
	i64 = 0x7e
)

var types = [][2][]byte{
	0:  {{}, {}},
	1:  {{i32}, {}},
	2:  {{i32, i32, i32, i32}, {i32}},
	3:  {{i32, i32, i32, i32, i32, i64, i64, i32, i32}, {i32}},
	4:  {{i32, i32, i32}, {i32}},
	5:  {{i32, i32}, {i32}},
	6:  {{i32, i64, i32, i32}, {i32}},
	7:  {{i32, i32, i32, i32, i32}, {i32}},
	8:  {{i32}, {i32}},
	9:  {{i32, i32}, {i64}},
	10: {{i32, i64}, {i32}},
}

var wasi = []struct {
	name string
	typ  byte
}{
	procExit: {"proc_exit", 1}, fdWrite: {"fd_write", 2}, fdRead: {"fd_read", 2},
	pathOpen: {"path_open", 3}, sockAccept: {"sock_accept", 4}, pollOneoff: {"poll_oneoff", 2},
	fdRenumber: {"fd_renumber", 5}, fdSeek: {"fd_seek", 6}, pathFilestatGet: {"path_filestat_get", 7},
	pathUnlinkFile: {"path_unlink_file", 4}, fdFilestatSetSize: {"fd_filestat_set_size", 10},
}

// code is the body of a function. It has one local of type i32.
type code []byte

func (c *code) op(b ...byte)    { *c = append(*c, b...) }
func (c *code) i32(n int32)     { *c = appendSigned(append(*c, 0x41), int64(n)) }
func (c *code) i64(n int64)     { *c = appendSigned(append(*c, 0x42), n) }
func (c *code) call(f int)      { *c = binary.AppendUvarint(append(*c, 0x10), uint64(f)) }
func (c *code) drop()           { c.op(0x1a) }
func (c *code) get()            { c.op(0x20, 0) }
func (c *code) set()            { c.op(0x21, 0) }
func (c *code) loop()           { c.op(0x03, 0x40) }
func (c *code) br(depth byte)   { c.op(0x0c, depth) }
func (c *code) brIf(depth byte) { c.op(0x0d, depth) }
func (c *code) ifThen()         { c.op(0x04, 0x40) }
func (c *code) end()            { c.op(0x0b) }
func (c *code) eqz()            { c.op(0x45) }
func (c *code) load()           { c.op(0x28, 2, 0) }
func (c *code) store()          { c.op(0x36, 2, 0) }

func (c *code) exit(n int32) {
	c.i32(n)
	c.call(procExit)
}

// io calls fd_read or fd_write on a descriptor, whose number is on the stack; leaves the errno.
func (c *code) io(f int, address, length int32) {
	c.set()
	c.i32(iov)
	c.i32(address)
	c.store()
	c.i32(iov + 4)
	c.i32(length)
	c.store()
	c.get()
	c.i32(iov)
	c.i32(1)
	c.i32(result)
	c.call(f)
}

// open calls path_open with read and write rights; leaves the errno, and the descriptor at result.
func (c *code) open(fd, path, pathLen, oflags int32, rights int64) {
	c.i32(fd)
	c.i32(0)
	c.i32(path)
	c.i32(pathLen)
	c.i32(oflags)
	c.i64(rights)
	c.i64(0)
	c.i32(0)
	c.i32(result)
	c.call(pathOpen)
}

// orExit ends the program with the errno on the stack unless it is 0.
func (c *code) orExit() {
	c.set()
	c.get()
	c.ifThen()
	c.get()
	c.call(procExit)
	c.end()
}

// breach ends the program with 0 if the errno on the stack is 0.
func (c *code) breach() {
	c.eqz()
	c.ifThen()
	c.exit(0)
	c.end()
}

const (
	rightsRead  = 1 << 1
	rightsWrite = 1 << 6
	oCreate     = 1
	oTruncate   = 8
	dataFD      = 3 // the first preopened folder
)

func appendSigned(b []byte, n int64) []byte {
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func sized(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

func section(id byte, items ...[]byte) []byte {
	body := binary.AppendUvarint(nil, uint64(len(items)))
	for _, it := range items {
		body = append(body, it...)
	}
	return append([]byte{id}, sized(body)...)
}

// function is one of a module's own, exported if it has a name.
type function struct {
	name string
	typ  byte
	body code
}

// module is a program before it is encoded.
type module struct {
	functions []function
	data      string // at text
	pages     uint64 // initial memory
	table     uint64 // entries of a table, 0 for none
}

func (m module) encode() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	var typs, imps, funcs, exports, bodies [][]byte
	for _, t := range types {
		typs = append(typs, append(append([]byte{0x60}, sized(t[0])...), sized(t[1])...))
	}
	for _, f := range wasi {
		imp := append(sized([]byte("wasi_snapshot_preview1")), sized([]byte(f.name))...)
		imps = append(imps, append(imp, 0, f.typ))
	}
	exports = append(exports, append(sized([]byte("memory")), 2, 0))
	for i, f := range m.functions {
		funcs = append(funcs, []byte{f.typ})
		if f.name != "" {
			exports = append(exports, binary.AppendUvarint(append(sized([]byte(f.name)), 0), uint64(imports+i)))
		}
		locals := []byte{1, 1, i32}
		bodies = append(bodies, sized(append(append(locals, f.body...), 0x0b)))
	}
	out = append(out, section(1, typs...)...)
	out = append(out, section(2, imps...)...)
	out = append(out, section(3, funcs...)...)
	if m.table > 0 {
		out = append(out, section(4, binary.AppendUvarint([]byte{0x70, 0}, m.table))...)
	}
	out = append(out, section(5, binary.AppendUvarint([]byte{0}, max(m.pages, 2)))...)
	out = append(out, section(7, exports...)...)
	out = append(out, section(10, bodies...)...)
	var offset code
	offset.op(0)
	offset.i32(text)
	offset.end()
	return append(out, section(11, append(offset, sized([]byte(m.data))...))...)
}

func command(data string, body code) []byte {
	return module{data: data, functions: []function{{name: "_start", body: body}}}.encode()
}
