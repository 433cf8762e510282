package wasm

import "github.com/tetratelabs/wazero/experimental"

// memoryLimit allocates the linear memory of one instance and refuses what is over its limit.
type memoryLimit struct {
	limit  uint64 // bytes
	denied bool   // growth was refused at least once
	buf    []byte
}

// errMemory is thrown when a program cannot even start with the memory it has; instantiate
// catches it.
type errMemory struct{}

// Allocate implements experimental.MemoryAllocator.
func (m *memoryLimit) Allocate(_, _ uint64) experimental.LinearMemory {
	return &linearMemory{m}
}

type linearMemory struct{ *memoryLimit }

// Reallocate implements experimental.LinearMemory. nil makes memory.grow return -1.
func (m *linearMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.denied = true
		if m.buf == nil {
			panic(errMemory{})
		}
		return nil
	}
	if size > uint64(cap(m.buf)) {
		// Grow by a quarter, so that many small steps do not copy each time.
		grown := make([]byte, size, min(m.limit, size+uint64(cap(m.buf))/4))
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	return m.buf
}

// Free implements experimental.LinearMemory. What the application had in memory does not wait
// in the heap for the next allocation.
func (m *linearMemory) Free() {
	clear(m.buf)
	m.buf = nil
}
