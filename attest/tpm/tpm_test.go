package tpm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/attest/tpm/tpmtest"
	"github.com/go-teep/teep/cose"
)

var maker *tpmtest.Maker

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "teep-tpm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // the system removes what is left
	if maker, err = tpmtest.NewMaker(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// boot is what a firmware measured: PCR and event.
var boot = []struct {
	pcr  int
	data string
}{{0, "firmware 1.0"}, {4, "boot loader"}, {9, "kernel"}, {9, "initramfs with the agent"}, {9, "kernel"}}

// firmware measures boot into the TPM, and returns the event log.
func firmware(t testing.TB, chip transport.TPM) []byte {
	t.Helper()
	log := specID()
	for _, e := range boot {
		digest := sha256.Sum256([]byte(e.data))
		extend(t, chip, e.pcr, digest)
		log = append(log, event(e.pcr, 0x0d, digest, e.data)...)
	}
	return log
}

func extend(t testing.TB, chip transport.TPM, pcr int, digest [32]byte) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(chip)
	if err != nil {
		t.Fatal(err)
	}
}

func le(parts ...any) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		if err := binary.Write(&b, binary.LittleEndian, p); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// specID starts a log with a SHA-1 and a SHA-256 bank.
func specID() []byte {
	body := le([]byte("Spec ID Event03\x00"), uint32(0), []byte{0, 2, 0, 2}, uint32(2), uint16(4), uint16(20), uint16(11), uint16(32), uint8(0))
	return le(uint32(0), uint32(3), make([]byte, 20), uint32(len(body)), body)
}

func event(pcr int, kind uint32, digest [32]byte, data string) []byte {
	return le(uint32(pcr), kind, uint32(2), uint16(4), make([]byte, 20), uint16(11), digest[:], uint32(len(data)), []byte(data))
}

// device is a manufactured TPM that booted and was enrolled.
type device struct {
	chip        transport.TPM
	log         []byte
	quoter      *tpm.Quoter
	endorsement *appraisal.Endorsement
	class       appraisal.Class
}

var pcrs = []int{0, 4, 9}

func manufactured(t testing.TB) *device {
	t.Helper()
	tpmtest.Require(t)
	oemid, err := attest.ParseOEMID("pen:64242")
	if err != nil {
		t.Fatal(err)
	}
	d := &device{chip: maker.Manufacture(t), class: appraisal.Class{OEMID: oemid, HWModel: []byte("board")}}
	d.log = firmware(t, d.chip)
	d.requote(t, nil)
	_, issuer := maker.Certificates(t)
	request, err := d.quoter.Request(issuer.Raw)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := tpm.NewChallenge(rand.Reader, *request, makers(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := d.quoter.Activate(ch.Credential)
	if err != nil {
		t.Fatal(err)
	}
	if d.endorsement, err = ch.Endorse(answer); err != nil {
		t.Fatal(err)
	}
	d.endorsement.Class = d.class
	return d
}

// requote starts the agent's side anew.
func (d *device) requote(t testing.TB, change func(*tpm.QuoterConfig)) {
	t.Helper()
	if d.quoter != nil {
		if err := d.quoter.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c := tpm.QuoterConfig{TPM: d.chip, PCRs: pcrs, EventLog: func() ([]byte, error) { return d.log, nil }}
	if change != nil {
		change(&c)
	}
	q, err := tpm.NewQuoter(c)
	if err != nil {
		t.Fatal(err)
	}
	d.quoter = q
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func makers(t testing.TB) []appraisal.Manufacturer {
	t.Helper()
	root, _ := maker.Certificates(t)
	return []appraisal.Manufacturer{{Owner: "Chip maker", Roots: []*x509.Certificate{root}}}
}

// values are the reference values of the PCRs after boot.
func (d *device) values(t testing.TB) []appraisal.Reference {
	t.Helper()
	events, err := tpm.ParseEventLog(d.log)
	if err != nil {
		t.Fatal(err)
	}
	var refs []appraisal.Reference
	for pcr, value := range tpm.Replay(events) {
		refs = append(refs, appraisal.Reference{Class: d.class, Name: tpm.PCRName(pcr), Algorithm: cose.AlgSHA256, Digest: value, Status: attest.StatusAffirming})
	}
	return refs
}

func (d *device) events() []appraisal.Reference {
	var refs []appraisal.Reference
	for _, e := range boot {
		digest := sha256.Sum256([]byte(e.data))
		refs = append(refs, appraisal.Reference{Class: d.class, Name: tpm.EventName(e.pcr), Algorithm: cose.AlgSHA256, Digest: digest[:], Status: attest.StatusAffirming, Version: e.data})
	}
	return refs
}

func (d *device) bench(t testing.TB, change ...func(*boundtest.Device)) *boundtest.Bench {
	t.Helper()
	b := boundtest.Device{
		UEID: d.endorsement.UEID, Class: d.class, Reporter: d.quoter, Now: time.Now().Truncate(time.Second),
		Reports: func(store *appraisal.Store) (bound.Reports, error) {
			return tpm.NewReports(tpm.ReportsConfig{Endorsements: store, References: store, PCRs: pcrs, TCBLevels: store})
		},
		Collateral: appraisal.Collateral{Owner: "Operator", Endorsements: []appraisal.Endorsement{*d.endorsement}, References: d.values(t)},
	}
	for _, f := range change {
		f(&b)
	}
	return boundtest.New(t, b)
}

func TestQuote(t *testing.T) {
	d := manufactured(t)
	d.bench(t).Bindings()
	step := 1
	if testing.Short() {
		step = 17
	}
	d.bench(t).Mutations(step, false)
}

// TestVerdicts walks what an authentic quote may say.
func TestVerdicts(t *testing.T) {
	d := manufactured(t)
	for name, c := range map[string]struct {
		change func(*boundtest.Device)
		want   attest.Status
		claim  string
		says   string
	}{
		"values known": {nil, attest.StatusAffirming, "measurements pcr-9", "pcr-9"},
		"events known": {func(b *boundtest.Device) { b.Collateral.References = d.events() }, attest.StatusAffirming, "measurements pcr-9-event", "initramfs with the agent"},
		"an event unknown": {func(b *boundtest.Device) {
			b.Collateral.References = d.events()
			b.Collateral.References[3].Digest = make([]byte, 32)
		}, attest.StatusContraindicated, "pcr-9", "1 of 3 events are unknown"},
		"a vulnerable event": {func(b *boundtest.Device) {
			b.Collateral.References = d.events()
			b.Collateral.References[2].Status, b.Collateral.References[2].Why = attest.StatusWarning, "advisory 7"
			b.Collateral.References[4].Status = attest.StatusWarning
		}, attest.StatusWarning, "measurements pcr-9-event", "advisory 7"},
		"nothing known": {func(b *boundtest.Device) { b.Collateral.References = nil }, attest.StatusContraindicated, "measurements pcr-0", "not among"},
		"a PCR is missing": {func(b *boundtest.Device) {
			b.Reports = func(s *appraisal.Store) (bound.Reports, error) {
				return tpm.NewReports(tpm.ReportsConfig{Endorsements: s, References: s, PCRs: []int{0, 7}})
			}
		}, attest.StatusContraindicated, "pcr-7", "not in the quote"},
		"firmware too old": {func(b *boundtest.Device) {
			b.Collateral.TCBLevels = []appraisal.TCBLevel{{Class: d.class, Components: map[string]uint64{"firmware": 1 << 62}, Status: attest.StatusAffirming}}
		}, attest.StatusContraindicated, "tcb", "too old"},
		"firmware good": {func(b *boundtest.Device) {
			b.Collateral.TCBLevels = []appraisal.TCBLevel{{Class: d.class, Components: map[string]uint64{"firmware": 1}, Status: attest.StatusAffirming}}
		}, attest.StatusAffirming, "tcb", "reaches"},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*boundtest.Device)
			if c.change != nil {
				change = append(change, c.change)
			}
			boundtest.Says(t, d.bench(t, change...).Result(), c.want, c.claim, c.want, c.says)
		})
	}
	b := d.bench(t)
	extend(t, d.chip, 9, sha256.Sum256([]byte("a root kit")))
	b.Refused("the log hides an event", b.Evidence(), attest.ErrMeasurement)
	d.log = append(d.log, event(9, 0x0d, sha256.Sum256([]byte("a root kit")), "a root kit")...)
	boundtest.Says(t, b.Result(), attest.StatusContraindicated, "measurements pcr-9", attest.StatusContraindicated, "not among")
	d.log = nil
	boundtest.Says(t, b.Result(), attest.StatusContraindicated, "measurements pcr-9", attest.StatusContraindicated, "not among")
}

func (d *device) forge(t *testing.T, e attest.Evidence, change func(*tpm.Quote)) attest.Evidence {
	t.Helper()
	return boundtest.WithReport(t, e, func(report []byte) []byte {
		q, err := tpm.ParseQuote(report)
		if err != nil {
			t.Fatal(err)
		}
		change(q)
		encoded, err := q.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	})
}

func TestForged(t *testing.T) {
	d, other := manufactured(t), manufactured(t)
	b := d.bench(t)
	e := b.Evidence()
	for name, c := range map[string]struct {
		change func(*tpm.Quote)
		want   error
	}{
		"good values beside the quote": {func(q *tpm.Quote) { q.PCRs[9] = make([]byte, 32) }, attest.ErrSignature},
		"one value more":               {func(q *tpm.Quote) { q.PCRs[7] = make([]byte, 32) }, attest.ErrSignature},
		"one value less":               {func(q *tpm.Quote) { delete(q.PCRs, 9) }, attest.ErrSignature},
		"another log":                  {func(q *tpm.Quote) { q.EventLog = append(specID(), event(9, 1, [32]byte{}, "")...) }, attest.ErrMeasurement},
		"a log of other words":         {func(q *tpm.Quote) { q.EventLog = bytes.Replace(q.EventLog, []byte("kernel"), []byte("kernal"), 1) }, attest.ErrKeyBinding},
		"no log":                       {func(q *tpm.Quote) { q.EventLog = nil }, attest.ErrKeyBinding},
		"unknown key":                  {func(q *tpm.Quote) { q.Thumbprint = make([]byte, 32) }, attest.ErrUntrusted},
		"both ways to name the key":    {func(q *tpm.Quote) { q.X5Chain = [][]byte{{1}} }, attest.ErrFormat},
		"no way to name the key":       {func(q *tpm.Quote) { q.Thumbprint = nil }, attest.ErrFormat},
		"bad certificate":              {func(q *tpm.Quote) { q.Thumbprint, q.X5Chain = nil, [][]byte{{1}} }, attest.ErrUntrusted},
		"short signature":              {func(q *tpm.Quote) { q.Signature = q.Signature[:63] }, attest.ErrSignature},
		"PCR of 20 bytes":              {func(q *tpm.Quote) { q.PCRs[9] = q.PCRs[9][:20] }, attest.ErrFormat},
		"PCR 24":                       {func(q *tpm.Quote) { q.PCRs[24] = q.PCRs[9] }, attest.ErrFormat},
		"no PCR":                       {func(q *tpm.Quote) { q.PCRs = nil }, attest.ErrFormat},
		"log is no log":                {func(q *tpm.Quote) { q.EventLog = []byte("x") }, attest.ErrFormat},
	} {
		b.Refused(name, d.forge(t, e, c.change), c.want)
	}
	stranger := d.bench(t, func(x *boundtest.Device) { x.Reporter = other.quoter })
	stranger.Refused("another TPM", stranger.Evidence(), attest.ErrUntrusted)
	both := d.bench(t, func(x *boundtest.Device) {
		x.Reporter = other.quoter
		x.Collateral.Endorsements = append(x.Collateral.Endorsements, *other.endorsement)
	})
	both.Refused("another known TPM under this one's name", both.Evidence(), attest.ErrUntrusted)
	revoked := d.bench(t, func(x *boundtest.Device) { x.Collateral.Endorsements[0].Revoked = "chip decapped" })
	revoked.Refused("revoked", revoked.Evidence(), attest.ErrUntrusted)
	expired := d.bench(t, func(x *boundtest.Device) { x.Collateral.Endorsements[0].Expires = x.Now })
	expired.Refused("endorsement expired", expired.Evidence(), attest.ErrUntrusted)
}

// TestNotAQuote: what an unrestricted key signs in the form of a quote is none: the magic number
// is the TPM's, and so is the structure.
func TestNotAQuote(t *testing.T) {
	d := manufactured(t)
	soft, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := soft.Signer()
	if err != nil {
		t.Fatal(err)
	}
	b := d.bench(t, func(x *boundtest.Device) {
		x.Collateral.Endorsements = []appraisal.Endorsement{{UEID: x.UEID, Key: soft.Public()}}
	})
	e := b.Evidence()
	sign := func(change func([]byte) []byte) attest.Evidence {
		return d.forge(t, e, func(q *tpm.Quote) {
			q.Attest, q.Thumbprint = change(bytes.Clone(q.Attest)), soft.Thumbprint()
			sig, err := signer.Sign(rand.Reader, q.Attest)
			if err != nil {
				t.Fatal(err)
			}
			q.Signature = sig
		})
	}
	if _, err := b.Appraise(sign(func(a []byte) []byte { return a })); err != nil {
		t.Fatal("the test signs wrongly: ", err)
	}
	b.Refused("magic", sign(func(a []byte) []byte { a[0] = 0; return a }), attest.ErrFormat)
	b.Refused("another attestation", sign(func(a []byte) []byte { a[5] = 0x17; return a }), attest.ErrFormat)
	b.Refused("bytes after it", sign(func(a []byte) []byte { return append(a, 0) }), attest.ErrFormat)
	b.Refused("cut", sign(func(a []byte) []byte { return a[:len(a)-1] }), attest.ErrFormat)
	b.Refused("empty", sign(func([]byte) []byte { return nil }), attest.ErrFormat)
}

func TestEnrolmentRefuses(t *testing.T) {
	d, other := manufactured(t), manufactured(t)
	root, issuer := maker.Certificates(t)
	request := func(d *device) tpm.EnrolmentRequest {
		r, err := d.quoter.Request(issuer.Raw)
		if err != nil {
			t.Fatal(err)
		}
		return *r
	}
	good := request(d)
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](good.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*tpm2.TPMTPublic)) tpm.EnrolmentRequest {
		p := *public
		change(&p)
		return tpm.EnrolmentRequest{EKChain: good.EKChain, AKPublic: tpm2.Marshal(p)}
	}
	for name, c := range map[string]struct {
		r      tpm.EnrolmentRequest
		makers []appraisal.Manufacturer
		want   error
	}{
		"no certificate":      {tpm.EnrolmentRequest{AKPublic: good.AKPublic}, makers(t), attest.ErrFormat},
		"certificate cut":     {tpm.EnrolmentRequest{EKChain: [][]byte{good.EKChain[0][:100]}, AKPublic: good.AKPublic}, makers(t), attest.ErrFormat},
		"no intermediate":     {tpm.EnrolmentRequest{EKChain: good.EKChain[:1], AKPublic: good.AKPublic}, makers(t), attest.ErrUntrusted},
		"authority as key":    {tpm.EnrolmentRequest{EKChain: [][]byte{issuer.Raw}, AKPublic: good.AKPublic}, makers(t), attest.ErrUntrusted},
		"no maker":            {good, nil, attest.ErrUntrusted},
		"other maker":         {good, []appraisal.Manufacturer{{Roots: []*x509.Certificate{issuerOf(t)}}}, attest.ErrUntrusted},
		"maker expired":       {good, []appraisal.Manufacturer{{Roots: []*x509.Certificate{root}, Expires: time.Now()}}, attest.ErrUntrusted},
		"no attestation key":  {tpm.EnrolmentRequest{EKChain: good.EKChain}, makers(t), attest.ErrFormat},
		"bytes after the key": {tpm.EnrolmentRequest{EKChain: good.EKChain, AKPublic: append(bytes.Clone(good.AKPublic), 0)}, makers(t), attest.ErrFormat},
		"signs anything":      {with(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }), makers(t), attest.ErrUntrusted},
		"may be duplicated":   {with(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }), makers(t), attest.ErrUntrusted},
		"made outside":        {with(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false }), makers(t), attest.ErrUntrusted},
		"decrypts":            {with(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true }), makers(t), attest.ErrUntrusted},
		"RSA":                 {tpm.EnrolmentRequest{EKChain: good.EKChain, AKPublic: tpm2.Marshal(tpm2.RSASRKTemplate)}, makers(t), attest.ErrUntrusted},
	} {
		if ch, err := tpm.NewChallenge(rand.Reader, c.r, c.makers, time.Now()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, ch, err)
		}
	}
	ch, err := tpm.NewChallenge(rand.Reader, good, makers(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := other.quoter.Activate(ch.Credential); err == nil {
		t.Errorf("another TPM opens the credential: %x", answer)
	}
	mixed := tpm.EnrolmentRequest{EKChain: good.EKChain, AKPublic: request(other).AKPublic}
	foreign, err := tpm.NewChallenge(rand.Reader, mixed, makers(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := d.quoter.Activate(foreign.Credential); err == nil {
		t.Errorf("the TPM vouches for another's attestation key: %x", answer)
	}
	answer, err := d.quoter.Activate(ch.Credential)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Endorse(answer[1:]); !errors.Is(err, attest.ErrUntrusted) {
		t.Error(err)
	}
	if _, err := ch.Endorse(answer); !errors.Is(err, attest.ErrUntrusted) {
		t.Error("a challenge was answered twice: ", err)
	}
	if _, err := ch.Endorse(nil); !errors.Is(err, attest.ErrUntrusted) {
		t.Error(err)
	}
}

// issuerOf is some other root.
func issuerOf(t *testing.T) *x509.Certificate {
	t.Helper()
	_, issuer := maker.Certificates(t)
	other := *issuer
	other.RawSubject = []byte("other")
	return &other
}

func TestQuoterRefuses(t *testing.T) {
	if q, err := tpm.NewQuoter(tpm.QuoterConfig{}); err == nil {
		t.Error(q)
	}
	d := manufactured(t)
	if q, err := tpm.NewQuoter(tpm.QuoterConfig{TPM: d.chip, PCRs: []int{24}}); err == nil {
		t.Error(q)
	}
	d.requote(t, func(c *tpm.QuoterConfig) {
		c.EventLog = func() ([]byte, error) { return nil, errors.New("no securityfs") }
	})
	if _, err := d.quoter.Report(context.Background(), bound.Binding{}); err == nil || !strings.Contains(err.Error(), "no securityfs") {
		t.Error(err)
	}
	for _, c := range []tpm.ReportsConfig{{}, {PCRs: []int{-1}}} {
		if r, err := tpm.NewReports(c); err == nil {
			t.Error(r)
		}
	}
}

// FuzzParseQuote: quotes and the logs in them are read or refused with a format error.
func FuzzParseQuote(f *testing.F) {
	log := append(specID(), event(9, 0x0d, sha256.Sum256(nil), "kernel")...)
	seed, err := (&tpm.Quote{Attest: []byte{0xff, 'T', 'C', 'G'}, Signature: make([]byte, 64), PCRs: map[int][]byte{9: make([]byte, 32)}, Thumbprint: make([]byte, 32), EventLog: log}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := tpm.ParseQuote(data)
		if err != nil {
			if !errors.Is(err, attest.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := q.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tpm.ParseQuote(again); err != nil {
			t.Fatal(err)
		}
		if _, err := tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest); err == nil {
			return
		}
	})
}
