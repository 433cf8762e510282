package appraisal

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"crypto/x509"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// MaxFileBytes is the largest collateral file that is read: room for some hundred thousand
// endorsed devices.
const MaxFileBytes = 64 << 20

// maxHWModelBytes is the largest hwmodel claim (RFC 9711 §4.2.4).
const maxHWModelBytes = 32

// Bounds of the ueid claim (RFC 9711 §4.2.1).
const minUEIDBytes, maxUEIDBytes = 7, 33

// text is a scalar of the file that remembers its line, so that every error can name it.
type text struct {
	value string
	line  int
}

func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: expected one value, not a list or mapping", n.Line)
	}
	t.value, t.line = n.Value, n.Line
	return nil
}

func (t text) fail(err error) error { return fmt.Errorf("%w: line %d: %w", ErrCollateral, t.line, err) }

func (t text) failf(format string, args ...any) error { return t.fail(fmt.Errorf(format, args...)) }

// file is the YAML form of Collateral.
type file struct {
	Owner         text            `yaml:"owner"`
	Expires       text            `yaml:"expires"`
	Endorsements  []yEndorsement  `yaml:"endorsements"`
	Manufacturers []yManufacturer `yaml:"manufacturers"`
	Classes       []yClass        `yaml:"reference-values"`
	TCB           []yTCB          `yaml:"tcb-levels"`
}

type yEndorsement struct {
	UEID    text `yaml:"ueid"`
	Key     text `yaml:"key"`
	OEMID   text `yaml:"oemid"`
	HWModel text `yaml:"hwmodel"`
	Expires text `yaml:"expires"`
	Revoked text `yaml:"revoked"`
}

type yManufacturer struct {
	OEMID   text `yaml:"oemid"`
	Roots   text `yaml:"roots"`
	CRLs    text `yaml:"crls"`
	Expires text `yaml:"expires"`
}

type yClass struct {
	OEMID      text         `yaml:"oemid"`
	HWModel    text         `yaml:"hwmodel"`
	Components []yComponent `yaml:"components"`
}

type yComponent struct {
	Name       text   `yaml:"name"`
	Version    text   `yaml:"version"`
	Digest     text   `yaml:"digest"`
	Status     text   `yaml:"status"`
	Why        text   `yaml:"why"`
	Weaknesses []text `yaml:"accepted-weaknesses"`
	Debug      text   `yaml:"debug"`
	Expires    text   `yaml:"expires"`
}

// ParseYAML reads a collateral file:
//
//	owner: Example Devices
//	expires: 2027-06-30T00:00:00Z
//	endorsements:
//	  - ueid: 0198f50a4ff6c05861c8860d13a638ea
//	    oemid: ieee:89-48-23                      # optional, with hwmodel
//	    hwmodel: 549dcecc8b987c737b44e40f7c635ce8
//	    key: |
//	      -----BEGIN PUBLIC KEY-----
//	      …
//	    revoked: key extracted from a lost device # optional
//	manufacturers:
//	  - oemid: ieee:89-48-23
//	    roots: |                                  # PEM certificates
//	      …
//	    crls: |                                   # PEM, optional
//	      …
//	reference-values:
//	  - oemid: ieee:89-48-23
//	    hwmodel: 549dcecc8b987c737b44e40f7c635ce8
//	    components:
//	      - name: teep-agent
//	        version: 1.2.0
//	        digest: sha-256:9f86d081884c7d65…
//	        status: affirming                     # or warning, contraindicated
//	        why: current release                  # optional
//	        accepted-weaknesses: [no monotonic counter]
//	        debug: disabled                       # optional: Evidence must say so
//	        expires: 2027-01-01T00:00:00Z         # optional, for every kind of entry
//	tcb-levels:
//	  - oemid: pen:3704
//	    hwmodel: 4d696c616e
//	    levels:                                   # the first that is reached counts
//	      - components: {bootloader: 4, tee: 0, snp: 24, microcode: 219}
//	        status: affirming
//	        why: without known vulnerabilities    # optional
//
// Keys that it does not know, duplicate keys and a file that says nothing are errors, which name
// the line. An expired file parses; what it says no longer counts.
func ParseYAML(data []byte) (*Collateral, error) {
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%w: the file has %d bytes, at most %d are read", ErrCollateral, len(data), MaxFileBytes)
	}
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file is empty", ErrCollateral)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCollateral, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file holds more than one document", ErrCollateral)
	}
	return f.collateral()
}

func (f *file) collateral() (*Collateral, error) {
	if f.Owner.value == "" {
		return nil, fmt.Errorf("%w: owner is missing: say who vouches for this file", ErrCollateral)
	}
	if f.Expires.value == "" {
		return nil, fmt.Errorf("%w: expires is missing: say until when this file counts, as 2027-06-30T00:00:00Z", ErrCollateral)
	}
	if len(f.Endorsements)+len(f.Manufacturers)+len(f.Classes)+len(f.TCB) == 0 {
		return nil, fmt.Errorf("%w: the file has neither endorsements, manufacturers, reference-values nor tcb-levels", ErrCollateral)
	}
	c := &Collateral{Owner: f.Owner.value}
	var err error
	if c.Expires, err = f.Expires.time(); err != nil {
		return nil, err
	}
	for i := range f.Endorsements {
		e, err := f.Endorsements[i].endorsement()
		if err != nil {
			return nil, err
		}
		c.Endorsements = append(c.Endorsements, e)
	}
	for i := range f.Manufacturers {
		m, err := f.Manufacturers[i].manufacturer()
		if err != nil {
			return nil, err
		}
		c.Manufacturers = append(c.Manufacturers, m)
	}
	for i := range f.Classes {
		refs, err := f.Classes[i].references()
		if err != nil {
			return nil, err
		}
		c.References = append(c.References, refs...)
	}
	for i := range f.TCB {
		levels, err := f.TCB[i].levels()
		if err != nil {
			return nil, err
		}
		c.TCBLevels = append(c.TCBLevels, levels...)
	}
	return c.settled(), nil
}

func (t text) time() (time.Time, error) {
	if t.value == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, t.value)
	if err != nil {
		return time.Time{}, t.failf("%q is not a time such as 2027-06-30T00:00:00Z", t.value)
	}
	return at, nil
}

func (t text) bytes(what string, low, high int) ([]byte, error) {
	b, err := hex.DecodeString(t.value)
	if err != nil {
		return nil, t.failf("%s %q is not hexadecimal", what, t.value)
	}
	if len(b) < low || len(b) > high {
		if t.line == 0 {
			return nil, fmt.Errorf("%w: %s is missing in an entry", ErrCollateral, what)
		}
		return nil, t.failf("%s has %d bytes, it takes %d to %d", what, len(b), low, high)
	}
	return b, nil
}

func class(oemid, hwmodel text) (Class, error) {
	if oemid.value == "" {
		return Class{}, fmt.Errorf("%w: oemid is missing in an entry with hwmodel %q", ErrCollateral, hwmodel.value)
	}
	id, err := attest.ParseOEMID(oemid.value)
	if err != nil {
		return Class{}, oemid.fail(err)
	}
	model, err := hwmodel.bytes("hwmodel", 1, maxHWModelBytes)
	return Class{OEMID: id, HWModel: model}, err
}

func (y *yEndorsement) endorsement() (e Endorsement, err error) {
	if e.UEID, err = y.UEID.bytes("ueid", minUEIDBytes, maxUEIDBytes); err != nil {
		return e, err
	}
	if y.OEMID.value != "" || y.HWModel.value != "" {
		if e.Class, err = class(y.OEMID, y.HWModel); err != nil {
			return e, err
		}
	}
	if y.Key.value == "" {
		return e, y.UEID.failf("the endorsement has no key")
	}
	key, err := cose.ParsePEM([]byte(y.Key.value))
	if err != nil {
		return e, y.Key.fail(err)
	}
	if key.IsPrivate() {
		return e, y.Key.failf("the key is private: endorse the public key, and treat this one as disclosed")
	}
	e.Key, e.Revoked = key, y.Revoked.value
	if e.Revoked == "" && y.Revoked.line != 0 {
		return e, y.Revoked.failf("revoked is empty: say why, or remove it")
	}
	e.Expires, err = y.Expires.time()
	return e, err
}

func (y *yManufacturer) manufacturer() (m Manufacturer, err error) {
	if m.OEMID, err = attest.ParseOEMID(y.OEMID.value); err != nil {
		return m, y.OEMID.fail(err)
	}
	err = eachPEM(y.Roots, "CERTIFICATE", func(der []byte) error {
		cert, err := x509.ParseCertificate(der)
		if err == nil && !cert.IsCA {
			err = fmt.Errorf("%s is not a certificate authority", cert.Subject)
		}
		m.Roots = append(m.Roots, cert)
		return err
	})
	if err == nil && len(m.Roots) == 0 {
		err = y.OEMID.failf("the manufacturer has no roots")
	}
	if err != nil {
		return m, err
	}
	err = eachPEM(y.CRLs, "X509 CRL", func(der []byte) error {
		crl, err := x509.ParseRevocationList(der)
		m.CRLs = append(m.CRLs, crl)
		return err
	})
	if err != nil {
		return m, err
	}
	m.Expires, err = y.Expires.time()
	return m, err
}

// eachPEM calls do for each block; anything but blocks of the wanted kind is an error.
func eachPEM(t text, kind string, do func(der []byte) error) error {
	rest := []byte(t.value)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return t.failf("expected PEM blocks %q", kind)
		}
		if block.Type != kind {
			return t.failf("PEM block %q where %q is expected", block.Type, kind)
		}
		if err := do(block.Bytes); err != nil {
			return t.fail(err)
		}
	}
	return nil
}

func (y *yClass) references() ([]Reference, error) {
	cl, err := class(y.OEMID, y.HWModel)
	if err != nil {
		return nil, err
	}
	if len(y.Components) == 0 {
		return nil, y.OEMID.failf("the class has no components")
	}
	refs := make([]Reference, len(y.Components))
	for i := range y.Components {
		if refs[i], err = y.Components[i].reference(cl); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

func (y *yComponent) reference(cl Class) (r Reference, err error) {
	r = Reference{Class: cl, Name: y.Name.value, Version: y.Version.value, Why: y.Why.value}
	if r.Name == "" {
		return r, y.Digest.failf("the component has no name")
	}
	d, err := ParseDigest(y.Digest.value)
	if err != nil {
		return r, y.Digest.fail(err)
	}
	r.Algorithm, r.Digest = d.Algorithm, d.Value
	if r.Status, err = attest.ParseStatus(y.Status.value); err != nil {
		at := y.Status
		if at.line == 0 {
			at = y.Name
		}
		return r, at.fail(err)
	}
	switch y.Debug.value {
	case "":
	case "disabled":
		r.RequireDebugDisabled = true
	default:
		return r, y.Debug.failf("debug %q: the only value is disabled", y.Debug.value)
	}
	for _, w := range y.Weaknesses {
		if w.value == "" {
			return r, w.failf("an accepted weakness is empty")
		}
		r.AcceptedWeaknesses = append(r.AcceptedWeaknesses, w.value)
	}
	r.Expires, err = y.Expires.time()
	return r, err
}
