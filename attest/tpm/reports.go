package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// ReportsConfig configures [NewReports].
type ReportsConfig struct {
	Endorsements appraisal.Endorsements
	// References are asked whether a PCR is known by its value or by its events; the appraisal
	// compares them again.
	References appraisal.References
	// PCRs must be in every quote. For a measured boot of kernel and initramfs under UEFI these
	// are 0, 4, 8, 9 and 11.
	PCRs []int
	// TCBLevels, when given and loaded for the class of a device, judge the firmware version that
	// the TPM reports, as the component "firmware".
	TCBLevels appraisal.TCBLevels
}

// Reports authenticates TPM quotes. It is safe for concurrent use.
type Reports struct{ c ReportsConfig }

var _ bound.Reports = (*Reports)(nil)

// NewReports checks the configuration.
func NewReports(c ReportsConfig) (*Reports, error) {
	if c.Endorsements == nil || c.References == nil || len(c.PCRs) == 0 {
		return nil, errors.New("tpm: endorsements, reference values and the PCRs that count are needed; a quote of no PCR says nothing")
	}
	for _, pcr := range c.PCRs {
		if pcr < 0 || pcr >= MaxPCRs {
			return nil, fmt.Errorf("tpm: there is no PCR %d", pcr)
		}
	}
	return &Reports{c: c}, nil
}

// Accepts implements [bound.Reports].
func (r *Reports) Accepts(mediaType string) bool { return mediaType == bound.TPMQuote }

// Read implements [bound.Reports].
func (r *Reports) Read(ctx context.Context, data []byte, b bound.Beside) (*bound.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q, err := ParseQuote(data)
	if err != nil {
		return nil, err
	}
	authority, err := r.authority(q, b.Now)
	if err != nil {
		return nil, err
	}
	attested, err := verify(q, authority.Key)
	if err != nil {
		return nil, err
	}
	if err := checkPCRs(q, attested); err != nil {
		return nil, err
	}
	out := &bound.Report{Authority: *authority}
	if bytes.Equal(attested.ExtraData.Buffer, qualify(b.Binding, q.EventLog)) {
		out.Bound = b.Binding[:]
	}
	class := appraisal.Class{OEMID: b.Claims.OEMID, HWModel: b.Claims.HWModel}
	if err := r.measured(out, q, class, b.Now); err != nil {
		return nil, err
	}
	return out, r.firmware(out, class, attested.FirmwareVersion, b.Now)
}

func (r *Reports) authority(q *Quote, now time.Time) (*eat.Authority, error) {
	if q.X5Chain != nil {
		return eat.CertifiedKey(r.c.Endorsements, q.X5Chain, now)
	}
	return eat.EndorsedKey(r.c.Endorsements, q.Thumbprint, now)
}

// verify checks the signature before anything of what is signed is parsed. That the key is a
// restricted one, which signs nothing but what the TPM made, was checked at its enrolment or
// certification; with the magic number that makes this a statement of the TPM.
func verify(q *Quote, key *cose.Key) (*tpm2.TPMSAttest, error) {
	v, err := key.VerifierFor(cose.AlgESP256)
	if err != nil {
		return nil, fmt.Errorf("%w: TPM quote: attestation keys are ECDSA P-256 here: %w", attest.ErrUntrusted, err)
	}
	if err := v.Verify(q.Attest, q.Signature); err != nil {
		return nil, fmt.Errorf("%w: TPM quote: %w", attest.ErrSignature, err)
	}
	attested, err := tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest)
	if err != nil {
		return nil, malformed(fmt.Errorf("TPMS_ATTEST: %w", err))
	}
	if attested.Magic != tpm2.TPMGeneratedValue || attested.Type != tpm2.TPMSTAttestQuote || !bytes.Equal(tpm2.Marshal(attested), q.Attest) {
		return nil, malformed(errors.New("what is signed is not a quote that a TPM made"))
	}
	return attested, nil
}

// checkPCRs holds the PCR values to the digest in the quote (TPM 2.0 Part 3 §18.4).
func checkPCRs(q *Quote, attested *tpm2.TPMSAttest) error {
	info, err := attested.Attested.Quote()
	if err != nil {
		return malformed(err)
	}
	if len(info.PCRSelect.PCRSelections) != 1 || info.PCRSelect.PCRSelections[0].Hash != tpm2.TPMAlgSHA256 {
		return fmt.Errorf("%w: the quote is not of the SHA-256 bank alone", attest.ErrMeasurement)
	}
	h := sha256.New()
	selected := selectedPCRs(info.PCRSelect.PCRSelections[0].PCRSelect)
	for _, pcr := range selected {
		h.Write(q.PCRs[pcr])
	}
	if !slices.Equal(selected, slices.Sorted(maps.Keys(q.PCRs))) {
		return fmt.Errorf("%w: the quote is of PCRs %v, the values beside it are of others", attest.ErrSignature, selected)
	}
	if !bytes.Equal(h.Sum(nil), info.PCRDigest.Buffer) {
		return fmt.Errorf("%w: the PCR values are not those that the TPM quoted", attest.ErrSignature)
	}
	return nil
}

func selectedPCRs(bitmap []byte) []int {
	var pcrs []int
	for i, b := range bitmap {
		for bit := range 8 {
			if b&(1<<bit) != 0 {
				pcrs = append(pcrs, i*8+bit)
			}
		}
	}
	return pcrs
}

// measured says of each PCR what is to be compared with reference values: its value; or, when only
// the events are known that led to it, those.
func (r *Reports) measured(out *bound.Report, q *Quote, class appraisal.Class, now time.Time) error {
	refs, err := r.c.References.ReferencesFor(class)
	if err != nil {
		return fmt.Errorf("tpm: look up reference values: %w", err)
	}
	for _, pcr := range r.c.PCRs {
		if _, ok := q.PCRs[pcr]; !ok {
			out.Findings = append(out.Findings, eat.Finding{Claim: PCRName(pcr), Aspect: appraisal.Executables, Value: appraisal.ExecutablesRefused,
				Text: "not in the quote, though this verifier requires it"})
		}
	}
	byPCR, err := eventsOf(q)
	if err != nil {
		return err
	}
	for _, pcr := range slices.Sorted(maps.Keys(q.PCRs)) {
		value := appraisal.Digest{Algorithm: cose.AlgSHA256, Value: q.PCRs[pcr]}
		if ref, _ := appraisal.Match(refs, PCRName(pcr), value, now); ref == nil {
			known, unknown := matchEvents(refs, pcr, byPCR[pcr], now)
			if len(known) > 0 && len(unknown) == 0 {
				out.Measurements = append(out.Measurements, known...)
				continue
			}
			if text := explain(byPCR[pcr], unknown); text != "" {
				out.Findings = append(out.Findings, eat.Finding{Claim: PCRName(pcr), Aspect: appraisal.Executables, Value: appraisal.ExecutablesRefused, Text: text})
			}
		}
		out.Measurements = append(out.Measurements, eat.MeasuredComponent{Name: PCRName(pcr), Digest: value})
	}
	return nil
}

// eventsOf returns the events of each quoted PCR whose replay gives the quoted value. A log that
// gives another value is a lie, and an error.
func eventsOf(q *Quote) (map[int][]Event, error) {
	if q.EventLog == nil {
		return nil, nil
	}
	events, err := ParseEventLog(q.EventLog)
	if err != nil {
		return nil, err
	}
	for pcr, value := range Replay(events) {
		if quoted, ok := q.PCRs[pcr]; ok && !bytes.Equal(value, quoted) {
			return nil, fmt.Errorf("%w: the event log replays PCR %d to %x, the TPM quotes %x; something was extended that the log hides", attest.ErrMeasurement, pcr, value, quoted)
		}
	}
	byPCR := map[int][]Event{}
	for _, e := range events {
		if _, ok := q.PCRs[e.PCR]; ok && e.PCR <= 16 && e.Type != evNoAction {
			byPCR[e.PCR] = append(byPCR[e.PCR], e)
		}
	}
	return byPCR, nil
}

// matchEvents compares the events of a PCR one by one. An event that occurs twice counts once.
func matchEvents(refs []appraisal.Reference, pcr int, events []Event, now time.Time) (known []eat.MeasuredComponent, unknown []Event) {
	seen := map[[sha256.Size]byte]bool{}
	for _, e := range events {
		if seen[e.Digest] {
			continue
		}
		seen[e.Digest] = true
		digest := appraisal.Digest{Algorithm: cose.AlgSHA256, Value: bytes.Clone(e.Digest[:])}
		if ref, _ := appraisal.Match(refs, EventName(pcr), digest, now); ref == nil {
			unknown = append(unknown, e)
			continue
		}
		known = append(known, eat.MeasuredComponent{Name: EventName(pcr), Digest: digest})
	}
	return known, unknown
}

// explain names the first events that no reference value knows, for whoever has to find out what
// changed on the device. The event's own description is the firmware's word.
func explain(all, unknown []Event) string {
	const most = 3
	if len(all) == 0 || len(unknown) == 0 {
		return ""
	}
	var parts []string
	for i, e := range unknown {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(unknown)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%x (type %#x, %s)", e.Digest, e.Type, printable(e.Data)))
	}
	return fmt.Sprintf("%d of %d events are unknown: %s", len(unknown), len(all), strings.Join(parts, "; "))
}

// printable shows event data, which is often text in UTF-8 or UTF-16, within 40 characters.
func printable(data []byte) string {
	text := strings.ReplaceAll(string(data), "\x00", "")
	if len(text) > 40 {
		text = text[:40] + "…"
	}
	return strconv.QuoteToASCII(strings.ToValidUTF8(text, "."))
}

func (r *Reports) firmware(out *bound.Report, class appraisal.Class, version uint64, now time.Time) error {
	if r.c.TCBLevels == nil {
		return nil
	}
	levels, err := r.c.TCBLevels.TCBLevelsFor(class)
	if err != nil {
		return fmt.Errorf("tpm: look up TCB levels: %w", err)
	}
	if len(levels) > 0 {
		out.Findings = append(out.Findings, bound.HardwareFinding(appraisal.MatchTCB(levels, map[string]uint64{"firmware": version}, now)))
	}
	return nil
}
