package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// fleet is what all simulated devices share. A device is an index: its keys are derived from it, so that a
// million of them take no memory, and all of them sign for real.
type fleet struct {
	seed     [32]byte
	verifier cose.Signer // signs Attestation Results, as the verifier of the devices' maker
	oemid    []byte
	agent    eat.ManifestReference // of the agents
	manifest suit.Digest           // of the version that is rolled out
	program  cbor.RawMessage       // what a device with that version says that it has
	has      []atomic.Bool         // which devices have it: the only state that devices have
}

func newFleet(verifier cose.Signer, devices int) (*fleet, error) {
	f := &fleet{verifier: verifier, has: make([]atomic.Bool, devices)}
	if _, err := rand.Read(f.seed[:]); err != nil {
		return nil, err
	}
	var err error
	digest := sha256.Sum256([]byte("agent"))
	f.agent = eat.ManifestReference{URI: "https://maker.example/agent.suit", Digest: appraisal.Digest{Algorithm: cose.AlgSHA256, Value: digest[:]}}
	f.oemid, err = attest.ParseOEMID("pen:32473")
	return f, err
}

// device is one of the fleet, while it is at work.
type device struct {
	*fleet
	index uint32
	key   cose.Signer
}

// device makes the key of a device again, which is cheap for Ed25519.
func (f *fleet) device(index uint32) (*device, error) {
	material := binary.BigEndian.AppendUint32(f.seed[:len(f.seed):len(f.seed)], index)
	seed := sha256.Sum256(material)
	key, err := cose.NewPrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, err
	}
	signer, err := key.Signer()
	if err != nil {
		return nil, err
	}
	return &device{f, index, signer}, nil
}

// ueid is the device's Universal Entity ID, of type RAND (RFC 9711 §4.2.1).
func (d *device) ueid() []byte {
	return append([]byte{1}, fmt.Sprintf("device-%09d", d.index)...)
}

// result is an Attestation Result about the device, with the token of a QueryRequest in it.
func (d *device) result(nonce []byte, now time.Time) ([]byte, error) {
	confirmation := eat.Confirm(d.key.Public())
	confirmation.Key = d.key.Public()
	claims := &eat.Claims{
		Profile: eat.Profile, IssuedAt: now, Expires: now.Add(time.Hour), Nonce: nonce, Confirmation: confirmation,
		UEID: d.ueid(), OEMID: d.oemid, HWModel: []byte("simulated"), HWVersion: &eat.Version{Text: "1"},
		Manifests: []eat.Manifest{{Reference: &d.agent}},
		Appraised: true, Status: attest.StatusAffirming,
	}
	payload, err := claims.Encode()
	if err != nil {
		return nil, err
	}
	o := cose.SignOptions{Untagged: true, OmitKeyID: true}
	if err := o.Protected.Set(cose.LabelKeyID, d.verifier.Public().Thumbprint()); err != nil {
		return nil, err
	}
	return cose.Sign1(rand.Reader, payload, d.verifier, o)
}

// reported is an entry of tc-list: the component and the digest of its payload (SUIT Report §4).
type reported struct {
	ID     suit.ComponentID `cbor:"0,keyasint"`
	Digest []byte           `cbor:"3,keyasint"`
}

func (f *fleet) reports(id suit.ComponentID, payload []byte) error {
	sum := sha256.Sum256(payload)
	digest, err := (suit.Digest{Algorithm: cose.AlgSHA256, Bytes: sum[:]}).MarshalCBOR()
	if err != nil {
		return err
	}
	f.program, err = cbor.Marshal(reported{id, digest})
	return err
}

// response answers a QueryRequest. A device that has the component says so; one that enrols brings an
// Attestation Result.
func (d *device) response(q *teep.QueryRequest, enrol bool, now time.Time) ([]byte, error) {
	m := &teep.QueryResponse{Token: q.Token, TrustedComponents: []cbor.RawMessage{}}
	if d.has[d.index].Load() {
		m.TrustedComponents = append(m.TrustedComponents, d.program)
	}
	if enrol {
		result, err := d.result(q.Token, now)
		if err != nil {
			return nil, err
		}
		m.AttestationPayload = result
	}
	return teep.Protect(rand.Reader, m, d.key)
}

// success answers an Update with a SUIT Report of the manifest that it brought.
func (d *device) success(u *teep.Update) ([]byte, error) {
	if len(u.Manifests) != 1 {
		return nil, fmt.Errorf("an Update with %d manifests, error %v %s", len(u.Manifests), u.ErrorCode, u.ErrorMessage)
	}
	report, err := (&suit.Report{Reference: suit.Reference{Digest: d.manifest}, Nonce: u.Token}).Encode()
	if err != nil {
		return nil, err
	}
	return teep.Protect(rand.Reader, &teep.Success{Token: u.Token, SUITReports: [][]byte{report}}, d.key)
}

// endpoint is a TAM, seen from a device.
type endpoint interface {
	ProcessConnect(ctx context.Context) ([]byte, error)
	ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error)
}

// session is one session of the device with a TAM. It tells whether an Update was carried out. Devices do
// not check who signed what the TAM sends: their side is not what is measured.
func (d *device) session(ctx context.Context, at endpoint, enrol bool) (updated bool, err error) {
	query, err := at.ProcessConnect(ctx)
	if err != nil {
		return false, err
	}
	q, err := content[*teep.QueryRequest](query)
	if err != nil {
		return false, err
	}
	response, err := d.response(q, enrol, time.Now())
	if err != nil {
		return false, err
	}
	reply, err := at.ProcessTeepMessage(ctx, response)
	if err != nil || len(reply) == 0 {
		return false, err
	}
	u, err := content[*teep.Update](reply)
	if err != nil {
		return false, err
	}
	done, err := d.success(u)
	if err != nil {
		return false, err
	}
	if reply, err = at.ProcessTeepMessage(ctx, done); err != nil {
		return false, err
	}
	if len(reply) > 0 {
		return false, errors.New("a Success was answered")
	}
	if d.has[d.index].Swap(true) {
		return false, errors.New("the TAM sends an Update to a device that has it already")
	}
	return true, nil
}

// content is the message inside a protected one.
func content[M teep.Message](data []byte) (message M, err error) {
	payload, err := cose.UnverifiedPayload(data)
	if err != nil {
		return message, err
	}
	m, err := teep.Decode(payload)
	if err != nil {
		return message, err
	}
	message, ok := m.(M)
	if !ok {
		return message, fmt.Errorf("the TAM answers with a %v", m.Type())
	}
	return message, nil
}
