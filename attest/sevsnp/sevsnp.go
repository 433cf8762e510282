// Package sevsnp appraises attestation reports of AMD SEV-SNP guests, offline. It implements
// [bound.Reports]; a [bound.Verifier] puts the report together with the claims it is bound to. The
// guest's side is package attest/tsm.
//
// What must be loaded beforehand, as collateral (attest/appraisal) under the vendor AMD
// ([OEMID]) and the product line as hardware model ("Milan", "Genoa", …):
//
//   - a manufacturer whose roots are the ARK certificates, with the CRLs of ARK and ASK;
//   - TCB levels over bootloader, tee, snp and microcode (and fmc, from Turin on);
//   - the launch measurement of the guest image, as reference value of [MeasurementName].
//
// The report is parsed and its signature checked by github.com/google/go-sev-guest; AMD's "SEV
// Secure Nested Paging Firmware ABI" (56860) describes it, "VCEK Certificate and KDS Interface"
// (57230) the certificates.
package sevsnp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/tsm"
	"github.com/go-teep/teep/cose"
)

// MeasurementName is the measured component that holds the launch measurement, a SHA-384 digest.
const MeasurementName = "sev-snp-launch"

// MaxReportBytes is the largest report with certificates that is read.
const MaxReportBytes = 64 << 10

// OEMID is the encoded oemid claim of AMD: its IANA enterprise number.
func OEMID() []byte { return []byte{0x19, 0x0e, 0x78} } // 3704

// Class is the class of a product line.
func Class(productLine string) appraisal.Class {
	return appraisal.Class{OEMID: OEMID(), HWModel: []byte(productLine)}
}

// UEID names the device by its chip: a random number in the sense of RFC 9711 §4.2.1.1, derived
// from the 64 bytes of the chip identifier. Guests of one chip are one device.
func UEID(chipID []byte) []byte { return tsm.ChipUEID(chipID) }

// Config configures [NewReports].
type Config struct {
	Endorsements appraisal.Endorsements
	TCBLevels    appraisal.TCBLevels
	// Intermediates are ASK and ASVK certificates in DER, for hosts that give their guests the
	// VCEK certificate only.
	Intermediates [][]byte
}

// Reports authenticates SEV-SNP reports. It is safe for concurrent use.
type Reports struct{ c Config }

var _ bound.Reports = (*Reports)(nil)

// NewReports checks the configuration.
func NewReports(c Config) (*Reports, error) {
	if c.Endorsements == nil || c.TCBLevels == nil {
		return nil, errors.New("sevsnp: AMD's roots and TCB levels are needed; without any no processor can be trusted")
	}
	return &Reports{c: c}, nil
}

// Accepts implements [bound.Reports].
func (r *Reports) Accepts(mediaType string) bool { return mediaType == bound.SEVSNPReport }

// Read implements [bound.Reports].
func (r *Reports) Read(ctx context.Context, data []byte, b bound.Beside) (*bound.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	report, certs, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: SEV-SNP report: %w", attest.ErrFormat, err)
	}
	signer, err := abi.ParseSignerInfo(report.SignerInfo)
	if err != nil {
		return nil, fmt.Errorf("%w: SEV-SNP report: %w", attest.ErrFormat, err)
	}
	leaf, maker, err := r.endorsementKey(certs, signer.SigningKey, b.Now)
	if err != nil {
		return nil, err
	}
	if err := verify.SnpReportSignature(data[:abi.ReportSize], leaf); err != nil {
		return nil, fmt.Errorf("%w: SEV-SNP report: %w", attest.ErrSignature, err)
	}
	chip, err := identify(report, leaf, signer)
	if err != nil {
		return nil, err
	}
	return r.describe(report, chip, maker, b.Now)
}

// endorsementKey finds the certificate of the key that signed the report and validates it.
func (r *Reports) endorsementKey(certs map[string][]byte, key abi.ReportSigner, now time.Time) (*x509.Certificate, *appraisal.Manufacturer, error) {
	guid := abi.VcekGUID
	switch key {
	case abi.VcekReportSigner:
	case abi.VlekReportSigner:
		guid = abi.VlekGUID
	default:
		return nil, nil, fmt.Errorf("%w: the SEV-SNP report is signed with no key (%v)", attest.ErrUntrusted, key)
	}
	der := certs[guid]
	if der == nil {
		return nil, nil, fmt.Errorf("%w: the SEV-SNP report has no %v certificate beside it; have the host load it (snphost or the VMM's certificate option)", attest.ErrUntrusted, key)
	}
	chain := [][]byte{der}
	if ask := certs[abi.AskGUID]; ask != nil {
		chain = append(chain, ask)
	}
	leaf, maker, err := eat.CertifiedBy(r.c.Endorsements, append(chain, r.c.Intermediates...), now)
	if err != nil {
		return nil, nil, err
	}
	pub, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() {
		return nil, nil, fmt.Errorf("%w: the %v certificate holds no P-384 key", attest.ErrUntrusted, key)
	}
	if want := "SEV-" + key.String(); leaf.Subject.CommonName != want {
		return nil, nil, fmt.Errorf("%w: the certificate is for %.100q, not %q", attest.ErrUntrusted, leaf.Subject.CommonName, want)
	}
	return leaf, maker, nil
}

// chip is the processor that made a report.
type chip struct {
	line     string // product line
	versions map[string]uint64
	key      *cose.Key
}

// identify holds the report to the certificate of its key: chip and TCB must be those that the
// certificate was issued for.
func identify(report *spb.Report, leaf *x509.Certificate, signer abi.SignerInfo) (*chip, error) {
	ext, err := kds.CertificateExtensions(leaf, signer.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %v certificate: %w", attest.ErrUntrusted, signer.SigningKey, err)
	}
	line, err := productLine(report, ext, signer.SigningKey)
	if err != nil {
		return nil, err
	}
	if signer.MaskChipKey || len(bytes.Trim(report.ChipId, "\x00")) == 0 {
		return nil, fmt.Errorf("%w: the host masks the chip identifier, so the SEV-SNP report names no device; have it unmasked (MASK_CHIP_ID)", attest.ErrUntrusted)
	}
	if ext.HWID != nil && !bytes.Equal(ext.HWID, report.ChipId) {
		return nil, fmt.Errorf("%w: the SEV-SNP report is of chip %x…, its certificate is for chip %x…", attest.ErrUntrusted, report.ChipId[:8], ext.HWID[:8])
	}
	c := &chip{line: line, versions: tcbVersions(line, report.ReportedTcb)}
	certified := kds.DecomposeTCBVersion(ext.TCBVersion)
	for name, v := range map[string]uint8{"bootloader": certified.BlSpl, "tee": certified.TeeSpl, "snp": certified.SnpSpl, "microcode": certified.UcodeSpl} {
		if c.versions[name] != uint64(v) {
			return nil, fmt.Errorf("%w: the SEV-SNP report claims %s %d, its certificate is for %d", attest.ErrUntrusted, name, c.versions[name], v)
		}
	}
	if c.key, err = cose.NewPublicKey(leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", attest.ErrUntrusted, signer.SigningKey, err)
	}
	return c, nil
}

// productLine is what the report says from version 3 on, and before that what the certificate says.
func productLine(report *spb.Report, ext *kds.Extensions, key abi.ReportSigner) (string, error) {
	line := ""
	if report.Cpuid1EaxFms != 0 {
		line = kds.ProductLineFromFms(report.Cpuid1EaxFms)
	} else if product, err := kds.ParseProductName(ext.ProductName, key); err == nil {
		line = kds.ProductLine(product)
	}
	if line == "" || line == "Unknown" {
		return "", fmt.Errorf("%w: a processor (%.40q, family %#x) that this verifier does not know", attest.ErrUntrusted, ext.ProductName, report.Cpuid1EaxFms)
	}
	return line, nil
}

// tcbVersions takes TCB_VERSION apart (56860 table 3; the layout changed with Turin).
func tcbVersions(line string, tcb uint64) map[string]uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], tcb)
	if line == "Milan" || line == "Genoa" {
		return map[string]uint64{"bootloader": uint64(b[0]), "tee": uint64(b[1]), "snp": uint64(b[6]), "microcode": uint64(b[7])}
	}
	return map[string]uint64{"fmc": uint64(b[0]), "bootloader": uint64(b[1]), "tee": uint64(b[2]), "snp": uint64(b[3]), "microcode": uint64(b[7])}
}

// describe turns an authentic report into what is appraised.
func (r *Reports) describe(report *spb.Report, c *chip, maker *appraisal.Manufacturer, now time.Time) (*bound.Report, error) {
	policy, err := abi.ParseSnpPolicy(report.Policy)
	if err != nil {
		return nil, fmt.Errorf("%w: SEV-SNP guest policy: %w", attest.ErrFormat, err)
	}
	class := appraisal.Class{OEMID: maker.OEMID, HWModel: []byte(c.line)}
	levels, err := r.c.TCBLevels.TCBLevelsFor(class)
	if err != nil {
		return nil, fmt.Errorf("sevsnp: look up TCB levels: %w", err)
	}
	digest, err := appraisal.NewDigest(cose.AlgSHA384, report.Measurement)
	if err != nil {
		return nil, fmt.Errorf("%w: SEV-SNP launch measurement: %w", attest.ErrFormat, err)
	}
	out := &bound.Report{
		Bound:        report.ReportData,
		Authority:    eat.Authority{Key: c.key, UEID: UEID(report.ChipId), Class: class, OEMID: maker.OEMID, Owner: maker.Owner},
		Measurements: []eat.MeasuredComponent{{Name: MeasurementName, Digest: digest}},
		// The guest policy is fixed at launch.
		Debug:    eat.DebugDisabledSinceBoot,
		Findings: []eat.Finding{bound.HardwareFinding(appraisal.MatchTCB(levels, c.versions, now))},
	}
	if policy.Debug {
		out.Debug = eat.DebugEnabled
	}
	if policy.MigrateMA {
		out.Findings = append(out.Findings, eat.Finding{Claim: "guest policy", Aspect: appraisal.Configuration, Value: appraisal.ConfigurationVulnerable,
			Text: "a migration agent may move the guest to another machine"})
	}
	if report.Vmpl != 0 {
		out.Findings = append(out.Findings, eat.Finding{Claim: "vmpl", Aspect: appraisal.Configuration, Value: appraisal.ConfigurationVulnerable,
			Text: fmt.Sprintf("requested at privilege level %d: whoever may ask for reports at it can speak for the guest", report.Vmpl)})
	}
	return out, nil
}
