package cose

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/go-teep/teep/internal/cbor"
)

// Labels of the header parameters that this package reads (RFC 9052 §3.1, RFC 9053 §6.3, RFC 9360).
const (
	LabelAlgorithm   int64 = 1
	LabelCritical    int64 = 2
	LabelContentType int64 = 3
	LabelKeyID       int64 = 4
	LabelIV          int64 = 5
	LabelPartialIV   int64 = 6
	LabelX5Chain     int64 = 33

	labelEphemeralKey int64 = -1
	labelSalt         int64 = -20
)

// Header is one bucket of header parameters. The zero value is empty and ready to use.
//
//	header_map = { Generic_Headers, * label => values }
//	label = int / tstr
//
// A label is given as an int, an int64 or a string. A Header that was read from a message shares
// memory with it.
type Header struct {
	// params are few, and in the order in which they were set or read: a map would cost more.
	params []parameter
}

type parameter struct {
	label any // int64 or string
	value cbor.RawMessage
}

// find returns the encoded value under a label in its normal form.
func (h Header) find(label any) (cbor.RawMessage, bool) {
	for i := range h.params {
		if h.params[i].label == label {
			return h.params[i].value, true
		}
	}
	return nil, false
}

// number is find for the labels that are integers.
func (h Header) number(label int64) (cbor.RawMessage, bool) {
	for i := range h.params {
		if n, ok := h.params[i].label.(int64); ok && n == label {
			return h.params[i].value, true
		}
	}
	return nil, false
}

// Headers are the two buckets of a message, signer or recipient.
//
//	Headers = ( protected : empty_or_serialized_map, unprotected : header_map )
type Headers struct {
	// Protected is covered by the signature, tag or key derivation.
	Protected Header
	// Unprotected can be changed by anyone who carries the message.
	Unprotected Header
}

// normalLabel turns a label into the form in which Header.params has it.
func normalLabel(label any) (any, error) {
	switch l := label.(type) {
	case int:
		return int64(l), nil
	case int64:
		return l, nil
	case uint64:
		if l <= math.MaxInt64 {
			return int64(l), nil
		}
	case string:
		return l, nil
	}
	return nil, fmt.Errorf("%w: label %v is neither an integer nor a text", ErrHeader, label)
}

// Set encodes value deterministically and stores it under label; see [Header.SetRaw] for a value
// that is encoded already.
func (h *Header) Set(label, value any) error {
	raw, err := cbor.Marshal(value)
	if err != nil {
		return fmt.Errorf("%w %v: %w", ErrHeader, label, err)
	}
	return h.SetRaw(label, raw)
}

// SetRaw stores an encoded data item under label. The header keeps item.
func (h *Header) SetRaw(label any, item []byte) error {
	l, err := normalLabel(label)
	if err != nil {
		return err
	}
	if err := cbor.Wellformed(item); err != nil {
		return fmt.Errorf("%w %v: %w", ErrHeader, label, err)
	}
	for i := range h.params {
		if h.params[i].label == l {
			h.params[i].value = item
			return nil
		}
	}
	h.params = append(h.params, parameter{l, item})
	return nil
}

// Get returns the encoded value under label.
func (h Header) Get(label any) (item []byte, ok bool) {
	l, err := normalLabel(label)
	if err != nil {
		return nil, false
	}
	return h.find(l)
}

// Decode decodes the value under label into v, which is a pointer. It reports ErrHeader when there
// is no such parameter or its value has another type.
func (h Header) Decode(label, v any) error {
	raw, ok := h.Get(label)
	if !ok {
		return fmt.Errorf("%w %v is missing", ErrHeader, label)
	}
	if err := cbor.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w %v: %w", ErrHeader, label, err)
	}
	return nil
}

// Labels lists the labels in the order of their encoding. They are int64 or string.
func (h Header) Labels() []any {
	labels := make([]any, 0, len(h.params))
	for _, p := range h.params {
		labels = append(labels, p.label)
	}
	slices.SortFunc(labels, func(a, b any) int { return bytes.Compare(encodeLabel(a), encodeLabel(b)) })
	return labels
}

// Len is the number of parameters.
func (h Header) Len() int { return len(h.params) }

// Algorithm is the alg parameter, or zero when there is none that is an integer.
func (h Header) Algorithm() Algorithm {
	raw, ok := h.number(LabelAlgorithm)
	if !ok {
		return 0
	}
	c := cursor{rest: raw}
	major, n, err := c.head()
	switch {
	case err != nil || n > math.MaxInt64:
		return 0
	case major == majorUint:
		return Algorithm(n)
	case major == majorNint:
		return Algorithm(-1 - int64(n))
	}
	return 0
}

// KeyID is the kid parameter, or nil.
func (h Header) KeyID() []byte { return h.byteString(LabelKeyID) }

// IV is the IV parameter, or nil.
func (h Header) IV() []byte { return h.byteString(LabelIV) }

func (h Header) byteString(label int64) []byte {
	raw, ok := h.number(label)
	if !ok {
		return nil
	}
	c := cursor{rest: raw}
	b, err := c.bytes("header parameter")
	if err != nil {
		return nil
	}
	return b
}

// ContentType is the content type parameter: a uint64 (CoAP Content-Format), a string (media
// type), or nil when there is none.
func (h Header) ContentType() any {
	raw, ok := h.number(LabelContentType)
	if !ok {
		return nil
	}
	var number uint64
	if cbor.Unmarshal(raw, &number) == nil {
		return number
	}
	var text string
	if cbor.Unmarshal(raw, &text) == nil {
		return text
	}
	return nil
}

// Critical lists the labels of the crit parameter, or nil when there is none. It fails when the
// parameter is empty or holds anything but labels.
func (h Header) Critical() ([]any, error) {
	if _, ok := h.number(LabelCritical); !ok {
		return nil, nil
	}
	var labels []any
	if err := h.Decode(LabelCritical, &labels); err != nil {
		return nil, err
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("%w crit is empty (RFC 9052 §3.1)", ErrHeader)
	}
	for i, l := range labels {
		n, err := normalLabel(l)
		if err != nil {
			return nil, fmt.Errorf("%w in crit", err)
		}
		labels[i] = n
	}
	return labels, nil
}

// X5Chain returns the DER certificates of the x5chain parameter, end entity first, or nil when
// there is none.
//
//	COSE_X509 = bstr / [ 2*certs: bstr ]
func (h Header) X5Chain() ([][]byte, error) {
	raw, ok := h.number(LabelX5Chain)
	if !ok {
		return nil, nil
	}
	c := cursor{rest: raw}
	if raw[0]>>5 == majorBytes {
		one, err := c.bytes("x5chain")
		return [][]byte{one}, err
	}
	n, err := c.expect(majorArray, "x5chain")
	if err != nil {
		return nil, fmt.Errorf("%w x5chain: %w", ErrHeader, err)
	}
	if n < 2 || n > MaxCertificates {
		return nil, fmt.Errorf("%w x5chain: an array of %d certificates, 2 to %d are allowed (RFC 9360 §2)", ErrHeader, n, MaxCertificates)
	}
	chain := make([][]byte, n)
	for i := range chain {
		if chain[i], err = c.bytes("x5chain"); err != nil {
			return nil, fmt.Errorf("%w x5chain: %w", ErrHeader, err)
		}
	}
	return chain, nil
}

func (h *Header) setX5Chain(chain [][]byte) error {
	switch {
	case len(chain) > MaxCertificates:
		return fmt.Errorf("%w x5chain: %d certificates, at most %d are allowed", ErrHeader, len(chain), MaxCertificates)
	case len(chain) == 1:
		return h.Set(LabelX5Chain, chain[0])
	}
	return h.Set(LabelX5Chain, chain)
}

// clone copies the list, so that a caller's header is not modified, and leaves room for two more.
func (h Header) clone() Header {
	return Header{append(make([]parameter, 0, len(h.params)+2), h.params...)}
}

func encodeLabel(label any) []byte {
	switch l := label.(type) {
	case int64:
		return appendInt(nil, l)
	case string:
		return appendText(nil, l)
	}
	return nil
}

// appendMap appends the header map in deterministic order.
func (h Header) appendMap(dst []byte) []byte {
	dst = appendHead(dst, majorMap, uint64(len(h.params)))
	if len(h.params) == 1 {
		return append(append(dst, encodeLabel(h.params[0].label)...), h.params[0].value...)
	}
	for _, l := range h.Labels() {
		value, _ := h.find(l)
		dst = append(append(dst, encodeLabel(l)...), value...)
	}
	return dst
}

// protectedBytes is the content of the protected byte string. An empty header becomes a string of
// length zero (RFC 9052 §3).
func (h Header) protectedBytes() []byte {
	if len(h.params) == 0 {
		return []byte{}
	}
	return h.appendMap(nil)
}

// MarshalCBOR encodes the header map.
func (h Header) MarshalCBOR() ([]byte, error) { return h.appendMap(nil), nil }

// UnmarshalCBOR decodes a header map.
func (h *Header) UnmarshalCBOR(data []byte) error {
	parsed, err := parseHeaderMap(append([]byte(nil), data...), "header")
	if err == nil {
		*h = parsed
	}
	return err
}

// parseHeaderMap decodes one bucket and checks what can be checked without its neighbour.
func parseHeaderMap(data []byte, what string) (Header, error) {
	if len(data) > MaxHeaderBytes {
		return Header{}, fmt.Errorf("%w: %w: %s of %d bytes, at most %d are read", ErrMalformed, ErrTooLarge, what, len(data), MaxHeaderBytes)
	}
	if len(data) == 1 && data[0] == majorMap<<5 {
		return Header{}, nil
	}
	c := cursor{rest: data}
	n, err := c.expect(majorMap, what)
	if err != nil {
		return Header{}, err
	}
	if n > MaxHeaderParameters {
		return Header{}, fmt.Errorf("%w: %w: %s with %d parameters, at most %d are read", ErrMalformed, ErrTooLarge, what, n, MaxHeaderParameters)
	}
	h := Header{params: make([]parameter, 0, n)}
	for range n {
		if err := h.readParameter(&c, what); err != nil {
			return Header{}, err
		}
	}
	if err := c.end(); err != nil {
		return Header{}, err
	}
	return h, h.checkTypes()
}

func (h *Header) readParameter(c *cursor, what string) error {
	rawLabel, err := c.item(what)
	if err != nil {
		return err
	}
	label, err := decodeLabel(rawLabel)
	if err != nil {
		return err
	}
	if _, twice := h.find(label); twice {
		return fmt.Errorf("%w %v occurs twice in the %s", ErrHeader, label, what)
	}
	value, err := c.item(what)
	if err != nil {
		return err
	}
	h.params = append(h.params, parameter{label, value})
	return nil
}

func decodeLabel(raw []byte) (any, error) {
	c := cursor{rest: raw}
	major, n, err := c.head()
	if err != nil {
		return nil, err
	}
	switch {
	case major == majorUint && n <= math.MaxInt64:
		return int64(n), nil
	case major == majorNint && n <= math.MaxInt64:
		return -1 - int64(n), nil
	case major == majorText:
		var s string
		if err := cbor.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("%w: a label is neither an integer nor a text", ErrHeader)
}

// checkTypes verifies the types of the parameters that RFC 9052 §3.1 defines, so that accessors
// that return a zero value mean "absent" and nothing else.
func (h Header) checkTypes() error {
	for _, p := range h.params {
		label, raw := p.label, p.value
		major := raw[0] >> 5
		ok := true
		switch label {
		case LabelAlgorithm:
			ok = major == majorUint || major == majorNint || major == majorText
		case LabelCritical:
			ok = major == majorArray
		case LabelContentType:
			ok = major == majorUint || major == majorText
		case LabelKeyID, LabelIV, LabelPartialIV:
			ok = major == majorBytes
		case LabelX5Chain:
			ok = major == majorBytes || major == majorArray
		}
		if !ok {
			return fmt.Errorf("%w %v has CBOR major type %d, which RFC 9052 §3.1 does not allow for it", ErrHeader, label, major)
		}
	}
	return nil
}

// readHeaders reads both buckets. protected is the content of the byte string as it was received,
// which is what signatures cover.
func (c *cursor) readHeaders(what string) (h Headers, protected []byte, err error) {
	if h, protected, err = c.readBuckets(); err == nil {
		err = h.checkBuckets()
	}
	if err != nil {
		return h, nil, fmt.Errorf("%s: %w", what, err)
	}
	return h, protected, nil
}

func (c *cursor) readBuckets() (h Headers, protected []byte, err error) {
	if protected, err = c.bytes("protected header"); err != nil {
		return h, nil, err
	}
	if len(protected) != 0 {
		if err := cbor.Wellformed(protected); err != nil {
			return h, nil, fmt.Errorf("%w: protected header: %w", ErrMalformed, err)
		}
		if h.Protected, err = parseHeaderMap(protected, "protected header"); err != nil {
			return h, nil, err
		}
	}
	raw, err := c.item("unprotected header")
	if err != nil {
		return h, nil, err
	}
	h.Unprotected, err = parseHeaderMap(raw, "unprotected header")
	return h, protected, err
}

// checkBuckets refuses what the two buckets must not hold together (RFC 9052 §3, §3.1).
func (h Headers) checkBuckets() error {
	for _, p := range h.Unprotected.params {
		if _, both := h.Protected.find(p.label); both {
			return fmt.Errorf("%w %v occurs in both buckets (RFC 9052 §3)", ErrHeader, p.label)
		}
	}
	if _, ok := h.Unprotected.number(LabelCritical); ok {
		return fmt.Errorf("%w crit is not protected (RFC 9052 §3.1)", ErrHeader)
	}
	_, iv := h.Get(LabelIV)
	_, partial := h.Get(LabelPartialIV)
	if iv && partial {
		return fmt.Errorf("%w IV and Partial IV occur together (RFC 9052 §3.1)", ErrHeader)
	}
	return nil
}

// checkCritical enforces crit: each label in it must be present in the protected bucket and be
// understood by this package or by the caller.
func (h Headers) checkCritical(understood []any) error {
	labels, err := h.Protected.Critical()
	if err != nil {
		return err
	}
	for _, label := range labels {
		if _, ok := h.Protected.find(label); !ok {
			return fmt.Errorf("%w %v is listed in crit and not in the protected bucket (RFC 9052 §3.1)", ErrHeader, label)
		}
		if !isUnderstood(label, understood) {
			return fmt.Errorf("%w %v is critical and not understood", ErrHeader, label)
		}
	}
	return nil
}

func isUnderstood(label any, understood []any) bool {
	switch label {
	case LabelAlgorithm, LabelCritical, LabelContentType, LabelKeyID, LabelIV, LabelX5Chain:
		return true
	}
	for _, u := range understood {
		if n, err := normalLabel(u); err == nil && n == label {
			return true
		}
	}
	return false
}

// Get returns the encoded value under label from the protected bucket, or else from the
// unprotected one.
func (h Headers) Get(label any) (item []byte, ok bool) {
	if item, ok = h.Protected.Get(label); ok {
		return item, true
	}
	return h.Unprotected.Get(label)
}

// bucket returns the bucket that holds label, protected first.
func (h Headers) bucket(label int64) Header {
	if _, ok := h.Protected.number(label); ok {
		return h.Protected
	}
	return h.Unprotected
}

// KeyID is the kid parameter of either bucket, or nil.
func (h Headers) KeyID() []byte { return h.bucket(LabelKeyID).KeyID() }

// ContentType is the content type of either bucket; see [Header.ContentType].
func (h Headers) ContentType() any { return h.bucket(LabelContentType).ContentType() }

// IV is the IV parameter of either bucket, or nil.
func (h Headers) IV() []byte { return h.bucket(LabelIV).IV() }

// X5Chain is the x5chain of either bucket; see [Header.X5Chain].
func (h Headers) X5Chain() ([][]byte, error) { return h.bucket(LabelX5Chain).X5Chain() }
