package wasm

import (
	"encoding/binary"
	"fmt"
)

// Limits on what a program declares. The compiler allocates by these numbers before it looks at
// what is behind them, so a few bytes could otherwise take all memory of the TEE.
const (
	maxTableEntries   = 1 << 20 // 8 MiB of host memory
	maxFunctionLocals = 50_000  // what browsers allow
	maxLocals         = 4 << 20 // of all functions together
)

// Section numbers of the WebAssembly binary format (core specification §5.5).
const (
	sectionCustom   = 0
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionMemory   = 5
	sectionGlobal   = 6
	sectionExport   = 7
	sectionStart    = 8
	sectionElement  = 9
	sectionCode     = 10
	sectionData     = 11
	sectionCount    = 12
)

// sanitize checks every count in a program against the bytes that are there, and returns the
// program without its custom sections, which have no meaning for running it. It does not check
// what the compiler checks.
func sanitize(code []byte) ([]byte, error) {
	if len(code) < 8 || string(code[:4]) != "\x00asm" {
		return nil, fmt.Errorf("%w: it is not WebAssembly", ErrProgram)
	}
	if binary.LittleEndian.Uint32(code[4:]) != 1 {
		return nil, fmt.Errorf("%w: it is not a WebAssembly core module of version 1 (a component, perhaps: build for wasip1)", ErrProgram)
	}
	out := append(make([]byte, 0, len(code)), code[:8]...)
	s := &scanner{rest: code[8:]}
	for len(s.rest) > 0 {
		at := s.rest
		id := s.byte()
		body := s.bytes()
		if s.err != nil {
			return nil, s.err
		}
		if id == sectionCustom {
			continue
		}
		in := &scanner{rest: body, locals: s.locals}
		in.section(id)
		if in.err != nil {
			return nil, in.err
		}
		s.locals = in.locals
		out = append(out, at[:len(at)-len(s.rest)]...)
	}
	return out, nil
}

// scanner reads a program from its beginning. After an error it returns zeros.
type scanner struct {
	rest   []byte
	locals uint64
	err    error
}

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %s", ErrProgram, fmt.Sprintf(format, args...))
	}
	s.rest = nil
}

func (s *scanner) skip(n uint64) []byte {
	if n > uint64(len(s.rest)) {
		s.fail("it is truncated")
		return nil
	}
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scanner) byte() byte {
	if b := s.skip(1); b != nil {
		return b[0]
	}
	return 0
}

// uint reads an unsigned number, or steps over a signed one of the same length.
func (s *scanner) uint() uint64 {
	v, n := binary.Uvarint(s.rest)
	if n <= 0 {
		s.fail("it is truncated, or has a malformed number")
		return 0
	}
	s.rest = s.rest[n:]
	return v
}

func (s *scanner) bytes() []byte { return s.skip(s.uint()) }

// count reads the length of a vector whose elements take at least a byte each.
func (s *scanner) count() uint64 {
	n := s.uint()
	if n > uint64(len(s.rest)) {
		s.fail("it declares %d elements where %d bytes follow", n, len(s.rest))
		return 0
	}
	return n
}

// section scans the body of a section. Nothing may be behind what it declares.
func (s *scanner) section(id byte) {
	if id > sectionCount {
		s.fail("it has a section %d, which is of a later version of WebAssembly", id)
	}
	element := map[byte]func(){
		sectionType: s.functionType, sectionImport: s.importEntry, sectionTable: s.table,
		sectionExport: s.export, sectionElement: s.element, sectionCode: s.function, sectionData: s.data,
	}[id]
	switch id {
	case sectionStart, sectionCount:
		return
	}
	n := s.count()
	if id == sectionTable && n > 1 {
		s.fail("it has %d tables, limit 1", n)
	}
	if element == nil {
		return
	}
	for i := uint64(0); i < n && s.err == nil; i++ {
		element()
	}
	if s.err == nil && len(s.rest) > 0 {
		s.fail("section %d is longer than its content", id)
	}
}

func (s *scanner) functionType() {
	if form := s.byte(); s.err == nil && form != 0x60 {
		s.fail("it has a type of the form %#x: only functions are types here", form)
	}
	s.bytes() // parameters, one byte each
	s.bytes() // results
}

func (s *scanner) importEntry() {
	s.bytes() // module
	s.bytes() // name
	if kind := s.byte(); s.err == nil && kind != 0 {
		s.fail("it imports something that is not a function; only WASI preview 1 is provided")
	}
	s.uint()
}

func (s *scanner) table() {
	s.byte() // element type
	flags := s.byte()
	if entries := s.uint(); entries > maxTableEntries {
		s.fail("its table has %d entries, limit %d", entries, maxTableEntries)
	}
	if flags&1 != 0 {
		s.uint()
	}
}

func (s *scanner) export() {
	s.bytes() // name
	s.byte()  // kind
	s.uint()
}

// element scans an element segment: bit 0 passive or declarative, bit 1 explicit table or
// declarative, bit 2 expressions instead of function indices.
func (s *scanner) element() {
	flags := s.uint()
	if flags > 7 {
		s.fail("it has an element segment of kind %d", flags)
	}
	if flags&1 == 0 {
		if flags&2 != 0 {
			s.uint() // table
		}
		s.expression()
	}
	if flags&3 != 0 {
		s.byte() // kind or type of the elements
	}
	for n := s.count(); n > 0 && s.err == nil; n-- {
		if flags&4 != 0 {
			s.expression()
		} else {
			s.uint()
		}
	}
}

// expression steps over a constant expression.
func (s *scanner) expression() {
	for s.err == nil {
		switch op := s.byte(); op {
		case 0x0b: // end
			return
		case 0x41, 0x42, 0x23, 0xd2: // i32.const, i64.const, global.get, ref.func
			s.uint()
		case 0x43: // f32.const
			s.skip(4)
		case 0x44: // f64.const
			s.skip(8)
		case 0xd0: // ref.null
			s.byte()
		case 0xfd: // v128.const
			s.uint()
			s.skip(16)
		default:
			s.fail("it has an instruction %#x in a constant expression", op)
		}
	}
}

func (s *scanner) function() {
	body := &scanner{rest: s.bytes()}
	var locals uint64
	for n := body.count(); n > 0 && body.err == nil; n-- {
		// Each addend is checked, so that the sum cannot wrap around.
		if locals += min(body.uint(), maxFunctionLocals+1); locals > maxFunctionLocals {
			body.fail("a function has more than %d locals", maxFunctionLocals)
		}
		body.byte() // type
	}
	if s.locals += locals; s.locals > maxLocals {
		s.fail("its functions have more than %d locals", maxLocals)
	}
	if body.err != nil && s.err == nil {
		s.err = body.err
	}
}

func (s *scanner) data() {
	switch flags := s.uint(); flags {
	case 0:
		s.expression()
	case 1:
	case 2:
		s.uint() // memory
		s.expression()
	default:
		s.fail("it has a data segment of kind %d", flags)
	}
	s.bytes()
}
