package conform

import (
	"crypto/rand"
	"errors"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Messages that no encoder makes are put together by hand.

// parts of a COSE_Sign1, each encoded.
type parts struct {
	tag         uint64 // 0 for none
	protected   []byte // the encoded map that the byte string holds
	unprotected []byte // the encoded map
	payload     []byte
}

// honest are the parts of a proper message.
func honest(payload []byte, s cose.Signer) parts {
	return parts{
		tag: 18, payload: payload,
		protected:   must(cbor.Marshal(map[int64]any{1: int64(s.Algorithm())})),
		unprotected: must(cbor.Marshal(map[int64]any{4: s.KeyID()})),
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // values that are always encodable
	}
	return b
}

// sign makes the message. The signature is right, whatever the parts are (RFC 9052 §4.4).
func (p parts) sign(s cose.Signer) ([]byte, error) {
	tbs := must(cbor.Marshal([]any{"Signature1", p.protected, []byte{}, p.payload}))
	signature, err := s.Sign(rand.Reader, tbs)
	if err != nil {
		return nil, err
	}
	return p.with(signature), nil
}

func (p parts) with(signature []byte) []byte {
	var msg []byte
	if p.tag != 0 {
		msg = head(6, p.tag)
	}
	msg = append(msg, 0x84)
	msg = append(append(msg, head(2, uint64(len(p.protected)))...), p.protected...)
	msg = append(msg, p.unprotected...)
	msg = append(append(msg, head(2, uint64(len(p.payload)))...), p.payload...)
	return append(append(msg, head(2, uint64(len(signature)))...), signature...)
}

// head is the shortest head of a data item (RFC 8949 §3).
func head(major byte, n uint64) []byte {
	b := must(cbor.Marshal(n))
	b[0] |= major << 5
	return b
}

// message is a TEEP message in its elements.
type message struct {
	elements []cbor.RawMessage
	options  [][2]cbor.RawMessage
}

func takeApart(payload []byte) (*message, error) {
	var m message
	if err := cbor.Unmarshal(payload, &m.elements); err != nil {
		return nil, err
	}
	if len(m.elements) < 2 || m.elements[1][0]>>5 != 5 {
		return nil, errors.New("not a TEEP message")
	}
	rest, n := m.elements[1], uint64(0)
	rest, n = body(rest)
	for range n {
		var pair [2]cbor.RawMessage
		for i := range pair {
			var err error
			if rest, err = cbor.UnmarshalFirst(rest, &pair[i]); err != nil {
				return nil, err
			}
		}
		m.options = append(m.options, pair)
	}
	return &m, nil
}

// body returns what follows the head of a map, and the number of its entries.
func body(b []byte) (rest []byte, n uint64) {
	info := b[0] & 0x1f
	size := 0
	if info >= 24 {
		size = 1 << (info - 24)
	}
	if size == 0 {
		return b[1:], uint64(info)
	}
	for _, c := range b[1 : 1+size] {
		n = n<<8 | uint64(c)
	}
	return b[1+size:], n
}

// encode puts the message together with options that may repeat each other.
func (m *message) encode() []byte {
	options := head(5, uint64(len(m.options)))
	for _, o := range m.options {
		options = append(append(options, o[0]...), o[1]...)
	}
	return m.encodeWith(options)
}

func (m *message) encodeWith(options []byte) []byte {
	b := head(4, uint64(len(m.elements)))
	for i, e := range m.elements {
		if i == 1 {
			e = options
		}
		b = append(b, e...)
	}
	return b
}

// set replaces or adds an option.
func (m *message) set(label uint64, value any) {
	encoded := cbor.RawMessage(must(cbor.Marshal(value)))
	key := cbor.RawMessage(head(0, label))
	for i, o := range m.options {
		if string(o[0]) == string(key) {
			m.options[i][1] = encoded
			return
		}
	}
	m.options = append(m.options, [2]cbor.RawMessage{key, encoded})
}

// indefinite makes an authentic message whose options have indefinite length, which is CBOR, and
// which TEEP neither forbids nor asks anybody to read.
func indefinite(m teep.Message, s cose.Signer) ([]byte, error) {
	payload, err := teep.EncodeUnchecked(m)
	if err != nil {
		return nil, err
	}
	taken, err := takeApart(payload)
	if err != nil {
		return nil, err
	}
	options := []byte{0xbf}
	for _, o := range taken.options {
		options = append(append(options, o[0]...), o[1]...)
	}
	return honest(taken.encodeWith(append(options, 0xff)), s).sign(s)
}

// unknownHeaders adds a header parameter that nobody knows to each bucket. Only one that is critical has to
// be understood (RFC 9052 §3.1).
func unknownHeaders(p *parts) {
	p.protected = must(cbor.Marshal(map[int64]any{1: algorithmOf(p.protected), -70001: true}))
	p.unprotected = append([]byte{p.unprotected[0] + 1}, append(must(cbor.Marshal("teep-conform")), append([]byte{0x01}, p.unprotected[1:]...)...)...)
}
