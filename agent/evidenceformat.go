package agent

import (
	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
)

// wantedFormats is what the TAM wants Evidence to be (teep.ExtensionEvidenceFormats). Another's
// option under the same label says nothing.
func (a *Agent) wantedFormats(q *teep.QueryRequest) []string {
	formats, err := teep.EvidenceFormats(q.Extensions)
	if err != nil {
		a.log.Warn("an option that is not understood is ignored", "label", teep.ExtensionEvidenceFormats, "error", err)
		return nil
	}
	return formats
}

// chooseFormat picks the first of the wanted formats that the device can give. Where there is none,
// the TAM gets the preferred one and judges for itself: it may know more than it asked for.
func (a *Agent) chooseFormat(tam string, wanted []string) string {
	format, ok := attest.Choose(a.cfg.Attester, wanted)
	if !ok {
		a.log.Warn("the TAM wants Evidence of a kind that this device cannot give", "tam", tam, "wanted", wanted, "has", a.cfg.Attester.MediaTypes())
	}
	return format
}

// nameExtensions puts the supported extensions in, and what they tell (TEEP §4.3).
func (a *Agent) nameExtensions(r *teep.QueryResponse) error {
	r.ExtensionList = []teep.ExtensionInfo{}
	option, err := teep.EvidenceFormatsOption(a.cfg.Attester.MediaTypes())
	if err != nil || option == nil {
		return err
	}
	r.ExtensionList = append(r.ExtensionList, teep.ExtensionEvidenceFormats)
	r.Extensions = option
	return nil
}
