// Package edn translates between CBOR and its Extended Diagnostic Notation (RFC 8949 §8,
// RFC 8610 appendix G): text that people can read and review, and that means exactly one
// sequence of bytes.
//
// [Format] writes a data item as indented notation. Byte strings that wrap CBOR are opened as
// << >>, and a [Schema] gives names to labels, positions and values:
//
//	text, err := edn.Format(message, edn.Options{Schema: teepSchema})
//
// [Parse] is the reverse. Encoding indicators ("_0" and the like) carry whatever the sender chose
// freely, so that Parse gives back the very bytes that Format was given, unless
// [Options].MaxBytes cut a byte string short.
//
// Format is lenient on purpose: it shows indefinite lengths, non-shortest heads and duplicate
// keys, which the decoders of this project refuse, because it is what one looks at them with.
package edn

import (
	"errors"
	"fmt"
)

// Limits of both directions. They bound memory; input size is the caller's to bound.
const (
	// MaxDepth is the deepest nesting, that of opened byte strings included.
	MaxDepth = 64
	// MaxItems is the largest number of data items in one notation.
	MaxItems = 1 << 18
)

// ErrMalformed says that the bytes are not one well-formed CBOR data item.
var ErrMalformed = errors.New("edn: not well-formed CBOR")

// ErrSyntax says that the text is not diagnostic notation; it comes as a [*SyntaxError].
var ErrSyntax = errors.New("edn: not diagnostic notation")

// SyntaxError says where the text stops being diagnostic notation. Line and Column count from 1;
// columns are bytes.
type SyntaxError struct {
	Line, Column int
	Problem      string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("edn: line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// Unwrap makes errors.Is(err, ErrSyntax) hold.
func (e *SyntaxError) Unwrap() error { return ErrSyntax }

// Options choose what Format writes. The zero value writes everything, opens what looks like
// wrapped CBOR, and uses no names.
type Options struct {
	// Schema names what the data item is made of; nil means no names.
	Schema *Schema
	// Closed leaves byte strings closed unless the schema says that they wrap CBOR.
	Closed bool
	// MaxBytes cuts byte strings after so many bytes and says how long they were; 0 means never.
	// What was cut cannot be parsed back, and [Parse] says so.
	MaxBytes int
	// MaxText does so with text: after the last character that ends within so many bytes.
	MaxText int
	// Width is the column up to which an item stays on one line; 0 means 96.
	Width int
}

// Field is a named part of a data item.
type Field struct {
	Name   string
	Schema *Schema
}

// Schema says how one kind of data item reads to people. It never decides what is valid. The
// zero value and nil say nothing. Schemas may refer to themselves; they are not changed by this
// package and are safe for concurrent use.
type Schema struct {
	// Name is written before an item that its surroundings give no name to.
	Name string
	// Members and TextMembers describe map members by key; Other describes the rest.
	Members     map[int64]Field
	TextMembers map[string]Field
	Other       Field
	// Elements describes array elements by position; Rest describes those after them.
	Elements []Field
	Rest     Field
	// ElementAt, if set, replaces Elements and Rest where meaning depends on other elements, as
	// in SUIT command sequences. The elements are encoded.
	ElementAt func(elements [][]byte, i int) Field
	// Values names integers; Bits names the bits of an unsigned integer, lowest first.
	Values map[int64]string
	Bits   []string
	// Wraps says that a byte string holds one encoded item, and which.
	Wraps *Schema
	// Opaque says that a byte string holds no CBOR, whatever it looks like.
	Opaque bool
	// Tags describes what certain tags hold; for other tags the schema describes the content.
	Tags map[uint64]*Schema
	// Select, if set, may choose another schema by looking at the encoded item. It returns nil
	// to keep this one.
	Select func(item []byte) *Schema
}

func (s *Schema) resolve(raw []byte) *Schema {
	// Bounded, so that schemas which select each other cannot loop.
	for range 8 {
		if s == nil || s.Select == nil {
			return s
		}
		next := s.Select(raw)
		if next == nil || next == s {
			return s
		}
		s = next
	}
	return s
}

func (s *Schema) member(key *item) Field {
	if s == nil {
		return Field{}
	}
	if n, ok := key.int64(); ok {
		if f, ok := s.Members[n]; ok {
			return f
		}
	}
	if key.major == majorText && !key.indefinite {
		if f, ok := s.TextMembers[string(key.content)]; ok {
			return f
		}
	}
	return s.Other
}

func (s *Schema) element(elements [][]byte, i int) Field {
	switch {
	case s == nil:
		return Field{}
	case s.ElementAt != nil:
		return s.ElementAt(elements, i)
	case i < len(s.Elements):
		return s.Elements[i]
	}
	return s.Rest
}

func (s *Schema) tagged(tag uint64) *Schema {
	if s == nil {
		return nil
	}
	if t, ok := s.Tags[tag]; ok {
		return t
	}
	return s
}

// comment names an integer value.
func (s *Schema) comment(it *item) string {
	if s == nil {
		return ""
	}
	n, ok := it.int64()
	if !ok {
		return ""
	}
	if name, ok := s.Values[n]; ok {
		return name
	}
	if n <= 0 || len(s.Bits) == 0 {
		return ""
	}
	names := ""
	for bit := 0; n>>bit != 0; bit++ {
		if n>>bit&1 == 0 {
			continue
		}
		if names != "" {
			names += " | "
		}
		if bit < len(s.Bits) {
			names += s.Bits[bit]
		} else {
			names += fmt.Sprintf("bit %d", bit)
		}
	}
	return names
}
