// Package bound makes and appraises Evidence that hardware signs: the report of a processor or a
// TPM, and beside it the claims of the TEEP profile (attest/eat) that the report is bound to. The
// 64 bytes that such hardware signs for its caller are the [Binding] of the encoded claims; these
// hold the challenge, the agent's key in cnf, and what is installed. So the report vouches for all
// of it, and nobody can put another's claims beside it.
//
// On the wire it is a collection of conceptual message wrappers (attest/cmw):
//
//	{ "__cmwc_t": CollectionType, "claims": [EAT claims set], "report": [report under its media type] }
//
// Inside the TEE, an [Attester] asks a [Reporter] for the report. A [Verifier] asks the [Reports]
// for the report's media type who made it and what it says, and leaves the rest, freshness, key
// binding, reference values and the signed result, to an [eat.Verifier]. Each evidence technology
// has a package of its own beside this one.
package bound

import (
	"context"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// CollectionType names the collection and the meaning of its labels.
const CollectionType = "https://github.com/go-teep/teep/attest/bound"

// MediaType is what the Evidence goes under.
const MediaType = cmw.MediaType + `; cmwc_t="` + CollectionType + `"`

// ClaimsMediaType is the media type of the claims inside (RFC 9782): a claims set without a
// signature of its own.
const ClaimsMediaType = `application/eat-ucs+cbor; eat_profile="` + eat.Profile + `"`

const claimsLabel, reportLabel = "claims", "report"

// Media types of reports. None is registered; these are of the vendor tree.
const (
	// SEVSNPReport is an attestation report of AMD SEV-SNP and the certificate table after it, as
	// the guest device returns them.
	SEVSNPReport = "application/vnd.go-teep.sev-snp-report"
	// TDXQuote is a quote of Intel TDX.
	TDXQuote = "application/vnd.go-teep.tdx-quote"
	// TPMQuote is what package attest/tpm describes.
	TPMQuote = "application/vnd.go-teep.tpm-quote+cbor"
)

// BindingSize is the number of bytes that processors sign for their caller.
const BindingSize = 64

// Binding is what the hardware signs in place of the claims.
//
//	binding = SHA-512("TEEP bound evidence" || 0x00 || claims)
type Binding [BindingSize]byte

// Bind computes the binding of encoded claims. The prefix keeps it from being the digest of
// anything else that a TEE has its hardware sign.
func Bind(claims []byte) Binding {
	return sha512.Sum512(append([]byte("TEEP bound evidence\x00"), claims...))
}

// MinBindingSize is the shortest prefix of a binding that hardware with less room may sign: as
// much as a SHA-256 digest.
const MinBindingSize = 32

// Matches tells whether signed data is the binding, or a prefix of it of at least MinBindingSize.
func (b Binding) Matches(signed []byte) bool {
	return len(signed) >= MinBindingSize && len(signed) <= len(b) && subtle.ConstantTimeCompare(signed, b[:len(signed)]) == 1
}

// Reporter has the hardware sign a binding. Implementations are safe for concurrent use.
type Reporter interface {
	// MediaType is that of the report.
	MediaType() string
	Report(ctx context.Context, b Binding) ([]byte, error)
}

// Report is what an authentic report says.
type Report struct {
	// Bound is the data that the hardware signed for its caller, which must match the binding of
	// the claims.
	Bound []byte
	// Authority is who vouches for the hardware, and for which device it may speak.
	Authority eat.Authority
	// Measurements, Debug and Findings are handed to the appraisal.
	Measurements []eat.MeasuredComponent
	Debug        eat.DebugStatus
	Findings     []eat.Finding
}

// Reports authenticates one kind of report. Implementations are safe for concurrent use.
type Reports interface {
	Accepts(mediaType string) bool
	// Read checks who made the report. Its errors are the sentinels of package attest.
	Read(ctx context.Context, report []byte, b Beside) (*Report, error)
}

// Beside is what a report is read with.
type Beside struct {
	// Claims are not authenticated yet; they may be used to find the device's keys.
	Claims *eat.Claims
	// Binding is of these claims.
	Binding Binding
	Now     time.Time
}

// encode builds the Evidence.
func encode(claims, report []byte, reportType string) ([]byte, error) {
	return cmw.Collection{Type: CollectionType, Members: map[string]cmw.Message{
		claimsLabel: {Record: &cmw.Record{MediaType: ClaimsMediaType, Value: claims, Indicator: cmw.Evidence}},
		reportLabel: {Record: &cmw.Record{MediaType: reportType, Value: report, Indicator: cmw.Evidence}},
	}}.Encode()
}

// parts are what Evidence consists of. Nothing of it is verified.
type parts struct {
	claims     []byte
	report     []byte
	reportType string
}

func decode(data []byte) (*parts, error) {
	m, err := cmw.Parse(data)
	if err != nil {
		return nil, err
	}
	c := m.Collection
	if c == nil || c.Type != CollectionType || len(c.Members) != 2 {
		return nil, malformed(errors.New("it is not a collection of claims and report of the type " + CollectionType))
	}
	claims, report := c.Members[claimsLabel].Record, c.Members[reportLabel].Record
	switch {
	case claims == nil || report == nil:
		return nil, malformed(errors.New(`the members are not called "claims" and "report", or are no records`))
	case claims.MediaType != ClaimsMediaType:
		return nil, malformed(fmt.Errorf("the claims are of type %.100q, not %s", claims.MediaType, ClaimsMediaType))
	}
	for _, r := range []*cmw.Record{claims, report} {
		if r.Indicator != 0 && r.Indicator != cmw.Evidence {
			return nil, malformed(errors.New("a member is indicated to be something else than Evidence"))
		}
	}
	return &parts{claims: claims.Value, report: report.Value, reportType: report.Type()}, nil
}

func malformed(err error) error { return fmt.Errorf("%w: bound evidence: %w", attest.ErrFormat, err) }

// Attester makes Evidence. It is safe for concurrent use if its reporter and clock are. It
// implements [attest.Attester].
type Attester struct {
	base     *eat.Claims
	reporter Reporter
	now      func() time.Time
}

var _ attest.Attester = (*Attester)(nil)

// NewAttester checks that the identity can be attested. The identity's UEID and class are those
// under which the verifier knows the hardware; each technology's package tells its own.
func NewAttester(identity eat.Identity, reporter Reporter, now func() time.Time) (*Attester, error) {
	if reporter == nil || now == nil {
		return nil, errors.New("bound: an attester needs hardware that reports, and a clock")
	}
	base, err := eat.IdentityClaims(identity)
	if err != nil {
		return nil, err
	}
	return &Attester{base: base, reporter: reporter, now: now}, nil
}

// MediaTypes implements [attest.Attester]: the collection, and the report inside, by which a TAM can
// ask for one kind of hardware. Either way the Evidence is the collection.
func (a *Attester) MediaTypes() []string { return []string{MediaType, a.reporter.MediaType()} }

// Attest implements [attest.Attester].
func (a *Attester) Attest(ctx context.Context, mediaType string, r attest.Request) (attest.Evidence, error) {
	if mediaType != "" && !isBound(mediaType) && !attest.SameType(mediaType, a.reporter.MediaType()) {
		return attest.Evidence{}, fmt.Errorf("%w: %.100q; this attester makes %s", attest.ErrUnknownType, mediaType, MediaType)
	}
	claims, err := a.base.For(r, a.now())
	if err != nil {
		return attest.Evidence{}, err
	}
	encoded, err := claims.Encode()
	if err != nil {
		return attest.Evidence{}, err
	}
	report, err := a.reporter.Report(ctx, Bind(encoded))
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("bound: report of the hardware: %w", err)
	}
	data, err := encode(encoded, report, a.reporter.MediaType())
	return attest.Evidence{MediaType: MediaType, Payload: data}, err
}

func isBound(mediaType string) bool {
	typ, params, err := mime.ParseMediaType(mediaType)
	return err == nil && typ == cmw.MediaType && len(params) == 1 && strings.EqualFold(params["cmwc_t"], CollectionType)
}

// Verifier appraises Evidence whose report one of its Reports can read. It is safe for concurrent
// use. It implements [attest.Verifier].
type Verifier struct {
	claims  *eat.Verifier
	reports []Reports
	now     func() time.Time
}

var (
	_ attest.Verifier = (*Verifier)(nil)
	_ attest.Peeker   = (*Verifier)(nil)
)

// NewVerifier makes a Verifier that leaves the claims to an eat.Verifier, whose key signs the
// results.
func NewVerifier(claims *eat.Verifier, now func() time.Time, reports ...Reports) (*Verifier, error) {
	if claims == nil || now == nil || len(reports) == 0 {
		return nil, errors.New("bound: a verifier needs a verifier of the claims, a clock, and a kind of report that it can read")
	}
	return &Verifier{claims: claims, reports: reports, now: now}, nil
}

// Accepts implements [attest.Verifier].
func (v *Verifier) Accepts(mediaType string) bool { return isBound(mediaType) }

// Appraise implements [attest.Verifier]. The hardware's report is authenticated first; then the
// claims must be those that it is bound to; only then are they appraised.
func (v *Verifier) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	if !v.Accepts(e.MediaType) {
		return nil, fmt.Errorf("%w: %.100q; this verifier reads %s", attest.ErrUnknownType, e.MediaType, MediaType)
	}
	p, err := decode(e.Payload)
	if err != nil {
		return nil, err
	}
	claims, err := eat.ParseClaims(p.claims)
	if err != nil {
		return nil, err
	}
	beside := Beside{Claims: claims, Binding: Bind(p.claims), Now: v.now()}
	report, err := v.read(ctx, p, beside)
	if err != nil {
		return nil, err
	}
	if !beside.Binding.Matches(report.Bound) {
		return nil, fmt.Errorf("%w: the report is not about these claims; it was made for others, or they were changed", attest.ErrKeyBinding)
	}
	return v.claims.AppraiseAuthenticated(ctx, &eat.Authenticated{
		MediaType: p.reportType, Claims: claims, Authority: report.Authority,
		Measurements: report.Measurements, Debug: report.Debug, Findings: report.Findings,
	}, x)
}

func (v *Verifier) read(ctx context.Context, p *parts, beside Beside) (*Report, error) {
	for _, r := range v.reports {
		if r.Accepts(p.reportType) {
			return r.Read(ctx, p.report, beside)
		}
	}
	return nil, fmt.Errorf("%w: a report of type %.100q inside bound evidence", attest.ErrUnknownType, p.reportType)
}

// Peek implements [attest.Peeker].
func (v *Verifier) Peek(e attest.Evidence) (nonce []byte, agentKey *cose.Key, err error) {
	p, err := decode(e.Payload)
	if err != nil {
		return nil, nil, err
	}
	claims, err := eat.ParseClaims(p.claims)
	if err != nil {
		return nil, nil, err
	}
	nonce, agentKey = claims.About()
	return nonce, agentKey, nil
}

// HardwareFinding makes a finding about the hardware of a verdict on its TCB.
func HardwareFinding(r attest.Reason) eat.Finding {
	value := appraisal.HardwareUnsafe
	switch r.Status {
	case attest.StatusAffirming:
		value = appraisal.Affirmed
	case attest.StatusContraindicated:
		value = appraisal.HardwareContraindicated
	}
	return eat.Finding{Claim: r.Claim, Aspect: appraisal.Hardware, Value: value, Text: r.Text}
}
