package sevsnp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	sevtest "github.com/google/go-sev-guest/testing"
	"github.com/google/uuid"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/sevsnp"
	"github.com/go-teep/teep/cose"
)

var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// launch is the guest's launch measurement.
var launch = bytes.Repeat([]byte{0x5a}, 48)

// testTCB is the level that the processor is certified for.
var testTCB = kds.TCBParts{BlSpl: 4, SnpSpl: 24, UcodeSpl: 219}

// processor signs reports as an AMD secure processor does.
type processor struct {
	chipID []byte
	signer *sevtest.AmdSigner
	certs  map[string][]byte
	change func(report []byte) // before signing
	forge  func(report []byte) // after it
}

// keys are made once: RSA-4096 takes a while.
var keys = sync.OnceValue(sevtest.DefaultAmdKeys)

func newProcessor(t testing.TB, chip byte) *processor {
	t.Helper()
	p := &processor{chipID: bytes.Repeat([]byte{chip}, abi.ChipIDSize)}
	b := sevtest.AmdSignerBuilder{
		Keys: keys(), ProductName: "Milan-B1", CSPID: "go-teep",
		ArkCreationTime: testNow, AskCreationTime: testNow, AsvkCreationTime: testNow, VcekCreationTime: testNow, VlekCreationTime: testNow,
		// AMD's own ASK signs no lists; another maker of this scheme might.
		AskCustom:  sevtest.CertOverride{KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign},
		VcekCustom: sevtest.CertOverride{SerialNumber: big.NewInt(int64(chip)), Extensions: sevtest.CustomExtensions(testTCB, p.chipID, "", "Milan-B1")},
		VlekCustom: sevtest.CertOverride{Extensions: sevtest.CustomExtensions(testTCB, nil, "go-teep", "Milan")},
	}
	var err error
	if p.signer, err = b.TestOnlyCertChain(); err != nil {
		t.Fatal(err)
	}
	p.certs = map[string][]byte{abi.VcekGUID: p.signer.Vcek.Raw, abi.AskGUID: p.signer.Ask.Raw}
	return p
}

func (p *processor) MediaType() string { return bound.SEVSNPReport }

func (p *processor) Report(_ context.Context, b bound.Binding) ([]byte, error) {
	raw := sevtest.TestRawReport(b)
	report := raw[:abi.ReportSize]
	tcb, err := kds.ComposeTCBParts(testTCB)
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint64(report[0x08:], abi.SnpPolicyToBytes(abi.SnpPolicy{SMT: true}))
	copy(report[0x90:], launch)
	binary.LittleEndian.PutUint64(report[0x180:], uint64(tcb))
	copy(report[0x1a0:], p.chipID)
	if p.change != nil {
		p.change(report)
	}
	r, s, err := p.signer.Sign(abi.SignedComponent(report))
	if err != nil {
		return nil, err
	}
	if err := abi.SetSignature(r, s, report); err != nil {
		return nil, err
	}
	if p.forge != nil {
		p.forge(report)
	}
	return append(report, p.table()...), nil
}

func (p *processor) table() []byte {
	table := &abi.CertTable{}
	for guid, der := range p.certs {
		table.Entries = append(table.Entries, abi.CertTableEntry{GUID: uuid.MustParse(guid), RawCert: der})
	}
	return table.Marshal()
}

// crl is a revocation list of one of AMD's keys.
func crl(t testing.TB, issuer *x509.Certificate, key crypto.Signer, until time.Time, serials ...*big.Int) *x509.RevocationList {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow.Add(-time.Hour), NextUpdate: until, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: testNow.Add(-time.Hour)})
	}
	able := *issuer
	able.SubjectKeyId = []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, list, &able, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func device(p *processor, change ...func(*boundtest.Device)) boundtest.Device {
	class := sevsnp.Class("Milan")
	d := boundtest.Device{
		UEID: sevsnp.UEID(p.chipID), Class: class, Reporter: p, Now: testNow,
		Reports: func(store *appraisal.Store) (bound.Reports, error) {
			return sevsnp.NewReports(sevsnp.Config{Endorsements: store, TCBLevels: store})
		},
		Collateral: appraisal.Collateral{
			Owner:         "Operator",
			Manufacturers: []appraisal.Manufacturer{{OEMID: sevsnp.OEMID(), Roots: []*x509.Certificate{p.signer.Ark}}},
			References: []appraisal.Reference{{Class: class, Name: sevsnp.MeasurementName, Version: "image 7",
				Algorithm: cose.AlgSHA384, Digest: launch, Status: attest.StatusAffirming}},
			TCBLevels: []appraisal.TCBLevel{
				{Class: class, Components: map[string]uint64{"snp": 24, "microcode": 219, "bootloader": 4, "tee": 0}, Status: attest.StatusAffirming},
				{Class: class, Components: map[string]uint64{"snp": 20, "microcode": 200}, Status: attest.StatusWarning, Why: "advisory 3015"},
			},
		},
	}
	for _, f := range change {
		f(&d)
	}
	return d
}

func TestBindings(t *testing.T) { boundtest.New(t, device(newProcessor(t, 1))).Bindings() }

func TestMutations(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 31
	}
	boundtest.New(t, device(newProcessor(t, 1))).Mutations(step, false)
}

// TestVerdicts walks what an authentic report may say.
func TestVerdicts(t *testing.T) {
	policy := func(p abi.SnpPolicy) func([]byte) {
		return func(report []byte) { binary.LittleEndian.PutUint64(report[0x08:], abi.SnpPolicyToBytes(p)) }
	}
	for name, c := range map[string]struct {
		report func([]byte)
		device func(*boundtest.Device)
		want   attest.Status
		claim  string
		says   string
	}{
		"good":                 {nil, nil, attest.StatusAffirming, "tcb", "reaches the level"},
		"debug guest":          {policy(abi.SnpPolicy{Debug: true}), nil, attest.StatusContraindicated, "dbgstat", "debugging is enabled"},
		"migration agent":      {policy(abi.SnpPolicy{MigrateMA: true}), nil, attest.StatusWarning, "guest policy", "migration agent"},
		"less privileged":      {func(r []byte) { r[0x30] = 2 }, nil, attest.StatusWarning, "vmpl", "privilege level 2"},
		"unknown measurement":  {func(r []byte) { r[0x90] ^= 1 }, nil, attest.StatusContraindicated, "measurements sev-snp-launch", "not among the reference values"},
		"no measurement known": {nil, func(d *boundtest.Device) { d.Collateral.References = nil }, attest.StatusContraindicated, "measurements sev-snp-launch", "not among"},
		"no TCB levels":        {nil, func(d *boundtest.Device) { d.Collateral.TCBLevels = nil }, attest.StatusContraindicated, "tcb", "no TCB levels"},
		"older TCB":            {nil, func(d *boundtest.Device) { d.Collateral.TCBLevels[0].Components = map[string]uint64{"snp": 25} }, attest.StatusWarning, "tcb", "advisory 3015"},
		"TCB too old": {nil, func(d *boundtest.Device) {
			d.Collateral.TCBLevels = d.Collateral.TCBLevels[:1]
			d.Collateral.TCBLevels[0].Components = map[string]uint64{"microcode": 220}
		}, attest.StatusContraindicated, "tcb", "too old"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcessor(t, 1)
			p.change = c.report
			d := device(p)
			if c.device != nil {
				c.device(&d)
			}
			boundtest.Says(t, boundtest.New(t, d).Result(), c.want, c.claim, c.want, c.says)
		})
	}
}

// TestRefused walks reports that no verdict is given on.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		processor func(*processor)
		device    func(*processor, *boundtest.Device)
		want      error
		says      string
	}{
		"signed by another chip's key": {func(p *processor) {
			fresh, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			p.signer.Keys = &sevtest.AmdKeys{Vcek: fresh}
		}, nil, attest.ErrSignature, ""},
		"another chip's certificate": {func(p *processor) { p.certs[abi.VcekGUID] = newProcessor(t, 2).signer.Vcek.Raw },
			nil, attest.ErrUntrusted, "its certificate is for chip 0202020202020202"},
		"chip identifier masked":      {func(p *processor) { p.change = func(r []byte) { clear(r[0x1a0:0x1e0]) } }, nil, attest.ErrUntrusted, "masks"},
		"masked by the signer's word": {func(p *processor) { p.change = func(r []byte) { r[0x48] |= 2 } }, nil, attest.ErrUntrusted, "masks"},
		"TCB of another certificate":  {func(p *processor) { p.change = func(r []byte) { r[0x180+7]++ } }, nil, attest.ErrUntrusted, "microcode 220"},
		"signed with no key":          {func(p *processor) { p.forge = func(r []byte) { r[0x48] = 7 << 2 } }, nil, attest.ErrUntrusted, "no key"},
		"unknown signature algorithm": {func(p *processor) { p.change = func(r []byte) { r[0x34] = 2 } }, nil, attest.ErrSignature, ""},
		"future version":              {func(p *processor) { p.change = func(r []byte) { r[0] = 99 } }, nil, attest.ErrFormat, "version"},
		"no certificate":              {func(p *processor) { delete(p.certs, abi.VcekGUID) }, nil, attest.ErrUntrusted, "certificate beside it"},
		"no intermediate":             {func(p *processor) { delete(p.certs, abi.AskGUID) }, nil, attest.ErrUntrusted, ""},
		"intermediate as leaf":        {func(p *processor) { p.certs[abi.VcekGUID] = p.signer.Ask.Raw }, nil, attest.ErrUntrusted, "certification authority"},
		"VLEK where the VCEK is named": {func(p *processor) {
			p.certs[abi.VcekGUID] = p.signer.Vlek.Raw
			p.certs[abi.AskGUID] = p.signer.Asvk.Raw
		},
			nil, attest.ErrUntrusted, "SEV-VCEK"},
		"other roots": {nil, func(_ *processor, d *boundtest.Device) {
			other := sevtest.AmdSignerBuilder{ProductName: "Milan-B1", ArkCreationTime: testNow, AskCreationTime: testNow, AsvkCreationTime: testNow, VcekCreationTime: testNow,
				Keys: &sevtest.AmdKeys{Ark: keys().Ask, Ask: keys().Ark, Asvk: keys().Asvk, Vcek: keys().Vcek}}
			s, err := other.TestOnlyCertChain()
			if err != nil {
				t.Fatal(err)
			}
			d.Collateral.Manufacturers[0].Roots = []*x509.Certificate{s.Ark}
		}, attest.ErrUntrusted, ""},
		"no roots":             {nil, func(_ *processor, d *boundtest.Device) { d.Collateral.Manufacturers = nil }, attest.ErrUntrusted, "no manufacturer"},
		"collateral expired":   {nil, func(_ *processor, d *boundtest.Device) { d.Collateral.Expires = testNow }, attest.ErrUntrusted, "expired"},
		"certificates expired": {nil, func(_ *processor, d *boundtest.Device) { d.Now = testNow.AddDate(40, 0, 0) }, attest.ErrUntrusted, "expired"},
		"VCEK revoked": {nil, func(p *processor, d *boundtest.Device) {
			d.Collateral.Manufacturers[0].CRLs = []*x509.RevocationList{crl(t, p.signer.Ask, keys().Ask, testNow.Add(time.Hour), p.signer.Vcek.SerialNumber)}
		}, cose.ErrCertificateRevoked, ""},
		"ASK revoked": {nil, func(p *processor, d *boundtest.Device) {
			d.Collateral.Manufacturers[0].CRLs = []*x509.RevocationList{crl(t, p.signer.Ark, keys().Ark, testNow.Add(time.Hour), p.signer.Ask.SerialNumber)}
		}, cose.ErrCertificateRevoked, ""},
		"CRL out of date": {nil, func(p *processor, d *boundtest.Device) {
			d.Collateral.Manufacturers[0].CRLs = []*x509.RevocationList{crl(t, p.signer.Ark, keys().Ark, testNow.Add(-time.Minute))}
		}, cose.ErrRevocationList, "load a newer one"},
		"CRL forged": {nil, func(p *processor, d *boundtest.Device) {
			d.Collateral.Manufacturers[0].CRLs = []*x509.RevocationList{crl(t, p.signer.Ark, keys().Ask, testNow.Add(time.Hour))}
		}, cose.ErrRevocationList, "not signed"},
		"chip revoked by its key": {nil, func(p *processor, d *boundtest.Device) {
			k, err := cose.NewPublicKey(p.signer.Vcek.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			d.Collateral.Endorsements = []appraisal.Endorsement{{UEID: d.UEID, Key: k, Revoked: "extracted"}}
		}, attest.ErrUntrusted, "extracted"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcessor(t, 1)
			d := device(p)
			if c.processor != nil {
				c.processor(p)
			}
			if c.device != nil {
				c.device(p, &d)
			}
			b := boundtest.New(t, d)
			r, err := b.Appraise(b.Evidence())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || r != nil {
				t.Errorf("appraised: %t; %v", r != nil, err)
			}
		})
	}
}

// TestAnotherDevice: a genuine processor's report does not speak for another one.
func TestAnotherDevice(t *testing.T) {
	one, two := newProcessor(t, 1), newProcessor(t, 2)
	two.certs[abi.AskGUID] = one.signer.Ask.Raw
	d := device(one)
	d.Reporter = two
	b := boundtest.New(t, d)
	b.Refused("report of chip 2 under the name of chip 1", b.Evidence(), attest.ErrUntrusted)
}

// TestVLEK: clouds load a key of their own, which names no chip; the report does.
func TestVLEK(t *testing.T) {
	p := newProcessor(t, 1)
	p.certs = map[string][]byte{abi.VlekGUID: p.signer.Vlek.Raw}
	p.change = func(report []byte) { report[0x48] = 1 << 2 }
	d := device(p, func(d *boundtest.Device) {
		d.Reports = func(store *appraisal.Store) (bound.Reports, error) {
			return sevsnp.NewReports(sevsnp.Config{Endorsements: store, TCBLevels: store, Intermediates: [][]byte{p.signer.Asvk.Raw}})
		}
	})
	boundtest.Says(t, boundtest.New(t, d).Result(), attest.StatusAffirming, "ueid", attest.StatusAffirming, "vouched for by Operator")
}

// TestTables refuses hostile certificate tables.
func TestTables(t *testing.T) {
	p := newProcessor(t, 1)
	b := boundtest.New(t, device(p))
	good := b.Evidence()
	entry := func(offset, length uint32) []byte {
		guid := uuid.MustParse(abi.VcekGUID)
		e := append([]byte(nil), guid[:]...)
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(e, offset), length)
	}
	end := make([]byte, abi.CertTableEntrySize)
	for name, table := range map[string][]byte{
		"offset and length overflow": append(entry(0xfffffff0, 0x20), end...),
		"outside":                    append(entry(24, 0x100), end...),
		"empty certificate":          append(entry(24, 0), end...),
		"does not end":               entry(0, 24),
		"cut entry":                  append(entry(0, 24), 1, 2, 3),
		"twice":                      append(append(entry(0, 24), entry(0, 24)...), end...),
		"too many":                   bytes.Repeat(entry(0, 24), 20),
		"too long":                   make([]byte, sevsnp.MaxReportBytes),
	} {
		b.Refused(name, boundtest.WithReport(t, good, func(r []byte) []byte { return append(r[:abi.ReportSize], table...) }), attest.ErrFormat)
	}
	b.Refused("no table", boundtest.WithReport(t, good, func(r []byte) []byte { return r[:abi.ReportSize] }), attest.ErrUntrusted)
}

// FuzzRead: no mutation of a report is accepted, and none crashes the reader.
func FuzzRead(f *testing.F) {
	p := newProcessor(f, 1)
	b := boundtest.New(f, device(p))
	report, err := p.Report(context.Background(), bound.Bind(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(report)
	f.Add(report[:abi.ReportSize])
	store, err := appraisal.NewStore(&b.Device.Collateral)
	if err != nil {
		f.Fatal(err)
	}
	reports, err := b.Device.Reports(store)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := reports.Read(context.Background(), data, bound.Beside{Now: testNow})
		if (r == nil) == (err == nil) {
			t.Fatal(r, err)
		}
		if r != nil && !bytes.Equal(abi.SignedComponent(data), abi.SignedComponent(report)) {
			t.Fatalf("a changed report was accepted: %x", data)
		}
	})
}
