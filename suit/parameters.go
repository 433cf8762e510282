package suit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Parameters is a SUIT_Parameters block: at most one value for each label, every value checked
// against the type that the CDDL gives it. The zero value is empty and ready to use.
//
// A Parameters is a value: assigning one copies it, and changing the copy leaves the original
// alone. What accessors return must not be modified.
//
//	{+ $$SUIT_Parameters}
type Parameters struct {
	entries []parameter // ascending in the order of their encoded labels
}

type parameter struct {
	label ParameterLabel
	raw   []byte // the encoded value, already checked
}

// compareLabels is the order of Core Deterministic Encoding: non-negative labels first, each
// side by magnitude.
func compareLabels(a, b int64) int {
	if (a < 0) != (b < 0) {
		if a < 0 {
			return 1
		}
		return -1
	}
	switch {
	case a == b:
		return 0
	case (a < b) == (a >= 0):
		return -1
	}
	return 1
}

func (p Parameters) find(label ParameterLabel) (int, bool) {
	for i := range p.entries {
		if c := compareLabels(int64(p.entries[i].label), int64(label)); c >= 0 {
			return i, c == 0
		}
	}
	return len(p.entries), false
}

// Len is the number of parameters.
func (p Parameters) Len() int { return len(p.entries) }

// Has tells whether the parameter is set.
func (p Parameters) Has(label ParameterLabel) bool { _, ok := p.find(label); return ok }

// Labels lists the labels that are set, in the order of their encoding.
func (p Parameters) Labels() []ParameterLabel {
	labels := make([]ParameterLabel, len(p.entries))
	for i := range p.entries {
		labels[i] = p.entries[i].label
	}
	return labels
}

// Raw returns the encoded value of a parameter. Objects are wrapped in a byte string, as the
// texts want them.
func (p Parameters) Raw(label ParameterLabel) ([]byte, bool) {
	i, ok := p.find(label)
	if !ok {
		return nil, false
	}
	return p.entries[i].raw, true
}

// SetRaw sets a parameter to an encoded value after checking its type.
func (p *Parameters) SetRaw(label ParameterLabel, value []byte) error {
	raw := bytes.Clone(value)
	r := scan.New(raw)
	err := checkParameter(&r, label)
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return at(err, "parameter "+label.String())
	}
	p.set(label, raw)
	return nil
}

func (p *Parameters) set(label ParameterLabel, raw []byte) {
	i, ok := p.find(label)
	p.entries = slices.Clone(p.entries)
	if ok {
		p.entries[i].raw = raw
		return
	}
	p.entries = slices.Insert(p.entries, i, parameter{label, raw})
}

// Delete removes a parameter.
func (p *Parameters) Delete(label ParameterLabel) {
	if i, ok := p.find(label); ok {
		p.entries = slices.Delete(slices.Clone(p.entries), i, i+1)
	}
}

// Override takes over every parameter of q, as suit-directive-override-parameters does.
func (p *Parameters) Override(q Parameters) {
	for _, e := range q.entries {
		p.set(e.label, e.raw)
	}
}

// SetMissing takes over the parameters of q that p does not have, as suit-directive-set-parameters
// does.
func (p *Parameters) SetMissing(q Parameters) {
	for _, e := range q.entries {
		if !p.Has(e.label) {
			p.set(e.label, e.raw)
		}
	}
}

// Only returns the parameters with the given labels, as suit-directive-copy-params needs.
func (p Parameters) Only(labels ...ParameterLabel) Parameters {
	var q Parameters
	for _, e := range p.entries {
		if slices.Contains(labels, e.label) {
			q.entries = append(q.entries, e)
		}
	}
	return q
}

// Equal compares the encodings.
func (p Parameters) Equal(q Parameters) bool {
	return slices.EqualFunc(p.entries, q.entries, func(a, b parameter) bool {
		return a.label == b.label && bytes.Equal(a.raw, b.raw)
	})
}

// Clone returns a copy that shares no memory with the bytes the parameters were parsed from.
func (p Parameters) Clone() Parameters {
	q := Parameters{entries: slices.Clone(p.entries)}
	for i := range q.entries {
		q.entries[i].raw = bytes.Clone(q.entries[i].raw)
	}
	return q
}

// MarshalCBOR encodes the block deterministically; the zero value is the empty map.
func (p Parameters) MarshalCBOR() ([]byte, error) { return p.appendCBOR(nil), nil }

// UnmarshalCBOR decodes a block, which may be empty, into memory of its own.
func (p *Parameters) UnmarshalCBOR(data []byte) error {
	r := scan.New(bytes.Clone(data))
	q, err := readParameters(&r)
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return at(err, "parameters")
	}
	*p = q
	return nil
}

func (p Parameters) appendCBOR(b []byte) []byte {
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(p.entries)))
	for _, e := range p.entries {
		b = append(appendInt(b, int64(e.label)), e.raw...)
	}
	return b
}

// readParameters reads a map of any size; callers that need [+ …] look at Len.
func readParameters(r *scan.Reader) (Parameters, error) {
	n, err := r.Map()
	if err != nil {
		return Parameters{}, err
	}
	return readParameterPairs(r, n)
}

func readParameterPairs(r *scan.Reader, n int) (Parameters, error) {
	var seen labelSet
	p := Parameters{entries: make([]parameter, 0, n)}
	for range n {
		label, err := seen.read(r)
		if err != nil {
			return p, err
		}
		start := r.Pos()
		if err := checkParameter(r, ParameterLabel(label)); err != nil {
			return p, at(err, "parameter "+ParameterLabel(label).String())
		}
		p.append(ParameterLabel(label), r.Since(start))
	}
	return p, nil
}

// append adds a label that is not there yet; ascending labels, which is how they come, cost
// nothing.
func (p *Parameters) append(label ParameterLabel, raw []byte) {
	n := len(p.entries)
	if n == 0 || compareLabels(int64(p.entries[n-1].label), int64(label)) < 0 {
		p.entries = append(p.entries, parameter{label, raw})
		return
	}
	i, _ := p.find(label)
	p.entries = slices.Insert(p.entries, i, parameter{label, raw})
}

var errUnknownParameter = errors.New("parameter is not supported")

// checkParameter reads one value and checks its type, including what is wrapped in it, so that
// accessors cannot fail later.
func checkParameter(r *scan.Reader, label ParameterLabel) error {
	switch label {
	case ParamVendorIdentifier:
		_, err := readVendorID(r)
		return err
	case ParamClassIdentifier, ParamDeviceIdentifier:
		_, err := readUUID(r)
		return err
	case ParamImageSize, ParamComponentSlot, ParamSourceComponent, ParamUseBefore, ParamMinimumBattery:
		_, err := r.Uint()
		return err
	case ParamUpdatePriority:
		_, err := r.Int()
		return err
	case ParamURI:
		_, err := r.Text()
		return err
	case ParamInvokeArgs, ParamFetchArguments, ParamContent:
		_, err := r.Bytes()
		return err
	case ParamStrictOrder, ParamSoftFailure:
		_, err := r.Bool()
		return err
	case ParamImageDigest, ParamVersion, ParamWaitInfo, ParamComponentMetadata, ParamEncryptionInfo:
		return checkWrapped(r, label)
	}
	if label < 0 {
		return checkCustomParameter(r)
	}
	return fault(ReasonParameterUnsupported, errUnknownParameter)
}

func checkWrapped(r *scan.Reader, label ParameterLabel) error {
	content, err := r.Bytes()
	if err != nil {
		return err
	}
	inner := scan.New(content)
	switch label {
	case ParamImageDigest:
		_, err = readDigest(&inner)
	case ParamVersion:
		_, err = readVersionMatch(&inner)
	case ParamWaitInfo:
		_, err = readWaitEvent(&inner)
	case ParamComponentMetadata:
		_, err = readMetadata(&inner)
	case ParamEncryptionInfo:
		err = checkEncryptionInfo(&inner)
	}
	if err == nil {
		err = inner.Done()
	}
	return err
}

// checkCustomParameter enforces int/bool/tstr/bstr.
func checkCustomParameter(r *scan.Reader) error {
	switch k := r.Peek(); k {
	case scan.Uint, scan.Nint:
		_, err := r.Int()
		return err
	case scan.Bytes, scan.Text, scan.True, scan.False:
		_, err := r.Item()
		return err
	default:
		return fmt.Errorf("%w: a custom parameter is an integer, a boolean, text or bytes, not %v", scan.ErrType, k)
	}
}

// checkEncryptionInfo looks for #6.96([…]); package cose takes it apart when it is used.
//
//	SUIT_Encryption_Info = #6.96(COSE_Encrypt)
func checkEncryptionInfo(r *scan.Reader) error {
	item, err := r.Item()
	if err != nil {
		return err
	}
	inner := scan.New(item)
	tag, err := inner.Tag()
	if err == nil && tag != tagEncrypt {
		err = fmt.Errorf("tag %d: encryption info is a COSE_Encrypt with tag 96", tag)
	}
	if err != nil {
		return err
	}
	n, err := inner.Array()
	if err == nil && n != 4 {
		err = fmt.Errorf("COSE_Encrypt has %d elements, not 4", n)
	}
	return err
}

const tagEncrypt = 96

func readVendorID(r *scan.Reader) (VendorID, error) {
	if r.Peek() != scan.Tag {
		u, err := readUUID(r)
		return VendorID{UUID: u}, err
	}
	tag, err := r.Tag()
	if err == nil && tag != tagPEN {
		err = fmt.Errorf("tag %d: a vendor is a 16-byte UUID or a private enterprise number (tag 112)", tag)
	}
	if err != nil {
		return VendorID{}, err
	}
	pen, err := r.Bytes()
	if err == nil && !validRelativeOID(pen) {
		err = errors.New("private enterprise number is not a relative object identifier of one number")
	}
	return VendorID{PEN: pen}, err
}

// validRelativeOID accepts exactly one base-128 number without leading zero groups.
func validRelativeOID(b []byte) bool {
	if len(b) == 0 || b[0] == 0x80 || b[len(b)-1]&0x80 != 0 {
		return false
	}
	for _, c := range b[:len(b)-1] {
		if c&0x80 == 0 {
			return false
		}
	}
	return true
}

func readUUID(r *scan.Reader) (UUID, error) {
	b, err := r.Bytes()
	if err != nil {
		return UUID{}, err
	}
	if len(b) != len(UUID{}) {
		return UUID{}, fmt.Errorf("a UUID has 16 bytes, not %d", len(b))
	}
	return UUID(b), nil
}
