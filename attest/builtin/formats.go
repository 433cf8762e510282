package builtin

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/cmw"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/psa"
)

// EATType is the media type of tokens in the TEEP profile.
const EATType = eat.MediaType

// formats are the kinds of Evidence by the names that configurations use.
var formats = map[string]string{
	"eat": EATType, "tpm": bound.TPMQuote, "sev-snp": bound.SEVSNPReport, "tdx": bound.TDXQuote,
	"psa": psa.MediaType, "cca": psa.CCAMediaType,
}

// EvidenceTypes are the media types that Evidence comes under: tokens, tokens bound to a report of
// hardware, and conceptual message wrappers of either.
func EvidenceTypes() []string { return []string{EATType, bound.MediaType, cmw.MediaType} }

// FormatNames lists the kinds of Evidence that can be appraised.
func FormatNames() []string { return slices.Sorted(maps.Keys(formats)) }

// ParseFormats turns names into media types, in their order.
func ParseFormats(names []string) ([]string, error) {
	var types []string
	for i, name := range names {
		t, ok := formats[name]
		if !ok {
			return nil, fmt.Errorf("%q is no kind of Evidence: write any of %s", name, strings.Join(FormatNames(), ", "))
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("%q is named twice", name)
		}
		types = append(types, t)
	}
	return types, nil
}
