package suit

import (
	"slices"

	"github.com/go-teep/teep/suit/internal/scan"
)

// MarshalCBOR encodes the sequence deterministically, without checking it; [ParseSequence] and
// [Manifest.Encode] check.
func (s Sequence) MarshalCBOR() ([]byte, error) { return s.appendCBOR(nil), nil }

// ParseSequence parses an encoded command sequence that is not the shared sequence. It keeps
// aliases into data.
func ParseSequence(data []byte) (Sequence, error) {
	var p sequenceParser
	return p.parse(data, 0, 1)
}

func (s Sequence) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Array), uint64(2*len(s)))
	for i := range s {
		b = s[i].appendCBOR(b)
	}
	return b
}

func (c *Command) appendCBOR(b []byte) []byte {
	b = appendInt(b, int64(c.Code))
	switch c.Code.argument() {
	case argIndex:
		return c.Index.appendCBOR(b)
	case argParameters:
		return c.Parameters.appendCBOR(b)
	case argSequence:
		if len(c.Sequences) != 1 {
			return append(b, cborNull) // refused when the result is parsed
		}
		return appendBytes(b, c.Sequences[0].appendCBOR(nil))
	case argSequences:
		return appendTryEach(b, c.Sequences)
	case argMultiple:
		return appendMultiple(b, c.Multiple)
	case argCopies:
		return appendCopies(b, c.Copies)
	case argCustom:
		if len(c.Custom) == 0 {
			return append(b, cborNull)
		}
		return append(b, c.Custom...)
	}
	return appendUint(b, uint64(c.Policy))
}

const cborNull = 0xf6

func (a IndexArg) appendCBOR(b []byte) []byte {
	switch {
	case a.All:
		return append(b, 0xf5)
	case !a.List && len(a.Indexes) == 1:
		return appendUint(b, a.Indexes[0])
	}
	b = scan.AppendHead(b, byte(scan.Array), uint64(len(a.Indexes)))
	for _, v := range a.Indexes {
		b = appendUint(b, v)
	}
	return b
}

func appendTryEach(b []byte, list []Sequence) []byte {
	b = scan.AppendHead(b, byte(scan.Array), uint64(len(list)))
	for _, s := range list {
		if len(s) == 0 {
			b = append(b, cborNull)
			continue
		}
		b = appendBytes(b, s.appendCBOR(nil))
	}
	return b
}

func appendMultiple(b []byte, list []ComponentParameters) []byte {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(x, y ComponentParameters) int { return compareUint(x.Index, y.Index) })
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(sorted)))
	for _, e := range sorted {
		b = e.Parameters.appendCBOR(appendUint(b, e.Index))
	}
	return b
}

func appendCopies(b []byte, list []CopyParameters) []byte {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(x, y CopyParameters) int { return compareUint(x.Source, y.Source) })
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(sorted)))
	for _, e := range sorted {
		b = scan.AppendHead(appendUint(b, e.Source), byte(scan.Array), uint64(len(e.Labels)))
		for _, l := range e.Labels {
			b = appendInt(b, int64(l))
		}
	}
	return b
}

func compareUint(x, y uint64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// Walk calls visit for every command of the sequence, nested ones included, in order; it stops
// when visit returns false.
func (s Sequence) Walk(visit func(*Command) bool) bool {
	for i := range s {
		if !visit(&s[i]) {
			return false
		}
		for _, nested := range s[i].Sequences {
			if !nested.Walk(visit) {
				return false
			}
		}
	}
	return true
}
