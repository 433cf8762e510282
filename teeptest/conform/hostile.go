package conform

import (
	"bytes"
	"crypto/rand"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// damage is a way to spoil a message. Whoever receives the result has to reject it.
type damage struct {
	id, section, text string
	// authentic says that the signature of the result is right.
	authentic bool
	make      func(payload []byte, s cose.Signer) ([]byte, error)
}

func signed(change func(p *parts)) func([]byte, cose.Signer) ([]byte, error) {
	return func(payload []byte, s cose.Signer) ([]byte, error) {
		p := honest(payload, s)
		change(&p)
		return p.sign(s)
	}
}

// unsound makes an honest message and spoils its bytes.
func unsound(change func(msg []byte) []byte) func([]byte, cose.Signer) ([]byte, error) {
	return func(payload []byte, s cose.Signer) ([]byte, error) {
		msg, err := honest(payload, s).sign(s)
		if err != nil {
			return nil, err
		}
		return change(msg), nil
	}
}

// content changes the TEEP message before it is signed.
func content(change func(m *message) []byte) func([]byte, cose.Signer) ([]byte, error) {
	return func(payload []byte, s cose.Signer) ([]byte, error) {
		m, err := takeApart(payload)
		if err != nil {
			return nil, err
		}
		return honest(change(m), s).sign(s)
	}
}

const (
	labelToken     = 20
	labelErrCode   = 23
	labelExtension = 4711 // of nothing
)

var damages = []damage{
	{"not-cbor", "§4.1.2 step 1", "what is not CBOR is rejected", false, func([]byte, cose.Signer) ([]byte, error) {
		return bytes.Repeat([]byte{0xff}, 100), nil
	}},
	{"truncated", "§4.1.2 step 1", "a truncated message is rejected", false,
		unsound(func(msg []byte) []byte { return msg[:len(msg)*2/3] })},
	{"trailing", "§4.1.2 step 1", "bytes after the message make it no CBOR object", false,
		unsound(func(msg []byte) []byte { return append(msg, 0) })},
	{"nesting", "§4.1.2 step 1", "arrays nested 100,000 deep are rejected", false, func([]byte, cose.Signer) ([]byte, error) {
		return append(bytes.Repeat([]byte{0x81}, 100_000), 0), nil
	}},
	{"no-cose", "§4.1.2 step 2", "a bare payload without COSE is rejected", false,
		func(payload []byte, _ cose.Signer) ([]byte, error) { return payload, nil }},
	{"mac", "§4.1.2 step 2", "a COSE_Mac0 is rejected", false, signed(func(p *parts) { p.tag = 17 })},
	{"crit", "§4.1.2 step 3", "a critical header parameter that nobody knows is not ignored", true, signed(func(p *parts) {
		alg := algorithmOf(p.protected)
		p.protected = must(cbor.Marshal(map[int64]any{1: alg, 2: []int64{-70001}, -70001: true}))
	})},
	{"crit-empty", "§4.1.2 step 3", "an empty list of critical parameters is rejected", true, signed(func(p *parts) {
		p.protected = must(cbor.Marshal(map[int64]any{1: algorithmOf(p.protected), 2: []int64{}}))
	})},
	{"header-twice", "§4.1.2 step 3", "a header parameter in both buckets is rejected", true, signed(func(p *parts) {
		p.unprotected = must(cbor.Marshal(map[int64]any{1: algorithmOf(p.protected)}))
	})},
	{"header-duplicate", "§4.1.2 step 3", "a header parameter that is given twice is rejected", true, signed(func(p *parts) {
		pair := must(cbor.Marshal(map[int64]any{1: algorithmOf(p.protected)}))[1:]
		p.protected = append(append([]byte{0xa2}, pair...), pair...)
	})},
	{"algorithm-absent", "§4.1.2 step 3", "a message without algorithm is rejected", true,
		signed(func(p *parts) { p.protected = []byte{0xa0} })},
	{"algorithm-unknown", "§4.1.2 step 3", "an algorithm that nobody offered is rejected", true, signed(func(p *parts) {
		p.protected = must(cbor.Marshal(map[int64]any{1: int64(-65535)}))
	})},
	{"content-type", "§4.1.2 step 3", "a message that says to be of another content type is rejected", true, signed(func(p *parts) {
		p.protected = must(cbor.Marshal(map[int64]any{1: algorithmOf(p.protected), 3: "application/cose-key"}))
	})},
	{"signature-bit", "§4.1.2 step 4", "a signature with one bit turned is rejected", false,
		unsound(func(msg []byte) []byte { msg[len(msg)-1] ^= 1; return msg })},
	{"signature-empty", "§4.1.2 step 4", "an empty signature is rejected", false,
		func(payload []byte, s cose.Signer) ([]byte, error) { return honest(payload, s).with(nil), nil }},
	{"payload-bit", "§4.1.2 step 4", "a payload with one bit turned is rejected", false,
		func(payload []byte, s cose.Signer) ([]byte, error) {
			msg, err := honest(payload, s).sign(s)
			if i := bytes.Index(msg, payload); err == nil {
				msg[i+len(payload)-1] ^= 1
			}
			return msg, err
		}},
	{"other-key", "§4.1.2 step 4", "a message of another key under the same kid is rejected", false,
		func(payload []byte, s cose.Signer) ([]byte, error) {
			p := honest(payload, s)
			other, err := cose.GenerateKey(rand.Reader, s.Algorithm())
			if err != nil {
				return nil, err
			}
			forger, err := other.Signer()
			if err != nil {
				return nil, err
			}
			return p.sign(forger)
		}},
	{"detached", "§4.1.2 step 4", "a message whose payload is left out is rejected", false,
		func(payload []byte, s cose.Signer) ([]byte, error) {
			return cose.Sign1(rand.Reader, payload, s, cose.SignOptions{Detached: true})
		}},
	{"duplicate-label", "§4.1.2 step 5", "an option that is given twice is rejected", true, content(func(m *message) []byte {
		m.set(labelExtension, 1)
		m.options = append(m.options, m.options[len(m.options)-1])
		return m.encode()
	})},
	{"token-short", "§4.2", "a token of 7 bytes is rejected", true, content(func(m *message) []byte {
		m.set(labelToken, []byte("7 bytes"))
		return m.encode()
	})},
	{"token-long", "§4.2", "a token of 65 bytes is rejected", true, content(func(m *message) []byte {
		m.set(labelToken, make([]byte, 65))
		return m.encode()
	})},
	{"token-type", "§4.2", "a token that is a text is rejected", true, content(func(m *message) []byte {
		m.set(labelToken, "a text of length")
		return m.encode()
	})},
	{"label-type", "§4", "an option label that is a text is rejected", true, content(func(m *message) []byte {
		m.options = append(m.options, [2]cbor.RawMessage{must(cbor.Marshal("label")), {1}})
		return m.encode()
	})},
	{"type-reserved", "§4", "message type 4 is rejected", true, content(func(m *message) []byte {
		m.elements[0] = cbor.RawMessage{4}
		return m.encode()
	})},
	{"type-text", "§4", "a message type that is a text is rejected", true, content(func(m *message) []byte {
		m.elements[0] = must(cbor.Marshal("query-response"))
		return m.encode()
	})},
	{"element-missing", "§4", "a message without options is rejected", true, content(func(m *message) []byte {
		return append([]byte{0x81}, m.elements[0]...)
	})},
	{"payload-trailing", "§4.1.2 step 5", "bytes after the message inside the payload are rejected", true,
		content(func(m *message) []byte { return append(m.encode(), 0) })},
	{"payload-map", "§4.1.2 step 5", "a payload that is no TEEP message is rejected", true,
		content(func(*message) []byte { return []byte{0xa1, 0x01, 0x02} })},
	{"payload-empty", "§4.1.2 step 5", "an empty payload is rejected", true, content(func(*message) []byte { return []byte{} })},
}

func algorithmOf(protected []byte) int64 {
	var h map[int64]int64
	if err := cbor.Unmarshal(protected, &h); err != nil {
		panic(err) // was made by honest
	}
	return h[1]
}
