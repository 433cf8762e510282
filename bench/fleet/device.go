package main

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/teeptest/simulated"
)

// fleet is the simulated devices, with what they have.
type fleet struct {
	*simulated.Fleet
	manifest suit.Digest     // of the version that is rolled out
	program  cbor.RawMessage // what a device with that version says that it has
	has      []atomic.Bool   // which devices have it: the only state that devices have
}

func newFleet(verifier cose.Signer, devices int) (*fleet, error) {
	f, err := simulated.NewFleet(rand.Reader, verifier)
	return &fleet{Fleet: f, has: make([]atomic.Bool, devices)}, err
}

// device is one of the fleet, while it is at work.
type device struct {
	*simulated.Device
	fleet *fleet
}

func (f *fleet) device(index uint32) (*device, error) {
	d, err := f.Device(index)
	return &device{d, f}, err
}

func (f *fleet) reports(id suit.ComponentID, payload []byte) (err error) {
	f.program, err = simulated.Component(id, payload)
	return err
}

// response answers a QueryRequest. A device that has the component says so; one that enrols brings an
// Attestation Result.
func (d *device) response(q *teep.QueryRequest, enrol bool, now time.Time) ([]byte, error) {
	s := simulated.Says{Attests: enrol}
	if d.fleet.has[d.Index].Load() {
		s.Has = []cbor.RawMessage{d.fleet.program}
	}
	return d.Response(q, s, now)
}

// endpoint is a TAM, seen from a device.
type endpoint interface {
	ProcessConnect(ctx context.Context) ([]byte, error)
	ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error)
}

// session is one session of the device with a TAM. Devices do not check who signed what the TAM sends:
// their side is not what is measured.
func (d *device) session(ctx context.Context, at endpoint, enrol bool) (outcome, error) {
	query, err := at.ProcessConnect(ctx)
	if err != nil {
		return 0, err
	}
	q, err := simulated.Content[*teep.QueryRequest](query)
	if err != nil {
		return 0, err
	}
	response, err := d.response(q, enrol, time.Now())
	if err != nil {
		return 0, err
	}
	reply, err := at.ProcessTeepMessage(ctx, response)
	if err != nil || len(reply) == 0 {
		return nothingNew, err
	}
	u, err := simulated.Content[*teep.Update](reply)
	if err != nil {
		return 0, err
	}
	done, err := d.Success(u, d.fleet.manifest)
	if err != nil {
		return 0, err
	}
	if reply, err = at.ProcessTeepMessage(ctx, done); err != nil {
		return 0, err
	}
	if len(reply) > 0 {
		return 0, errors.New("a Success was answered")
	}
	if d.fleet.has[d.Index].Swap(true) {
		return 0, errors.New("the TAM sends an Update to a device that has it already")
	}
	return updated, nil
}

// record is what the TAM stores of the device when it enrols.
func (d *device) record(now time.Time) (*tam.Device, error) {
	key := d.Key.Public()
	encoded, err := key.MarshalCBOR()
	if err != nil {
		return nil, err
	}
	thumbprint := key.Thumbprint()
	return &tam.Device{
		ID: tam.DeviceID(thumbprint), KeyThumbprint: thumbprint, AgentKey: encoded,
		Status: tam.DeviceAccepted, DecidedBy: "attestation", FirstSeen: now, LastSeen: now,
		UEID: d.UEID(), OEMID: d.OEMID(), HWModel: []byte(simulated.HardwareModel), HWVersion: simulated.HardwareVersion,
		Attestation: tam.Attestation{Status: attest.StatusAffirming, At: now},
	}, nil
}
