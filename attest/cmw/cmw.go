package cmw

import (
	"errors"
	"fmt"
	"math"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/internal/cbor"
)

// Limits of a wrapper. They bound what a stranger can make a verifier do.
const (
	// MaxBytes is the largest wrapper that is read: reports with event logs are the largest.
	MaxBytes = 1 << 20
	// MaxMembers is the largest number of members of one collection.
	MaxMembers = 64
	// MaxDepth is the deepest nesting of collections.
	MaxDepth = 4
	// MaxTypeBytes bounds media types, labels and collection types.
	MaxTypeBytes = 256
)

// Indicator tells what conceptual messages are inside (rats-cmw §3.1.1).
type Indicator uint32

// Indicators; several may be set.
const (
	ReferenceValues    Indicator = 1 << 0
	Endorsements       Indicator = 1 << 1
	Evidence           Indicator = 1 << 2
	AttestationResults Indicator = 1 << 3
	AppraisalPolicy    Indicator = 1 << 4
)

// collectionType is the reserved label (rats-cmw §3.3).
const collectionType = "__cmwc_t"

// Record is one wrapped message, as a record or, when Tagged, as a CBOR tag. It is an immutable
// value once parsed; Value aliases the parsed data.
//
//	cbor-record = [ type: coap-content-format-type / media-type, value: bytes, ? ind: uint .bits cm-type ]
//	tag-cm = #6.<TN(content-format)>(bytes)
type Record struct {
	// MediaType names the type of Value. When it is empty, ContentFormat does.
	MediaType     string
	ContentFormat uint16
	Value         []byte
	// Indicator is zero where nothing is indicated; tags have none.
	Indicator Indicator
	Tagged    bool
}

// Type returns the media type of the value, by the number of its Content-Format where it has none
// of its own. It is empty when the number is not known here.
func (r *Record) Type() string {
	if r.MediaType != "" {
		return r.MediaType
	}
	return mediaTypes()[r.ContentFormat]
}

// mediaTypes lists the CoAP Content-Formats of EAT (RFC 9782 §6.3).
func mediaTypes() map[uint16]string {
	return map[uint16]string{
		263: "application/eat+cwt", 264: "application/eat+jwt",
		265: "application/eat-bun+cbor", 266: "application/eat-bun+json",
		267: "application/eat-ucs+cbor", 268: "application/eat-ucs+json",
	}
}

// Collection is several wrapped messages under labels.
//
//	cbor-collection = { ? "__cmwc_t" => ~uri / oid, + label => cmw }
//	label = tstr / int
//
// Labels that are integers are refused: none is in use.
type Collection struct {
	// Type is the absolute URI that says how the labels are to be understood, or empty.
	Type    string
	Members map[string]Message
}

// Message is either a record or a collection; exactly one is set.
type Message struct {
	Record     *Record
	Collection *Collection
}

// Parse reads a wrapper in any of the three forms. The error is [attest.ErrFormat].
func Parse(data []byte) (Message, error) {
	if len(data) > MaxBytes {
		return Message{}, malformed(fmt.Errorf("%d bytes, at most %d are read", len(data), MaxBytes))
	}
	m, err := parse(data, 0)
	if err != nil {
		return Message{}, malformed(err)
	}
	return m, nil
}

func malformed(err error) error { return fmt.Errorf("%w: CMW: %w", attest.ErrFormat, err) }

func parse(data []byte, depth int) (m Message, err error) {
	if len(data) == 0 {
		return m, errors.New("it is empty")
	}
	switch data[0] >> 5 {
	case 4:
		m.Record, err = parseRecord(data)
	case 5:
		m.Collection, err = parseCollection(data, depth)
	case 6:
		m.Record, err = parseTag(data)
	default:
		err = errors.New("neither a record, a tag nor a collection")
	}
	return m, err
}

func parseRecord(data []byte) (*Record, error) {
	var parts []cbor.RawMessage
	if err := cbor.Unmarshal(data, &parts); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if len(parts) != 2 && len(parts) != 3 {
		return nil, fmt.Errorf("a record has 2 or 3 members, not %d", len(parts))
	}
	r := &Record{}
	var err error
	if parts[0][0]>>5 == 3 {
		if r.MediaType, err = shortText(parts[0]); err != nil {
			return nil, fmt.Errorf("record type: %w", err)
		}
	} else if err = cbor.Unmarshal(parts[0], &r.ContentFormat); err != nil {
		return nil, fmt.Errorf("record type is neither a media type nor a Content-Format: %w", err)
	}
	if r.Value, err = byteString(parts[1]); err != nil {
		return nil, fmt.Errorf("record value: %w", err)
	}
	if len(parts) == 3 {
		if err := cbor.Unmarshal(parts[2], &r.Indicator); err != nil || r.Indicator == 0 || parts[2][0]>>5 != 0 {
			return nil, errors.New("ind is not an unsigned integer of 32 bits other than zero")
		}
	}
	return r, nil
}

func shortText(raw []byte) (string, error) {
	var s string
	if err := cbor.Unmarshal(raw, &s); err != nil {
		return "", err
	}
	if s == "" || len(s) > MaxTypeBytes {
		return "", fmt.Errorf("a text of %d bytes, 1 to %d are possible", len(s), MaxTypeBytes)
	}
	return s, nil
}

func byteString(raw []byte) ([]byte, error) {
	if len(raw) == 0 || raw[0]>>5 != 2 {
		return nil, errors.New("not a byte string")
	}
	var b []byte
	err := cbor.Unmarshal(raw, &b)
	return b, err
}

// The tags of Content-Formats start here (RFC 9277 Appendix B), in blocks of 255 of 256.
const (
	firstTag = 0x63740101
	lastTag  = 1668612095
)

// TagNumber is the TN() transform of RFC 9277 Appendix B. Content-Format 65025 and above have no
// tag.
func TagNumber(contentFormat uint16) (uint64, bool) {
	n := uint64(contentFormat)
	tag := firstTag + n/255*256 + n%255
	return tag, tag <= lastTag && n < 255*255
}

func contentFormat(tag uint64) (uint16, bool) {
	if tag < firstTag || tag > lastTag {
		return 0, false
	}
	d := tag - firstTag
	n := d>>8*255 + d&0xff
	return uint16(n), d&0xff < 255 && n <= math.MaxUint16
}

func parseTag(data []byte) (*Record, error) {
	var tag cbor.RawTag
	if err := cbor.Unmarshal(data, &tag); err != nil {
		return nil, fmt.Errorf("tag: %w", err)
	}
	format, ok := contentFormat(tag.Number)
	if !ok {
		return nil, fmt.Errorf("tag %d stands for no Content-Format (RFC 9277)", tag.Number)
	}
	value, err := byteString(tag.Content)
	if err != nil {
		return nil, fmt.Errorf("tag %d: %w", tag.Number, err)
	}
	return &Record{ContentFormat: format, Value: value, Tagged: true}, nil
}

func parseCollection(data []byte, depth int) (*Collection, error) {
	if depth >= MaxDepth {
		return nil, fmt.Errorf("collections are nested deeper than %d", MaxDepth)
	}
	var members map[any]cbor.RawMessage
	if err := cbor.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("collection: %w", err)
	}
	if len(members) > MaxMembers {
		return nil, fmt.Errorf("a collection of %d members, at most %d are read", len(members), MaxMembers)
	}
	c := &Collection{Members: map[string]Message{}}
	for label, raw := range members {
		text, ok := label.(string)
		if !ok || text == "" || len(text) > MaxTypeBytes {
			return nil, fmt.Errorf("the label %.80v is not a text of 1 to %d bytes", label, MaxTypeBytes)
		}
		var err error
		if text == collectionType {
			c.Type, err = shortText(raw)
		} else {
			c.Members[text], err = parse(raw, depth+1)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
	}
	if len(c.Members) == 0 || len(c.Members) >= MaxMembers {
		return nil, fmt.Errorf("a collection of %d members, 1 to %d are possible", len(c.Members), MaxMembers-1)
	}
	return c, nil
}

// Encode writes the wrapper deterministically.
func (m Message) Encode() ([]byte, error) {
	v, err := m.encode(0)
	if err != nil {
		return nil, err
	}
	data, err := cbor.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cmw: encode: %w", err)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("cmw: the wrapper has %d bytes, at most %d can be read", len(data), MaxBytes)
	}
	return data, nil
}

// Encode writes the record alone.
func (r Record) Encode() ([]byte, error) { return Message{Record: &r}.Encode() }

// Encode writes the collection.
func (c Collection) Encode() ([]byte, error) { return Message{Collection: &c}.Encode() }

func (m Message) encode(depth int) (any, error) {
	switch {
	case m.Record != nil && m.Collection == nil:
		return m.Record.encode()
	case m.Collection != nil && m.Record == nil:
		return m.Collection.encode(depth)
	}
	return nil, errors.New("cmw: a message is either a record or a collection")
}

func (r *Record) encode() (any, error) {
	value := r.Value
	if value == nil {
		value = []byte{}
	}
	if r.Tagged {
		n, ok := TagNumber(r.ContentFormat)
		if !ok || r.MediaType != "" || r.Indicator != 0 {
			return nil, errors.New("cmw: a tag has a Content-Format below 65025, and neither media type nor indicator")
		}
		return cbor.Tag{Number: n, Content: value}, nil
	}
	var typ any = r.ContentFormat
	if r.MediaType != "" {
		if len(r.MediaType) > MaxTypeBytes {
			return nil, fmt.Errorf("cmw: a media type of %d bytes, at most %d can be read", len(r.MediaType), MaxTypeBytes)
		}
		typ = r.MediaType
	}
	if r.Indicator == 0 {
		return []any{typ, value}, nil
	}
	return []any{typ, value, uint32(r.Indicator)}, nil
}

func (c *Collection) encode(depth int) (any, error) {
	if depth >= MaxDepth || len(c.Members) == 0 || len(c.Members) >= MaxMembers || len(c.Type) > MaxTypeBytes {
		return nil, fmt.Errorf("cmw: a collection has 1 to %d members, %d levels at most, and a type of %d bytes at most", MaxMembers-1, MaxDepth, MaxTypeBytes)
	}
	out := make(map[string]any, len(c.Members)+1)
	if c.Type != "" {
		out[collectionType] = c.Type
	}
	for label, m := range c.Members {
		if label == "" || label == collectionType || len(label) > MaxTypeBytes {
			return nil, fmt.Errorf("cmw: %.80q cannot label a member", label)
		}
		v, err := m.encode(depth + 1)
		if err != nil {
			return nil, err
		}
		out[label] = v
	}
	return out, nil
}
