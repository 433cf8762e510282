package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// signedContext is the external additional data of a signed set. It keeps any other COSE_Sign1
// that the administrator's key ever made from being taken for a set.
const signedContext = "TEEP Agent trust anchors"

//	anchor-set = {
//	  1: uint,                    ; version
//	  ? 2: COSE_Key,              ; administrator
//	  3: [+ tam-anchor],
//	  ? 4: [+ signer-anchor],
//	  ? 5: [+ verifier-anchor],
//	}
type wireSet struct {
	Version       uint64          `cbor:"1,keyasint"`
	Administrator cbor.RawMessage `cbor:"2,keyasint,omitempty"`
	TAMs          []wireTAM       `cbor:"3,keyasint"`
	Signers       []wireSigner    `cbor:"4,keyasint,omitempty"`
	Verifiers     []wireVerifier  `cbor:"5,keyasint,omitempty"`
}

//	tam-anchor = {
//	  1: tstr,                    ; name
//	  2: [+ tstr],                ; URIs
//	  ? 3: [+ COSE_Key],
//	  ? 4: bstr,                  ; X.509 certificate of the authority, DER
//	  ? 5: tstr,                  ; DNS name in the TAM's certificate
//	  ? 6: COSE_Key,              ; encryption
//	  ? 7: true,                  ; must attest itself
//	  ? 8: [+ SUIT_Component_Identifier],  ; prefixes it may manage
//	}
type wireTAM struct {
	Name       string            `cbor:"1,keyasint"`
	URIs       []string          `cbor:"2,keyasint"`
	Keys       []cbor.RawMessage `cbor:"3,keyasint,omitempty"`
	Authority  []byte            `cbor:"4,keyasint,omitempty"`
	Subject    string            `cbor:"5,keyasint,omitempty"`
	Encryption cbor.RawMessage   `cbor:"6,keyasint,omitempty"`
	MustAttest bool              `cbor:"7,keyasint,omitempty"`
	Components [][][]byte        `cbor:"8,keyasint,omitempty"`
}

//	signer-anchor = {
//	  1: tstr,                    ; name
//	  ? 2: [+ COSE_Key],
//	  3: [+ [* bstr]],            ; prefixes of SUIT_Component_Identifiers; the empty one is all
//	  ? 4: [+ int],               ; commands
//	  ? 5: [+ int],               ; parameters
//	  ? 6: [+ bstr],              ; X.509 certificates of authorities, DER; this or keys
//	}
type wireSigner struct {
	Name        string                `cbor:"1,keyasint"`
	Keys        []cbor.RawMessage     `cbor:"2,keyasint,omitempty"`
	Components  [][][]byte            `cbor:"3,keyasint"`
	Commands    []suit.CommandCode    `cbor:"4,keyasint,omitempty"`
	Parameters  []suit.ParameterLabel `cbor:"5,keyasint,omitempty"`
	Authorities [][]byte              `cbor:"6,keyasint,omitempty"`
}

// verifier-anchor = { 1: tstr, 2: [+ COSE_Key] }
type wireVerifier struct {
	Name string            `cbor:"1,keyasint"`
	Keys []cbor.RawMessage `cbor:"2,keyasint"`
}

// Encode returns the CBOR form. The same set always gives the same bytes.
func (s *Set) Encode() ([]byte, error) {
	var e keyEncoder
	w := wireSet{Version: s.Version, Administrator: e.key(s.Administrator), TAMs: []wireTAM{}}
	for _, t := range s.TAMs {
		wt := wireTAM{Name: t.Name, URIs: t.URIs, Keys: e.keys(t.Keys), Subject: t.Subject,
			Encryption: e.key(t.Encryption), MustAttest: t.MustAttest, Components: plainIDs(t.Components)}
		if t.Authority != nil {
			wt.Authority = t.Authority.Raw
		}
		w.TAMs = append(w.TAMs, wt)
	}
	for _, sg := range s.Signers {
		ws := wireSigner{Name: sg.Name, Keys: e.keys(sg.Keys), Components: plainIDs(sg.Components),
			Commands: sg.Commands, Parameters: sg.Parameters}
		for _, a := range sg.Authorities {
			ws.Authorities = append(ws.Authorities, a.Raw)
		}
		w.Signers = append(w.Signers, ws)
	}
	for _, v := range s.Verifiers {
		w.Verifiers = append(w.Verifiers, wireVerifier{Name: v.Name, Keys: e.keys(v.Keys)})
	}
	if e.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, e.err)
	}
	data, err := cbor.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return data, nil
}

// ParseCBOR reads the CBOR form. It accepts exactly what Encode produces, so that a set has one
// encoding.
func ParseCBOR(data []byte) (*Set, error) {
	if len(data) > MaxSize {
		return nil, invalid("%d bytes exceed the limit of %d", len(data), MaxSize)
	}
	var w wireSet
	if err := cbor.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s, err := w.set()
	if err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	again, err := s.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, invalid("unknown, doubled or misordered members in the CBOR form")
	}
	return s, nil
}

func (w *wireSet) set() (*Set, error) {
	var d keyDecoder
	s := &Set{Version: w.Version, Administrator: d.key(w.Administrator)}
	for _, t := range w.TAMs {
		tam := TAM{Name: t.Name, URIs: t.URIs, Keys: d.keys(t.Keys), Subject: t.Subject, Encryption: d.key(t.Encryption),
			MustAttest: t.MustAttest, Components: componentIDs(t.Components)}
		if t.Authority != nil {
			cert, err := x509.ParseCertificate(t.Authority)
			if err != nil {
				return nil, invalid("TAM %q: certificate-authority: %v", t.Name, err)
			}
			tam.Authority = cert
		}
		s.TAMs = append(s.TAMs, tam)
	}
	for _, sg := range w.Signers {
		signer := Signer{Name: sg.Name, Keys: d.keys(sg.Keys), Components: componentIDs(sg.Components),
			Commands: sg.Commands, Parameters: sg.Parameters}
		for _, der := range sg.Authorities {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, invalid("signer %q: certificate-authorities: %v", sg.Name, err)
			}
			signer.Authorities = append(signer.Authorities, cert)
		}
		s.Signers = append(s.Signers, signer)
	}
	for _, v := range w.Verifiers {
		s.Verifiers = append(s.Verifiers, Verifier{Name: v.Name, Keys: d.keys(v.Keys)})
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, d.err)
	}
	return s, nil
}

// Sign makes the set that the administrator publishes: a COSE_Sign1 around the CBOR form.
func Sign(rand io.Reader, s *Set, administrator cose.Signer) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	payload, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return cose.Sign1(rand, payload, administrator, cose.SignOptions{ExternalAAD: []byte(signedContext)})
}

// Open verifies a signed set with the administrator's key and reads it.
func Open(signed []byte, administrator *cose.Key) (*Set, error) {
	if administrator == nil {
		return nil, invalid("the set in force names no administrator, so it cannot be changed")
	}
	keys, err := cose.NewKeySet(administrator)
	if err != nil {
		return nil, fmt.Errorf("%w: administrator: %w", ErrInvalid, err)
	}
	v, err := cose.Verify(signed, keys, cose.VerifyOptions{ExternalAAD: []byte(signedContext)})
	if err != nil {
		return nil, fmt.Errorf("%w: not signed by the administrator of the set in force: %w", ErrInvalid, err)
	}
	return ParseCBOR(v.Payload)
}

// OpenSelfSigned reads a signed set and verifies it with the administrator whom it names itself.
// That proves nothing about who made it: it is for the first set of a device, which whoever
// provisions the device chooses, and for telling whether a set is the one in force.
func OpenSelfSigned(signed []byte) (*Set, error) {
	payload, err := cose.UnverifiedPayload(signed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	set, err := ParseCBOR(payload)
	if err != nil {
		return nil, err
	}
	return Open(signed, set.Administrator)
}

// keyEncoder and keyDecoder keep the first error, so that a literal can use them.
type keyEncoder struct{ err error }

func (e *keyEncoder) key(k *cose.Key) cbor.RawMessage {
	if k == nil {
		return nil
	}
	data, err := k.MarshalCBOR()
	if err != nil && e.err == nil {
		e.err = err
	}
	return data
}

func (e *keyEncoder) keys(in []*cose.Key) []cbor.RawMessage {
	var out []cbor.RawMessage
	for _, k := range in {
		out = append(out, e.key(k))
	}
	return out
}

type keyDecoder struct{ err error }

func (d *keyDecoder) key(data cbor.RawMessage) *cose.Key {
	if data == nil {
		return nil
	}
	k, err := cose.ParseKey(data)
	if err != nil && d.err == nil {
		d.err = err
	}
	return k
}

func (d *keyDecoder) keys(in []cbor.RawMessage) []*cose.Key {
	var out []*cose.Key
	for _, data := range in {
		out = append(out, d.key(data))
	}
	return out
}

func plainIDs(in []suit.ComponentID) [][][]byte {
	var out [][][]byte
	for _, id := range in {
		out = append(out, [][]byte(id))
	}
	return out
}

func componentIDs(in [][][]byte) []suit.ComponentID {
	var out []suit.ComponentID
	for _, id := range in {
		out = append(out, suit.ComponentID(id))
	}
	return out
}
