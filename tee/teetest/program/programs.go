package program

import "bytes"

// Echo copies its input, up to 60 KiB, to its output.
func Echo() []byte {
	var c code
	c.i32(0)
	c.io(fdRead, buffer, bufSize)
	c.orExit()
	c.echoResult(1)
	return command("", c)
}

// Greeter answers every command with a greeting of whom its input names, as examples/hello answers "greet", but is
// compiled in no time. The module is padded to about the given size in bytes.
func Greeter(version string, size int) []byte {
	const hello = "Hello, "
	rest := "! This is hello " + version + ", inside the TEE."
	var c code
	c.i32(0)
	c.io(fdRead, buffer, bufSize)
	c.orExit()
	// The result of reading is where that of writing goes, so the input's length is taken to where it is safe.
	c.i32(result + 4)
	c.i32(result)
	c.load()
	c.store()
	c.i32(1)
	c.io(fdWrite, text, int32(len(hello)))
	c.orExit()
	c.i32(result)
	c.i32(result + 4)
	c.load()
	c.store()
	c.echoResult(1)
	c.i32(1)
	c.io(fdWrite, text+int32(len(hello)), int32(len(rest)))
	c.orExit()
	module := command(hello+rest, c)
	padding := append(sized([]byte("greet")), bytes.Repeat([]byte("and so on "), size/10)...)
	return append(module, append([]byte{0}, sized(padding)...)...)
}

// echoResult writes what was just read into buffer to a descriptor.
func (c *code) echoResult(fd int32) {
	c.i32(iov)
	c.i32(buffer)
	c.store()
	c.i32(iov + 4)
	c.i32(result)
	c.load()
	c.store()
	c.i32(fd)
	c.i32(iov)
	c.i32(1)
	c.i32(result)
	c.call(fdWrite)
	c.orExit()
}

// Exit writes text to stderr and ends with the code.
func Exit(exitCode int32, stderr string) []byte {
	var c code
	c.i32(2)
	c.io(fdWrite, text, int32(len(stderr)))
	c.drop()
	c.exit(exitCode)
	return command(stderr, c)
}

// Save writes its input to a file below /data; it then ends with the code.
func Save(name string, exitCode int32) []byte {
	var c code
	c.save(name)
	c.exit(exitCode)
	return command(name, c)
}

func (c *code) save(name string) {
	c.open(dataFD, text, int32(len(name)), oCreate|oTruncate, rightsRead|rightsWrite)
	c.orExit()
	// The descriptor moves out of the way of further results.
	c.i32(8)
	c.i32(result)
	c.load()
	c.store()
	c.i32(0)
	c.io(fdRead, buffer, bufSize)
	c.orExit()
	c.i32(iov + 4)
	c.i32(result)
	c.load()
	c.store()
	c.i32(8)
	c.load()
	c.i32(iov)
	c.i32(1)
	c.i32(result)
	c.call(fdWrite)
	c.orExit()
}

// SaveThenTrap writes its input to a file below /data and then executes unreachable.
func SaveThenTrap(name string) []byte {
	var c code
	c.save(name)
	c.op(0x00)
	return command(name, c)
}

// Load prints a file below /data; it ends with the errno of path_open if there is none.
func Load(name string) []byte { return load(dataFD, name) }

// LoadPersonalization prints a file below /personalization.
func LoadPersonalization(name string) []byte { return load(dataFD+1, name) }

func load(fd int32, name string) []byte {
	var c code
	c.open(fd, text, int32(len(name)), 0, rightsRead)
	c.orExit()
	c.i32(result)
	c.load()
	c.io(fdRead, buffer, bufSize)
	c.orExit()
	c.echoResult(1)
	return command(name, c)
}

// Spin never ends.
func Spin() []byte {
	var c code
	c.loop()
	c.br(0)
	c.end()
	return command("", c)
}

// Sleep sleeps for ten hours.
func Sleep() []byte {
	var c code
	// A subscription of 48 bytes at buffer: type clock (0) at 8, monotonic (1) at 16, timeout at 24.
	c.i32(buffer + 16)
	c.i32(1)
	c.store()
	c.i32(buffer + 24)
	c.i64(10 * 3600 * 1e9)
	c.op(0x37, 3, 0) // i64.store
	c.i32(buffer)
	c.i32(buffer + 1024)
	c.i32(1)
	c.i32(result)
	c.call(pollOneoff)
	c.orExit()
	return command("", c)
}

// Allocate takes memory, a MiB at a time, until it is refused, and traps then.
func Allocate() []byte {
	var c code
	c.loop()
	c.i32(16)
	c.op(0x40, 0) // memory.grow
	c.i32(-1)
	c.op(0x47) // i32.ne
	c.brIf(0)
	c.end()
	c.op(0x00)
	return command("", c)
}

// BigMemory declares an initial memory of so many 64 KiB pages, and does nothing.
func BigMemory(pages uint64) []byte {
	return module{pages: pages, functions: []function{{name: "_start"}}}.encode()
}

// BigTable declares a table of so many entries, which the host would have to pay for.
func BigTable(entries uint64) []byte {
	return module{table: entries, functions: []function{{name: "_start"}}}.encode()
}

// WriteForever writes to a descriptor (1: stdout, 2: stderr) without end.
func WriteForever(fd int32) []byte {
	var c code
	c.loop()
	c.i32(fd)
	c.io(fdWrite, buffer, 4096)
	c.drop()
	c.br(0)
	c.end()
	return command("", c)
}

// StoreForever appends to a file below /data until it is refused, and ends with 0 as if nothing
// had happened.
func StoreForever(name string) []byte {
	var c code
	c.open(dataFD, text, int32(len(name)), oCreate, rightsRead|rightsWrite)
	c.orExit()
	c.i32(8)
	c.i32(result)
	c.load()
	c.store()
	c.loop()
	c.i32(8)
	c.load()
	c.io(fdWrite, buffer, 4096)
	c.eqz()
	c.brIf(0)
	c.end()
	c.exit(0)
	return command(name, c)
}

// Unlinked writes three files of 60 KiB below /data and takes their names away while it has them open. With
// truncate, it then makes them empty, for which a careless host gives back a second time what they used, and
// writes three of that size with names. It ends with 0 if nothing is refused.
func Unlinked(truncate bool) []byte {
	const names = "abcd" // d is the one that comes and goes
	var c code
	write := func(name int32) {
		c.open(dataFD, text+name, 1, oCreate, rightsRead|rightsWrite)
		c.orExit()
		c.i32(8)
		c.i32(result)
		c.load()
		c.store()
		c.i32(8)
		c.load()
		c.io(fdWrite, buffer, bufSize)
		c.orExit()
	}
	for range 3 {
		write(3)
		c.i32(dataFD)
		c.i32(text + 3)
		c.i32(1)
		c.call(pathUnlinkFile)
		c.orExit()
		if truncate {
			c.i32(8)
			c.load()
			c.i64(0)
			c.call(fdFilestatSetSize)
			c.orExit()
		}
	}
	if truncate {
		for name := range int32(3) {
			write(name)
		}
	}
	c.exit(0)
	return command(names, c)
}

// SparseFile writes one byte at an offset of 2^62 of a file below /data.
func SparseFile(name string) []byte {
	var c code
	c.open(dataFD, text, int32(len(name)), oCreate, rightsRead|rightsWrite)
	c.orExit()
	c.i32(8)
	c.i32(result)
	c.load()
	c.store()
	c.i32(8)
	c.load()
	c.i64(1 << 62)
	c.i32(0)
	c.i32(result)
	c.call(fdSeek)
	c.orExit()
	c.i32(8)
	c.load()
	c.io(fdWrite, buffer, 1)
	c.orExit()
	return command(name, c)
}

// Recurse calls itself without end.
func Recurse() []byte {
	var start, f code
	start.call(imports + 1)
	f.call(imports + 1)
	f.call(imports + 1) // not a tail call
	return module{functions: []function{{name: "_start", body: start}, {body: f}}}.encode()
}

// Trap executes unreachable.
func Trap() []byte { return command("", code{0x00}) }

// Escape tries to open each path for reading, for writing and to create, and to see whether it
// exists, from every descriptor up to 15.
func Escape(paths ...string) []byte {
	var c code
	var data string
	for _, p := range paths {
		at, n := int32(text+len(data)), int32(len(p))
		data += p
		for fd := int32(0); fd < 16; fd++ {
			c.open(fd, at, n, 0, rightsRead)
			c.breach()
			c.open(fd, at, n, 0, rightsRead|rightsWrite)
			c.breach()
			c.i32(fd)
			c.i32(0)
			c.i32(at)
			c.i32(n)
			c.i32(buffer)
			c.call(pathFilestatGet)
			c.breach()
		}
	}
	c.exit(Contained)
	return command(data, c)
}

// WritePersonalization tries to change a file below /personalization and to make one there.
func WritePersonalization(name string) []byte {
	var c code
	n := int32(len(name))
	c.open(dataFD+1, text, n, 0, rightsRead|rightsWrite)
	c.breach()
	c.open(dataFD+1, text, n, oTruncate, rightsRead)
	c.breach()
	c.open(dataFD+1, text, n+1, oCreate, rightsRead|rightsWrite)
	c.breach()
	c.exit(Contained)
	return command(name+"2", c)
}

// Socket tries to accept connections on every descriptor up to 63.
func Socket() []byte {
	var c code
	for fd := int32(0); fd < 64; fd++ {
		c.i32(fd)
		c.i32(0)
		c.i32(result)
		c.call(sockAccept)
		c.breach()
	}
	c.exit(Contained)
	return command("", c)
}

// Renumber tries to move descriptors to the highest number there is, which makes a careless host
// allocate a table of that length.
func Renumber() []byte {
	var c code
	for fd := int32(0); fd < 8; fd++ {
		c.i32(fd)
		c.i32(0x7fffffff)
		c.call(fdRenumber)
		c.breach()
	}
	c.exit(Contained)
	return command("", c)
}

// OpenForever opens a file below /data over and over without closing it.
func OpenForever(name string) []byte {
	var c code
	c.loop()
	c.open(dataFD, text, int32(len(name)), oCreate, rightsRead|rightsWrite)
	c.eqz()
	c.brIf(0)
	c.end()
	c.exit(0)
	return command(name, c)
}

// Reactor is a reactor that returns its input as its output. For the command "x" it traps, for
// "s" it spins, for "p" it returns a pointer outside of memory, for "h" it says that its output
// has 4 GiB.
func Reactor() []byte {
	var alloc, invoke code
	alloc.i32(buffer)
	// The command's first byte is at buffer, the input behind the command.
	for _, c := range []struct {
		command byte
		body    func(*code)
	}{
		{'x', func(c *code) { c.op(0x00) }},
		{'s', func(c *code) { c.loop(); c.br(0); c.end() }},
		{'p', func(c *code) { c.i64(0x7fffffff<<32 | 16); c.op(0x0f) }},
		{'h', func(c *code) { c.i64(0xffffffff); c.op(0x0f) }},
	} {
		invoke.i32(buffer)
		invoke.op(0x2d, 0, 0) // i32.load8_u
		invoke.i32(int32(c.command))
		invoke.op(0x46) // i32.eq
		invoke.ifThen()
		c.body(&invoke)
		invoke.end()
	}
	invoke.i32(buffer)
	invoke.op(0x20, 0, 0x6a) // + commandLen
	invoke.op(0xad)          // i64.extend_i32_u
	invoke.i64(32)
	invoke.op(0x86)       // i64.shl
	invoke.op(0x20, 1)    // inputLen
	invoke.op(0xad, 0x84) // i64.extend_i32_u, i64.or
	return module{functions: []function{
		{name: "_initialize"},
		{name: "teep_alloc", typ: 8, body: alloc},
		{name: "teep_invoke", typ: 9, body: invoke},
	}}.encode()
}
