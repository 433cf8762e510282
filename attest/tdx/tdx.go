// Package tdx appraises quotes (version 4) of Intel TDX guests, offline. It implements
// [bound.Reports]; the guest's side is package attest/tsm. Quotes are parsed and checked by
// github.com/google/go-tdx-guest, from a local cache of what Intel's Provisioning Certification
// Service publishes: TCB info, the quoting enclave's identity, and CRLs, each signed by Intel.
//
// A quote that Intel's root does not vouch for yields no verdict. A platform whose TCB is out of date
// or whose certificates are revoked, and one for which the cache has no current collateral, is
// contraindicated; the reason is go-tdx-guest's. Which guest runs is left to reference values of
// [MeasurementName] and [RuntimeName], under the vendor Intel ([OEMID]) and the platform's FMSPC as
// hardware model.
package tdx

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// MeasurementName is the measured component with the guest's build-time measurement (MRTD).
const MeasurementName = "tdx-mrtd"

// RuntimeName is the measured component with one of the four run-time measurement registers.
func RuntimeName(i int) string { return fmt.Sprintf("tdx-rtmr-%d", i) }

// MaxQuoteBytes is the largest quote that is read.
const MaxQuoteBytes = 64 << 10

// The guest's attributes (TDX Module 1.5 ABI, ATTRIBUTES): any bit of the first byte lets the host debug or
// profile it, and one of the fourth lets a migration guest move it to another platform.
const (
	tdUnderDebug = 0
	tdSecurity   = 3
	tdMigratable = 1 << 5
)

// OEMID is the encoded oemid claim of Intel: its IANA enterprise number.
func OEMID() []byte { return []byte{0x19, 0x01, 0x57} } // 343

// UEID names the device by the PPID of its PCK certificate: a number in the sense of RFC 9711
// §4.2.1.1 (RAND), derived from what is unique to the platform.
func UEID(ppid []byte) []byte {
	sum := sha256.Sum256(append([]byte("Intel platform PPID\x00"), ppid...))
	return append([]byte{0x01}, sum[:]...)
}

// Cache returns what Intel's service publishes under a URL, with the headers it came with, from
// local files. It opens no connection.
type Cache interface {
	Get(url string) (map[string][]string, []byte, error)
}

// Config configures [NewReports].
type Config struct {
	// Makers know Intel's SGX root certificates, as those of the manufacturer [OEMID]. Required: none
	// is built in.
	Makers appraisal.Endorsements
	Cache  Cache
}

// Reports authenticates TDX quotes. It is safe for concurrent use if the cache is.
type Reports struct{ c Config }

var _ bound.Reports = (*Reports)(nil)

// NewReports checks the configuration.
func NewReports(c Config) (*Reports, error) {
	if c.Makers == nil || c.Cache == nil {
		return nil, errors.New("tdx: Intel's root and a cache of its collateral are needed")
	}
	return &Reports{c: c}, nil
}

// roots are Intel's that have not expired, and who vouches for them.
func (r *Reports) roots(now time.Time) (*x509.CertPool, string, error) {
	makers, err := r.c.Makers.Manufacturers()
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", eat.ErrLookup, err)
	}
	pool, owner := x509.NewCertPool(), ""
	for i := range makers {
		m := &makers[i]
		if !bytes.Equal(m.OEMID, OEMID()) || !m.Expires.IsZero() && !now.Before(m.Expires) {
			continue
		}
		for _, cert := range m.Roots {
			pool.AddCert(cert)
		}
		owner = m.Owner
	}
	if owner == "" {
		return nil, "", fmt.Errorf("%w: TDX quote: no root of the manufacturer pen:343 (Intel) is loaded that has not expired", attest.ErrUntrusted)
	}
	return pool, owner, nil
}

// Accepts implements [bound.Reports].
func (r *Reports) Accepts(mediaType string) bool { return mediaType == bound.TDXQuote }

// Read implements [bound.Reports].
func (r *Reports) Read(ctx context.Context, data []byte, b bound.Beside) (out *bound.Report, err error) {
	// go-tdx-guest believes lengths inside a quote and slices out of bounds where they lie.
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("%w: TDX quote: its lengths do not fit: %v", attest.ErrFormat, p)
		}
	}()
	if len(data) > MaxQuoteBytes {
		return nil, fmt.Errorf("%w: TDX quote of %d bytes, at most %d are read", attest.ErrFormat, len(data), MaxQuoteBytes)
	}
	parsed, err := abi.QuoteToProto(data)
	if err != nil {
		return nil, fmt.Errorf("%w: TDX quote: %w", attest.ErrFormat, err)
	}
	quote, ok := parsed.(*pb.QuoteV4)
	if !ok {
		return nil, fmt.Errorf("%w: TDX quote of another version than 4", attest.ErrFormat)
	}
	if len(quote.ExtraBytes) != 0 {
		return nil, fmt.Errorf("%w: TDX quote with %d bytes after it", attest.ErrFormat, len(quote.ExtraBytes))
	}
	if err := canonicalChain(quote); err != nil {
		return nil, err
	}
	roots, owner, err := r.roots(b.Now)
	if err != nil {
		return nil, err
	}
	options := verify.Options{TrustedRoots: roots, Now: at(b.Now), Getter: r.c.Cache}
	if err := verify.TdxQuoteContext(ctx, quote, &options); err != nil {
		return nil, fmt.Errorf("%w: TDX quote: %w", attest.ErrUntrusted, err)
	}
	out, err = describe(quote, owner)
	if err != nil {
		return nil, err
	}
	finding := eat.Finding{Claim: "tcb", Aspect: appraisal.Hardware, Value: appraisal.Affirmed,
		Text: "up to date by the TCB info and the quoting enclave's identity that Intel signed, and not revoked"}
	options = verify.Options{TrustedRoots: roots, Now: at(b.Now), Getter: r.c.Cache, GetCollateral: true, CheckRevocations: true}
	if err := verify.TdxQuoteContext(ctx, quote, &options); err != nil {
		finding.Value, finding.Text = appraisal.HardwareContraindicated, fmt.Sprintf("by the collateral in the cache: %v", err)
	}
	out.Findings = append(out.Findings, finding)
	return out, ctx.Err()
}

// canonicalChain refuses certificates in another spelling of PEM than the usual one: nothing signs
// that text, and bits of base64 that nobody reads would be changed unnoticed.
func canonicalChain(quote *pb.QuoteV4) error {
	text := quote.GetSignedData().GetCertificationData().GetQeReportCertificationData().GetPckCertificateChainData().GetPckCertChain()
	var canonical []byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		canonical = append(canonical, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if !bytes.Equal(bytes.TrimRight(text, "\x00"), canonical) {
		return fmt.Errorf("%w: TDX quote: its certificates are not in canonical PEM", attest.ErrFormat)
	}
	return nil
}

func at(now time.Time) *verify.TimeSet {
	return &verify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now}
}

// describe turns an authentic quote into what is appraised.
func describe(quote *pb.QuoteV4, owner string) (*bound.Report, error) {
	chain, err := verify.ExtractChainFromQuote(quote)
	if err != nil {
		return nil, fmt.Errorf("%w: TDX quote: %w", attest.ErrFormat, err)
	}
	ext, err := pcs.PckCertificateExtensions(chain.PCKCertificate)
	if err != nil {
		return nil, fmt.Errorf("%w: PCK certificate: %w", attest.ErrUntrusted, err)
	}
	ppid, errPPID := hex.DecodeString(ext.PPID)
	model, errModel := hex.DecodeString(ext.FMSPC)
	if err := errors.Join(errPPID, errModel); err != nil || len(ppid) == 0 || len(model) == 0 {
		return nil, fmt.Errorf("%w: the PCK certificate names no platform: %w", attest.ErrUntrusted, errors.Join(err))
	}
	body := quote.GetTdQuoteBody()
	out := &bound.Report{
		Bound:     body.GetReportData(),
		Authority: eat.Authority{UEID: UEID(ppid), Class: appraisal.Class{OEMID: OEMID(), HWModel: model}, OEMID: OEMID(), Owner: owner},
		Debug:     eat.DebugDisabledSinceBoot,
	}
	attributes := body.GetTdAttributes()
	if len(attributes) <= tdSecurity || attributes[tdUnderDebug] != 0 {
		out.Debug = eat.DebugEnabled
	}
	if len(attributes) > tdSecurity && attributes[tdSecurity]&tdMigratable != 0 {
		out.Findings = append(out.Findings, eat.Finding{Claim: "attributes", Aspect: appraisal.Configuration, Value: appraisal.ConfigurationVulnerable,
			Text: "a migration guest may move the guest to another platform"})
	}
	names := []string{MeasurementName}
	values := [][]byte{body.GetMrTd()}
	for i, v := range body.GetRtmrs() {
		names, values = append(names, RuntimeName(i)), append(values, v)
	}
	for i, v := range values {
		digest, err := appraisal.NewDigest(cose.AlgSHA384, v)
		if err != nil {
			return nil, fmt.Errorf("%w: TDX quote: %s: %w", attest.ErrFormat, names[i], err)
		}
		out.Measurements = append(out.Measurements, eat.MeasuredComponent{Name: names[i], Digest: digest})
	}
	return out, nil
}
