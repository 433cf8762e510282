package policy

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
)

// Device is what the rules see of a device: its authenticated claims, and what appraisal made of
// them. Each field is a variable, by the name in its tag. A text that is not claimed is empty.
type Device struct {
	// MediaType is what the Evidence came as; of hardware, that of its report.
	MediaType string `cel:"media_type"`
	// UEID and HWModel are in hexadecimal, OEMID as in "pen:3704".
	UEID      string `cel:"ueid"`
	OEMID     string `cel:"oemid"`
	HWModel   string `cel:"hwmodel"`
	HWVersion string `cel:"hwversion"`
	// Owner is who vouches for the attestation key.
	Owner string `cel:"owner"`
	// Debug is "not reported", "enabled", "disabled", "disabled since boot", "disabled
	// permanently" or "disabled fully and permanently".
	Debug      string   `cel:"debug"`
	Weaknesses []string `cel:"weaknesses"`
	// Age is the time since the Evidence was issued; zero when it does not say.
	Age          time.Duration `cel:"age"`
	Measurements []Measurement `cel:"measurements"`
	Components   []Component   `cel:"components"`
	// Vector is the tier of each aspect of trustworthiness: "none", "affirming", "warning" or
	// "contraindicated".
	Vector  Vector   `cel:"vector"`
	Reasons []Reason `cel:"reasons"`
}

// Measurement is a measured component; Digest is as in "sha-256:9f86…".
type Measurement struct {
	Name    string `cel:"name"`
	Version string `cel:"version"`
	Digest  string `cel:"digest"`
}

// Component is an installed component; ID is its identifier's parts in hexadecimal.
type Component struct {
	ID             []string `cel:"id"`
	ManifestURI    string   `cel:"manifest_uri"`
	ManifestDigest string   `cel:"manifest_digest"`
	SequenceNumber uint64   `cel:"sequence_number"`
}

// Vector is the AR4SI trustworthiness vector.
type Vector struct {
	InstanceIdentity string `cel:"instance_identity"`
	Configuration    string `cel:"configuration"`
	Executables      string `cel:"executables"`
	FileSystem       string `cel:"file_system"`
	Hardware         string `cel:"hardware"`
	RuntimeOpaque    string `cel:"runtime_opaque"`
	StorageOpaque    string `cel:"storage_opaque"`
	SourcedData      string `cel:"sourced_data"`
}

// Reason is one finding of the appraisal before the policy.
type Reason struct {
	Claim  string `cel:"claim"`
	Status string `cel:"status"`
	Text   string `cel:"text"`
}

// variables declares a variable for each field of Device.
func variables() []cel.EnvOption {
	named := map[string]*cel.Type{
		"age":          cel.DurationType,
		"weaknesses":   cel.ListType(cel.StringType),
		"measurements": cel.ListType(cel.ObjectType("policy.Measurement")),
		"components":   cel.ListType(cel.ObjectType("policy.Component")),
		"vector":       cel.ObjectType("policy.Vector"),
		"reasons":      cel.ListType(cel.ObjectType("policy.Reason")),
	}
	var options []cel.EnvOption
	for field := range fields() {
		t := named[field]
		if t == nil {
			t = cel.StringType
		}
		options = append(options, cel.Variable(field, t))
	}
	return options
}

// fields maps the variables to the indexes of their fields.
func fields() map[string]int {
	t := reflect.TypeFor[Device]()
	m := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		m[t.Field(i).Tag.Get("cel")] = i
	}
	return m
}

func (d *Device) variables() map[string]any {
	v := reflect.ValueOf(d).Elem()
	vars := make(map[string]any, v.NumField())
	for name, i := range fields() {
		vars[name] = v.Field(i).Interface()
	}
	return vars
}

func describe(a *eat.Appraisal) *Device {
	c := a.Claims
	d := &Device{
		MediaType: a.MediaType, UEID: hex.EncodeToString(c.UEID), HWModel: hex.EncodeToString(c.HWModel),
		Owner: a.Owner, Debug: c.Debug.String(), Weaknesses: c.Weaknesses, Vector: vector(a.Vector),
	}
	if text, err := attest.FormatOEMID(c.OEMID); err == nil {
		d.OEMID = text
	}
	if c.HWVersion != nil {
		d.HWVersion = c.HWVersion.Text
	}
	if !c.IssuedAt.IsZero() {
		d.Age = a.Now.Sub(c.IssuedAt)
	}
	for _, m := range c.Measurements {
		if m.Component == nil {
			continue
		}
		one := Measurement{Name: m.Component.Name, Digest: m.Component.Digest.String()}
		if m.Component.Version != nil {
			one.Version = m.Component.Version.Text
		}
		d.Measurements = append(d.Measurements, one)
	}
	components, err := c.Components()
	if err != nil {
		components = nil // the appraisal has refused such claims already
	}
	for _, x := range components {
		one := Component{ManifestURI: x.ManifestURI, ManifestDigest: fmt.Sprintf("sha-256:%x", x.ManifestDigest), SequenceNumber: x.SequenceNumber}
		for _, part := range x.ID {
			one.ID = append(one.ID, hex.EncodeToString(part))
		}
		d.Components = append(d.Components, one)
	}
	for _, r := range a.Reasons {
		d.Reasons = append(d.Reasons, Reason{Claim: r.Claim, Status: r.Status.String(), Text: r.Text})
	}
	return d
}

func vector(v appraisal.TrustVector) Vector {
	tier := func(a appraisal.Aspect) string { return attest.StatusOf(v[a]).String() }
	return Vector{
		InstanceIdentity: tier(appraisal.InstanceIdentity), Configuration: tier(appraisal.Configuration),
		Executables: tier(appraisal.Executables), FileSystem: tier(appraisal.FileSystem), Hardware: tier(appraisal.Hardware),
		RuntimeOpaque: tier(appraisal.RuntimeOpaque), StorageOpaque: tier(appraisal.StorageOpaque), SourcedData: tier(appraisal.SourcedData),
	}
}
