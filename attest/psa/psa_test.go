package psa_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/psa"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

var (
	implementation = bytes.Repeat([]byte{0x11}, 32)
	firmware       = bytes.Repeat([]byte{0x22}, 32)
	initial        = bytes.Repeat([]byte{0x33}, 48)
)

// platform signs tokens as a root of trust does; with a realm, CCA tokens.
type platform struct {
	key, realm *cose.Key
	ueid       []byte
	claims     func(map[int64]any)
	realmSays  func(map[int64]any)
	signWith   *cose.Key
	alg        cose.Algorithm
	halves     func(map[int64][]byte)
}

func newKey(t testing.TB, alg cose.Algorithm) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newPlatform(t testing.TB, cca bool) *platform {
	p := &platform{key: newKey(t, cose.AlgESP256), ueid: append([]byte{1}, bytes.Repeat([]byte{5}, 32)...), alg: cose.AlgES256}
	p.signWith = p.key
	if cca {
		p.realm = newKey(t, cose.AlgESP384)
	}
	return p
}

func (p *platform) MediaType() string {
	if p.realm != nil {
		return psa.CCAMediaType
	}
	return psa.MediaType
}

func sign(k *cose.Key, alg cose.Algorithm, claims map[int64]any, change func(map[int64]any)) ([]byte, error) {
	if change != nil {
		change(claims)
	}
	payload, err := cbor.Marshal(claims)
	if err != nil {
		return nil, err
	}
	s, err := k.SignerFor(alg)
	if err != nil {
		return nil, err
	}
	return cose.Sign1(rand.Reader, payload, s, cose.SignOptions{OmitKeyID: true})
}

func (p *platform) Report(_ context.Context, b bound.Binding) ([]byte, error) {
	claims := map[int64]any{10: b[:], 256: p.ueid, 265: psa.Profile, 2394: 1, 2395: 0x3001, 2396: implementation,
		2399: []map[int64]any{{1: "BL", 2: firmware, 4: "2.1", 5: firmware}}}
	if p.realm == nil {
		return sign(p.signWith, p.alg, claims, p.claims)
	}
	key, err := p.realm.Public().MarshalCBOR()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(key)
	claims[10], claims[265] = digest[:], psa.CCAPlatformProfile
	half, err := sign(p.signWith, p.alg, claims, p.claims)
	if err != nil {
		return nil, err
	}
	other, err := sign(p.realm, cose.AlgES384, map[int64]any{10: b[:], 44236: "sha-384", 44237: key, 44238: initial, 44240: "sha-256"}, p.realmSays)
	if err != nil {
		return nil, err
	}
	halves := map[int64][]byte{44234: half, 44241: other}
	if p.halves != nil {
		p.halves(halves)
	}
	return cbor.Marshal(cbor.Tag{Number: 399, Content: halves})
}

func device(t testing.TB, p *platform) boundtest.Device {
	oemid, err := attest.ParseOEMID("pen:4128")
	if err != nil {
		t.Fatal(err)
	}
	class := appraisal.Class{OEMID: oemid, HWModel: implementation}
	return boundtest.Device{UEID: p.ueid, Class: class, Reporter: p, Now: testNow,
		Reports: func(s *appraisal.Store) (bound.Reports, error) {
			if p.realm != nil {
				return psa.NewCCAReports(s)
			}
			return psa.NewReports(s)
		},
		Collateral: appraisal.Collateral{Owner: "Maker",
			Endorsements: []appraisal.Endorsement{{UEID: p.ueid, Key: p.key.Public(), Class: class}},
			References: []appraisal.Reference{
				{Class: class, Name: psa.ComponentName("BL"), Algorithm: cose.AlgSHA256, Digest: firmware, Status: attest.StatusAffirming},
				{Class: class, Name: psa.RealmName, Algorithm: cose.AlgSHA384, Digest: initial, Status: attest.StatusAffirming}}}}
}

func TestBindings(t *testing.T) {
	for _, cca := range []bool{false, true} {
		b := boundtest.New(t, device(t, newPlatform(t, cca)))
		b.Bindings()
		step := 1
		if testing.Short() {
			step = 11
		}
		b.Mutations(step, !cca && !testing.Short())
	}
}

func TestVerdicts(t *testing.T) {
	set := func(label int64, value any) func(map[int64]any) { return func(c map[int64]any) { c[label] = value } }
	for name, c := range map[string]struct {
		claims, realm func(map[int64]any)
		want          attest.Status
		claim, says   string
	}{
		"secured":              {nil, nil, attest.StatusAffirming, "security-lifecycle", "secured"},
		"application debug":    {set(2395, 0x4000), nil, attest.StatusWarning, "security-lifecycle", "outside of the root"},
		"root of trust debug":  {set(2395, 0x5000), nil, attest.StatusContraindicated, "dbgstat", "enabled"},
		"provisioning":         {set(2395, 0x2000), nil, attest.StatusContraindicated, "security-lifecycle", "not secured"},
		"decommissioned":       {set(2395, 0x6000), nil, attest.StatusContraindicated, "security-lifecycle", "not secured"},
		"unknown state":        {set(2395, 0xffff), nil, attest.StatusContraindicated, "security-lifecycle", "not secured"},
		"unknown firmware":     {set(2399, []map[int64]any{{1: "BL", 2: make([]byte, 32), 5: firmware}}), nil, attest.StatusContraindicated, "measurements psa BL", "not among"},
		"unknown realm":        {nil, set(44238, make([]byte, 48)), attest.StatusContraindicated, "measurements cca realm", "not among"},
		"component of no type": {set(2399, []map[int64]any{{2: firmware, 5: firmware}}), nil, attest.StatusContraindicated, "measurements psa component 0", "not among"},
	} {
		for _, cca := range []bool{false, true} {
			if c.realm != nil && !cca {
				continue
			}
			p := newPlatform(t, cca)
			p.claims, p.realmSays = c.claims, c.realm
			t.Run(name, func(t *testing.T) {
				boundtest.Says(t, boundtest.New(t, device(t, p)).Result(), c.want, c.claim, c.want, c.says)
			})
		}
	}
}

func TestRefused(t *testing.T) {
	set := func(label int64, value any) func(*platform) {
		return func(p *platform) { p.claims = func(c map[int64]any) { c[label] = value } }
	}
	drop := func(label int64) func(*platform) {
		return func(p *platform) { p.claims = func(c map[int64]any) { delete(c, label) } }
	}
	realmSet := func(label int64, value any) func(*platform) {
		return func(p *platform) { p.realmSays = func(c map[int64]any) { c[label] = value } }
	}
	for name, c := range map[string]struct {
		change  func(*platform)
		device  func(*boundtest.Device)
		want    error
		ccaOnly bool
	}{
		"another key":                {func(p *platform) { p.signWith = newKey(t, cose.AlgESP256) }, nil, attest.ErrSignature, false},
		"another device":             {set(256, append([]byte{1}, make([]byte, 32)...)), nil, attest.ErrUntrusted, false},
		"another model":              {set(2396, make([]byte, 32)), nil, attest.ErrUntrusted, false},
		"instance-id of 17 bytes":    {set(256, append([]byte{1}, make([]byte, 16)...)), nil, attest.ErrFormat, false},
		"instance-id of type 2":      {set(256, append([]byte{2}, make([]byte, 32)...)), nil, attest.ErrFormat, false},
		"implementation-id short":    {set(2396, make([]byte, 16)), nil, attest.ErrFormat, false},
		"no lifecycle":               {drop(2395), nil, attest.ErrFormat, false},
		"lifecycle out of range":     {set(2395, 1<<16), nil, attest.ErrFormat, false},
		"no software":                {drop(2399), nil, attest.ErrFormat, false},
		"measurement of 20 bytes":    {set(2399, []map[int64]any{{1: "BL", 2: make([]byte, 20)}}), nil, attest.ErrFormat, false},
		"component twice":            {set(2399, []map[int64]any{{1: "BL", 2: firmware}, {1: "BL", 2: firmware}}), nil, attest.ErrFormat, false},
		"another profile":            {set(265, "tag:example.com,2026:x"), nil, attest.ErrFormat, false},
		"no endorsement":             {func(*platform) {}, func(d *boundtest.Device) { d.Collateral.Endorsements = nil }, attest.ErrUntrusted, false},
		"revoked":                    {func(*platform) {}, func(d *boundtest.Device) { d.Collateral.Endorsements[0].Revoked = "lost" }, attest.ErrUntrusted, false},
		"endorsement expired":        {func(*platform) {}, func(d *boundtest.Device) { d.Collateral.Endorsements[0].Expires = testNow }, attest.ErrUntrusted, false},
		"another realm's key":        {func(p *platform) { p.claims = func(c map[int64]any) { c[10] = make([]byte, 32) } }, nil, attest.ErrUntrusted, true},
		"weak hash of the realm key": {realmSet(44240, "sha-1"), nil, attest.ErrFormat, true},
		"realm key is no key":        {realmSet(44237, []byte{1}), nil, attest.ErrUntrusted, true},
		"realm measurement short":    {realmSet(44238, []byte{1}), nil, attest.ErrFormat, true},
		"old realm challenge":        {realmSet(10, make([]byte, 64)), nil, attest.ErrKeyBinding, true},
		"no realm token":             {func(p *platform) { p.halves = func(h map[int64][]byte) { delete(h, 44241) } }, nil, attest.ErrFormat, true},
		"a third token":              {func(p *platform) { p.halves = func(h map[int64][]byte) { h[1] = nil } }, nil, attest.ErrFormat, true},
		"platform token twice":       {func(p *platform) { p.halves = func(h map[int64][]byte) { h[44241] = h[44234] } }, nil, attest.ErrFormat, true},
	} {
		for _, cca := range []bool{false, true} {
			if c.ccaOnly && !cca {
				continue
			}
			p := newPlatform(t, cca)
			d := device(t, p)
			c.change(p)
			if c.device != nil {
				c.device(&d)
			}
			b := boundtest.New(t, d)
			b.Refused(name, b.Evidence(), c.want)
		}
	}
	p := newPlatform(t, false)
	p.claims = func(c map[int64]any) { c[10] = make([]byte, 64) }
	b := boundtest.New(t, device(t, p))
	b.Refused("old challenge", b.Evidence(), attest.ErrKeyBinding)
}

// FuzzRead: no mutation of a token crashes a reader, and refusals say why.
func FuzzRead(f *testing.F) {
	var readers []bound.Reports
	for _, cca := range []bool{false, true} {
		p := newPlatform(f, cca)
		d := device(f, p)
		token, err := p.Report(context.Background(), bound.Bind(nil))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
		store, err := appraisal.NewStore(&d.Collateral)
		if err != nil {
			f.Fatal(err)
		}
		r, err := d.Reports(store)
		if err != nil {
			f.Fatal(err)
		}
		readers = append(readers, r)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, r := range readers {
			_, err := r.Read(context.Background(), data, bound.Beside{Now: testNow})
			if err != nil && !errors.Is(err, attest.ErrFormat) && !errors.Is(err, attest.ErrSignature) && !errors.Is(err, attest.ErrUntrusted) {
				t.Fatal(err)
			}
		}
	})
}

// TestFirmwareTooOld: tokens have no levels of a trusted computing base; what is known of each piece of
// firmware stands in for them, and the newest entry of a maker's list does not shadow an older one.
func TestFirmwareTooOld(t *testing.T) {
	for _, cca := range []bool{false, true} {
		for status, why := range map[attest.Status]string{attest.StatusWarning: "advisory 12: update", attest.StatusContraindicated: "too old: keys leak"} {
			d := device(t, newPlatform(t, cca))
			d.Collateral.References[0].Status, d.Collateral.References[0].Why = status, why
			boundtest.Says(t, boundtest.New(t, d).Result(), status, "measurements psa BL", status, why)
		}
		d := device(t, newPlatform(t, cca))
		d.Collateral.References[0].Expires = testNow
		boundtest.Says(t, boundtest.New(t, d).Result(), attest.StatusContraindicated, "measurements psa BL", attest.StatusContraindicated, "expired")
	}
}
