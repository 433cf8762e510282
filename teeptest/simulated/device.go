// Package simulated has devices for measurements and for tests under load: they sign every message for real,
// and do nothing else that a device does. A device is an index, from which its key is derived, so that a
// million of them take no memory.
//
//	fleet, err := simulated.NewFleet(rand.Reader, verifier)
//	d, err := fleet.Device(7)
//	q, err := simulated.Content[*teep.QueryRequest](query)
//	response, err := d.Response(q, simulated.Says{Attests: true}, time.Now())
//
// Devices do not check who signed what a TAM sends, and run no manifest. For devices that do, see package
// teeptest.
package simulated

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// Fleet is what all devices share. It does not change, and is safe for concurrent use.
type Fleet struct {
	seed     [32]byte
	verifier cose.Signer // signs Attestation Results, as the verifier of the devices' maker
	oemid    []byte
	agent    eat.ManifestReference // of the agents
}

// NewFleet makes a fleet whose Attestation Results verifier signs. The keys of its devices come from random.
func NewFleet(random io.Reader, verifier cose.Signer) (*Fleet, error) {
	f := &Fleet{verifier: verifier}
	if _, err := io.ReadFull(random, f.seed[:]); err != nil {
		return nil, fmt.Errorf("simulated: %w", err)
	}
	var err error
	digest := sha256.Sum256([]byte("agent"))
	f.agent = eat.ManifestReference{URI: "https://maker.example/agent.suit", Digest: appraisal.Digest{Algorithm: cose.AlgSHA256, Value: digest[:]}}
	f.oemid, err = attest.ParseOEMID("pen:32473")
	return f, err
}

// Device is one of the fleet, while it is at work.
type Device struct {
	fleet *Fleet
	Index uint32
	// Key signs its messages.
	Key cose.Signer
}

// Device makes the key of a device again, which is cheap for Ed25519.
func (f *Fleet) Device(index uint32) (*Device, error) {
	material := binary.BigEndian.AppendUint32(f.seed[:len(f.seed):len(f.seed)], index)
	seed := sha256.Sum256(material)
	key, err := cose.NewPrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, fmt.Errorf("simulated: %w", err)
	}
	signer, err := key.Signer()
	if err != nil {
		return nil, fmt.Errorf("simulated: %w", err)
	}
	return &Device{f, index, signer}, nil
}

// The class that all devices attest to be of, under the OEM of [Device.OEMID].
const (
	HardwareModel   = "simulated"
	HardwareVersion = "1"
)

// UEID is the device's Universal Entity ID, of type RAND (RFC 9711 §4.2.1).
func (d *Device) UEID() []byte {
	return append([]byte{1}, fmt.Sprintf("device-%09d", d.Index)...)
}

// OEMID is the encoded claim of its maker.
func (d *Device) OEMID() []byte { return d.fleet.oemid }

// result is an Attestation Result about the device, with the token of a QueryRequest in it.
func (d *Device) result(nonce []byte, now time.Time) ([]byte, error) {
	confirmation := eat.Confirm(d.Key.Public())
	confirmation.Key = d.Key.Public()
	claims := &eat.Claims{
		Profile: eat.Profile, IssuedAt: now, Expires: now.Add(time.Hour), Nonce: nonce, Confirmation: confirmation,
		UEID: d.UEID(), OEMID: d.fleet.oemid, HWModel: []byte(HardwareModel), HWVersion: &eat.Version{Text: HardwareVersion},
		Manifests: []eat.Manifest{{Reference: &d.fleet.agent}},
		Appraised: true, Status: attest.StatusAffirming,
	}
	payload, err := claims.Encode()
	if err != nil {
		return nil, err
	}
	o := cose.SignOptions{Untagged: true, OmitKeyID: true}
	if err := o.Protected.Set(cose.LabelKeyID, d.fleet.verifier.Public().Thumbprint()); err != nil {
		return nil, err
	}
	return cose.Sign1(rand.Reader, payload, d.fleet.verifier, o)
}

// reported is an entry of tc-list: the component and the digest of its payload (SUIT Report §4).
type reported struct {
	ID     suit.ComponentID `cbor:"0,keyasint"`
	Digest []byte           `cbor:"3,keyasint"`
}

// Component is what a device says of a component that it has.
func Component(id suit.ComponentID, payload []byte) (cbor.RawMessage, error) {
	sum := sha256.Sum256(payload)
	digest, err := (suit.Digest{Algorithm: cose.AlgSHA256, Bytes: sum[:]}).MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("simulated: %w", err)
	}
	return cbor.Marshal(reported{id, digest})
}

// Says is what a device tells a TAM about itself.
type Says struct {
	// Attests says that it brings an Attestation Result.
	Attests bool
	// Has are the components that it has.
	Has []cbor.RawMessage
}

// Response answers a QueryRequest that has a token.
func (d *Device) Response(q *teep.QueryRequest, s Says, now time.Time) ([]byte, error) {
	m := &teep.QueryResponse{Token: q.Token, TrustedComponents: append([]cbor.RawMessage{}, s.Has...)}
	if s.Attests {
		result, err := d.result(q.Token, now)
		if err != nil {
			return nil, fmt.Errorf("simulated: %w", err)
		}
		m.AttestationPayload = result
	}
	return teep.Protect(rand.Reader, m, d.Key)
}

// Success answers an Update with a SUIT Report of the one manifest that it brought.
func (d *Device) Success(u *teep.Update, manifest suit.Digest) ([]byte, error) {
	if len(u.Manifests) != 1 {
		return nil, fmt.Errorf("simulated: an Update with %d manifests, error %v %s", len(u.Manifests), u.ErrorCode, u.ErrorMessage)
	}
	report, err := (&suit.Report{Reference: suit.Reference{Digest: manifest}, Nonce: u.Token}).Encode()
	if err != nil {
		return nil, fmt.Errorf("simulated: %w", err)
	}
	return teep.Protect(rand.Reader, &teep.Success{Token: u.Token, SUITReports: [][]byte{report}}, d.Key)
}

// Content is the message inside a protected one.
func Content[M teep.Message](data []byte) (message M, err error) {
	payload, err := cose.UnverifiedPayload(data)
	if err != nil {
		return message, fmt.Errorf("simulated: %w", err)
	}
	m, err := teep.Decode(payload)
	if err != nil {
		return message, fmt.Errorf("simulated: %w", err)
	}
	message, ok := m.(M)
	if !ok {
		return message, fmt.Errorf("simulated: the TAM answers with a %v", m.Type())
	}
	return message, nil
}
