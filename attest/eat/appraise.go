package eat

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
)

// verdict is an appraisal in the making.
type verdict struct {
	vector      appraisal.TrustVector
	reasons     []attest.Reason
	measurement []byte
	components  []attest.Component
	status      attest.Status // of vector and policy
	policies    []string
}

func (d *verdict) say(claim string, aspect appraisal.Aspect, value int8, format string, args ...any) {
	d.vector.Lower(aspect, value)
	d.reasons = append(d.reasons, attest.Reason{Claim: claim, Status: attest.StatusOf(value), Text: fmt.Sprintf(format, args...)})
}

// appraise compares authentic Evidence with what is known. Nothing here is an error but a broken
// store: what is wrong with the device is the verdict.
func (v *Verifier) appraise(c *Claims, a *Authority, now time.Time) (*verdict, error) {
	class := appraisal.Class{OEMID: c.OEMID, HWModel: c.HWModel}
	refs, err := v.c.References.ReferencesFor(class)
	if err != nil {
		return nil, fmt.Errorf("look up reference values: %w", err)
	}
	d := &verdict{vector: appraisal.TrustVector{}}
	d.say("ueid", appraisal.InstanceIdentity, appraisal.Affirmed, "device %x, vouched for by %s", c.UEID, a.Owner)
	d.class(c, refs)
	matched := d.measurements(c, refs, now)
	d.debug(c, matched)
	d.weaknesses(c, matched)
	if d.components, err = c.Components(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *verdict) class(c *Claims, refs []appraisal.Reference) {
	vendor, err := attest.FormatOEMID(c.OEMID)
	if err != nil {
		vendor = fmt.Sprintf("%x", c.OEMID) // the claim was parsed: cannot happen
	}
	if len(refs) == 0 {
		d.say("hwmodel", appraisal.Hardware, appraisal.HardwareUnrecognized,
			"no reference values for vendor %s, model %x; load those of this class", vendor, c.HWModel)
		return
	}
	d.say("hwmodel", appraisal.Hardware, appraisal.Affirmed, "vendor %s, model %x, version %s", vendor, c.HWModel, c.HWVersion.Text)
}

// measurements compares every measured component. All must be known: what is unknown is not
// outweighed by what is.
func (d *verdict) measurements(c *Claims, refs []appraisal.Reference, now time.Time) []*appraisal.Reference {
	var matched []*appraisal.Reference
	measured := 0
	for _, m := range c.Measurements {
		if m.Component == nil {
			d.say("measurements", appraisal.Executables, appraisal.ExecutablesUnrecognized,
				"an entry of Content-Format %d, which this verifier cannot compare", m.ContentFormat)
			continue
		}
		measured++
		if d.measurement == nil {
			d.measurement = m.Component.Digest.Value
		}
		ref, reason := appraisal.Match(refs, m.Component.Name, m.Component.Digest, now)
		if ref != nil {
			matched = append(matched, ref)
		}
		d.vector.Lower(appraisal.Executables, executables(reason.Status))
		d.reasons = append(d.reasons, reason)
	}
	if measured == 0 {
		d.say("measurements", appraisal.Executables, appraisal.ExecutablesRefused,
			"no measured component: there is nothing to compare with reference values")
	}
	return matched
}

func executables(s attest.Status) int8 {
	switch s {
	case attest.StatusAffirming:
		return appraisal.Affirmed
	case attest.StatusWarning:
		return appraisal.ExecutablesVulnerable
	}
	return appraisal.ExecutablesRefused
}

// debug judges the debug status. Silence is accepted unless a reference value asks for more;
// submodules speak for themselves (RFC 9711 §4.2.9).
func (d *verdict) debug(c *Claims, matched []*appraisal.Reference) {
	required := false
	for _, r := range matched {
		required = required || r.RequireDebugDisabled
	}
	d.debugOf("dbgstat", c, required, 0)
}

func (d *verdict) debugOf(claim string, c *Claims, required bool, depth int) {
	switch {
	case c.Debug == DebugEnabled:
		d.say(claim, appraisal.Configuration, appraisal.ConfigurationUnsupported, "debugging is enabled: whoever debugs can read keys and change code")
	case c.Debug != DebugNotReported:
		d.say(claim, appraisal.Configuration, appraisal.Affirmed, "debugging is %s", c.Debug)
	case required:
		d.say(claim, appraisal.Configuration, appraisal.ConfigurationUnsupported, "the debug status is not reported, and the reference value requires that it is disabled")
	case depth == 0:
		d.reasons = append(d.reasons, attest.Reason{Claim: claim, Status: attest.StatusNone, Text: "the debug status is not reported"})
	}
	for _, label := range sortedLabels(c.Submods) {
		if sub := c.Submods[label].Claims; sub != nil {
			d.debugOf("dbgstat of "+label, sub, false, depth+1)
		}
	}
}

// weaknesses judges what the TEE says that it lacks, against what the owners of the matching
// reference values accept.
func (d *verdict) weaknesses(c *Claims, matched []*appraisal.Reference) {
	for _, w := range c.Weaknesses {
		if by := acceptedBy(w, matched); by != "" {
			d.say("weaknesses", appraisal.Configuration, appraisal.Affirmed, "accepted by %s: %s", by, w)
		} else {
			d.say("weaknesses", appraisal.Configuration, appraisal.ConfigurationVulnerable, "%s", w)
		}
	}
}

func acceptedBy(weakness string, matched []*appraisal.Reference) string {
	name, _, _ := strings.Cut(weakness, ":")
	for _, r := range matched {
		for _, accepted := range r.AcceptedWeaknesses {
			if accepted == weakness || accepted == name {
				return r.Owner
			}
		}
	}
	return ""
}

// clip bounds text from the Evidence inside a reason, in bytes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
