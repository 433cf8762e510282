package suit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit/internal/scan"
)

// CapabilityReport is SUIT_Capability_Report: what a manifest processor supports. Lists that are
// nil are absent; those without "?" in the CDDL must not be empty.
//
//	SUIT_Capability_Report = {
//	  suit-component-capabilities        => [+ SUIT_Component_Capability]
//	  suit-command-capabilities          => [+ int],
//	  suit-parameters-capabilities       => [+ int],
//	  suit-crypt-algo-capabilities       => [+ int],
//	  ? suit-envelope-capabilities       => [+ int],
//	  ? suit-manifest-capabilities       => [+ int],
//	  ? suit-common-capabilities         => [+ int],
//	  ? suit-text-capabilities           => [+ int],
//	  ? suit-text-component-capabilities => [+ int],
//	  ? suit-dependency-capabilities     => [+ int],
//	  * [+int]                           => [+ int],
//	}
type CapabilityReport struct {
	Components     []ComponentCapability
	Commands       []int64
	Parameters     []int64
	Algorithms     []int64
	Envelope       []int64
	Manifest       []int64
	Common         []int64
	Text           []int64
	TextComponents []int64
	Dependencies   []int64
	// Paths are capabilities of other manifest elements, by the CBOR path to the element.
	Paths []PathCapability
}

// ComponentCapability is a component that is supported or, with Prefix, all components below it.
//
//	SUIT_Component_Capability = [*bstr,?true]
type ComponentCapability struct {
	ID     ComponentID
	Prefix bool
}

// Supports tells whether id falls under the capability.
func (c ComponentCapability) Supports(id ComponentID) bool {
	return id.Equal(c.ID) || c.Prefix && id.HasPrefix(c.ID)
}

// PathCapability lists what is supported in the manifest element at Path.
type PathCapability struct {
	Path   []int64
	Values []int64
}

// list returns the member for labels 2 to 10, and whether it is mandatory.
func (c *CapabilityReport) list(label int64) (list *[]int64, mandatory bool) {
	switch label {
	case 2:
		return &c.Commands, true
	case 3:
		return &c.Parameters, true
	case 4:
		return &c.Algorithms, true
	case 5:
		return &c.Envelope, false
	case 6:
		return &c.Manifest, false
	case 7:
		return &c.Common, false
	case 8:
		return &c.Text, false
	case 9:
		return &c.TextComponents, false
	case 10:
		return &c.Dependencies, false
	}
	return nil, false
}

const (
	capabilityComponents = 1
	capabilityLast       = 10
)

// MarshalCBOR encodes the report deterministically.
func (c *CapabilityReport) MarshalCBOR() ([]byte, error) {
	data := c.appendCBOR(nil)
	if _, err := ParseCapabilityReport(data); err != nil {
		return nil, fmt.Errorf("cannot encode capability report: %w", err)
	}
	return data, nil
}

// ParseCapabilityReport reads an encoded SUIT_Capability_Report.
func ParseCapabilityReport(data []byte) (*CapabilityReport, error) {
	rd := scan.New(data)
	c, err := readCapabilities(&rd)
	if err == nil {
		err = rd.Done()
	}
	if err != nil {
		return nil, at(err, "capability-report")
	}
	return c, nil
}

// UnmarshalCBOR decodes a capability report into memory of its own.
func (c *CapabilityReport) UnmarshalCBOR(data []byte) error {
	parsed, err := ParseCapabilityReport(bytes.Clone(data))
	if err != nil {
		return err
	}
	*c = *parsed
	return nil
}

func (c *CapabilityReport) appendCBOR(b []byte) []byte {
	var p pairs
	p.key(capabilityComponents)
	p.b = scan.AppendHead(p.b, byte(scan.Array), uint64(len(c.Components)))
	for _, e := range c.Components {
		p.b = e.appendCBOR(p.b)
	}
	for label := int64(2); label <= capabilityLast; label++ {
		if list, _ := c.list(label); *list != nil {
			p.key(label)
			p.b = appendInts(p.b, *list)
		}
	}
	paths := slices.Clone(c.Paths)
	slices.SortFunc(paths, func(x, y PathCapability) int {
		return bytes.Compare(appendInts(nil, x.Path), appendInts(nil, y.Path))
	})
	for _, e := range paths {
		p.n++
		p.b = appendInts(appendInts(p.b, e.Path), e.Values)
	}
	return append(scan.AppendHead(b, byte(scan.Map), p.n), p.b...)
}

func appendInts(b []byte, list []int64) []byte {
	b = scan.AppendHead(b, byte(scan.Array), uint64(len(list)))
	for _, v := range list {
		b = appendInt(b, v)
	}
	return b
}

func (c ComponentCapability) appendCBOR(b []byte) []byte {
	n := len(c.ID)
	if c.Prefix {
		n++
	}
	b = scan.AppendHead(b, byte(scan.Array), uint64(n))
	for _, s := range c.ID {
		b = appendBytes(b, s)
	}
	if c.Prefix {
		b = append(b, 0xf5)
	}
	return b
}

func readCapabilities(rd *scan.Reader) (*CapabilityReport, error) {
	n, err := rd.Map()
	if err != nil {
		return nil, err
	}
	var (
		c    CapabilityReport
		seen labelSet
		keys scan.Keys
	)
	for range n {
		if rd.Peek() == scan.Array {
			err = c.readPath(rd, &keys)
		} else {
			err = c.readMember(rd, &seen)
		}
		if err != nil {
			return nil, err
		}
	}
	if c.Components == nil {
		return nil, at(errors.New("is missing"), "component-capabilities")
	}
	for label := int64(2); label <= capabilityLast; label++ {
		if list, mandatory := c.list(label); mandatory && *list == nil {
			return nil, at(errors.New("is missing"), fmt.Sprintf("key %d", label))
		}
	}
	return &c, nil
}

func (c *CapabilityReport) readPath(rd *scan.Reader, keys *scan.Keys) error {
	path, err := readInts(rd)
	if err != nil {
		return err
	}
	if err := keys.Add(appendInts(nil, path)); err != nil {
		return err
	}
	values, err := readInts(rd)
	c.Paths = append(c.Paths, PathCapability{path, values})
	return err
}

func (c *CapabilityReport) readMember(rd *scan.Reader, seen *labelSet) error {
	label, err := seen.read(rd)
	if err != nil {
		return at(err, fmt.Sprintf("key %d", label))
	}
	if label == capabilityComponents {
		c.Components, err = readComponentCapabilities(rd)
		return at(err, "component-capabilities")
	}
	list, _ := c.list(label)
	if list == nil {
		return at(errUnknownMember, fmt.Sprintf("key %d", label))
	}
	*list, err = readInts(rd)
	return at(err, fmt.Sprintf("key %d", label))
}

func readComponentCapabilities(rd *scan.Reader) ([]ComponentCapability, error) {
	n, err := rd.Array()
	if err == nil && (n == 0 || n > MaxComponents) {
		err = fmt.Errorf("has %d elements, 1 to %d are accepted", n, MaxComponents)
	}
	if err != nil {
		return nil, err
	}
	list := make([]ComponentCapability, n)
	for i := range list {
		if list[i], err = readComponentCapability(rd); err != nil {
			return nil, at(err, fmt.Sprintf("[%d]", i))
		}
	}
	return list, nil
}

func readComponentCapability(rd *scan.Reader) (c ComponentCapability, err error) {
	n, err := rd.Array()
	if err == nil && n > maxSegments+1 {
		err = fmt.Errorf("has %d segments, at most %d are accepted", n, maxSegments)
	}
	if err != nil {
		return c, err
	}
	c.ID = make(ComponentID, 0, n)
	for i := range n {
		if i == n-1 && rd.Peek() == scan.True {
			c.Prefix = true
			_, err = rd.Bool()
			return c, err
		}
		segment, err := rd.Bytes()
		if err != nil {
			return c, err
		}
		c.ID = append(c.ID, segment)
	}
	return c, nil
}
