package conform

import (
	"crypto/rand"
	"io"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// Device is the device that the suite plays before a TAM.
type Device struct {
	// Agent signs TEEP messages and Attestation signs Evidence, both private, ESP256 or Ed25519.
	Agent, Attestation *cose.Key
	// UEID of the device, 7 to 33 bytes.
	UEID []byte
}

// What all of these devices say of themselves. They protect nothing, and have no measurement but
// this one.
const (
	deviceVendor  = "89-48-23" // assigned for documentation
	deviceModel   = "teep conform"
	deviceVersion = "1"
	agentName     = "teep-conform"
)

var deviceMeasurement = append([]byte("the conformance suite: no TEE"), 0, 0, 0)

// NewDevice makes a device with new keys.
func NewDevice(random io.Reader) (*Device, error) {
	d := &Device{UEID: make([]byte, 17)}
	if _, err := io.ReadFull(random, d.UEID); err != nil {
		return nil, err
	}
	d.UEID[0] = 1 // RAND (RFC 9711 §4.2.1)
	for _, k := range []**cose.Key{&d.Agent, &d.Attestation} {
		var err error
		if *k, err = cose.GenerateKey(random, cose.AlgESP256); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Device) oemid() ([]byte, error) { return attest.ParseOEMID("ieee:" + deviceVendor) }

// Collateral is what the TAM's verifier has to know for the device's Evidence to be good: give it
// to a verifier for the time of the test, and to nobody else, for it vouches for a device that
// protects nothing.
func (d *Device) Collateral(expires time.Time) (*appraisal.Collateral, error) {
	oemid, err := d.oemid()
	if err != nil {
		return nil, err
	}
	if oemid, err = attest.CanonicalOEMID(oemid); err != nil {
		return nil, err
	}
	class := appraisal.Class{OEMID: oemid, HWModel: []byte(deviceModel)}
	expires = expires.UTC().Truncate(time.Second)
	return &appraisal.Collateral{
		Owner: agentName, Expires: expires,
		Endorsements: []appraisal.Endorsement{{Owner: agentName, UEID: d.UEID, Key: d.Attestation.Public(), Class: class}},
		References: []appraisal.Reference{{
			Owner: agentName, Class: class, Expires: expires, Name: agentName, Version: deviceVersion,
			Algorithm: cose.AlgSHA256, Digest: deviceMeasurement, Status: attest.StatusAffirming, Why: "conformance test",
		}},
	}, nil
}

func (d *Device) attester(now func() time.Time) (*eat.Attester, error) {
	signer, err := d.Attestation.Signer()
	if err != nil {
		return nil, err
	}
	oemid, err := d.oemid()
	if err != nil {
		return nil, err
	}
	return eat.NewAttester(eat.AttesterConfig{
		Identity: eat.Identity{
			UEID: d.UEID, OEMID: oemid, HWModel: []byte(deviceModel), HWVersion: deviceVersion,
			AgentName: agentName, AgentVersion: deviceVersion, Measurement: deviceMeasurement,
		},
		Signer: signer, Now: now, Rand: rand.Reader,
	})
}
