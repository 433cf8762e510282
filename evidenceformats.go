package teep

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/internal/cbor"
)

// ExtensionEvidenceFormats is this project's extension by which TAM and agent agree on the format of
// Evidence: its number in ext-list, and the label of its option. The text has both sides configured
// beforehand (TEEP §5); who does not know the option ignores it (§11).
//
//	$$query-request-extensions //= ( ? 70101 => [ + media-type: text ] )  ; what the TAM wants, preferred first
//	$$query-response-extensions //= ( ? 70101 => [ + media-type: text ] ) ; what the agent can give
const ExtensionEvidenceFormats = 70101

// maxEvidenceFormats bounds the list, and maxFormatBytes each media type.
const (
	maxEvidenceFormats = 32
	maxFormatBytes     = 255
)

// EvidenceFormats reads the option of [ExtensionEvidenceFormats]; nil where there is none.
func EvidenceFormats(extensions map[uint64]RawMessage) ([]string, error) {
	raw, ok := extensions[ExtensionEvidenceFormats]
	if !ok {
		return nil, nil
	}
	var list []string
	if err := cbor.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("teep: evidence formats: %w", err)
	}
	if len(list) == 0 || len(list) > maxEvidenceFormats || slices.ContainsFunc(list, badFormat) {
		return nil, fmt.Errorf("teep: evidence formats: 1 to %d media types of 1 to %d bytes are possible", maxEvidenceFormats, maxFormatBytes)
	}
	return list, nil
}

func badFormat(f string) bool { return f == "" || len(f) > maxFormatBytes }

// EvidenceFormatsOption is the option as a message's Extensions take it; nil for no formats.
func EvidenceFormatsOption(formats []string) (map[uint64]RawMessage, error) {
	if len(formats) == 0 {
		return nil, nil
	}
	if len(formats) > maxEvidenceFormats || slices.ContainsFunc(formats, badFormat) {
		return nil, errors.New("teep: evidence formats: too many, or one that is empty or too long")
	}
	raw, err := cbor.Marshal(formats)
	return map[uint64]RawMessage{ExtensionEvidenceFormats: raw}, err
}
