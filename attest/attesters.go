package attest

import (
	"context"
	"fmt"
	"mime"
	"slices"
)

// Attesters makes each kind of Evidence with the first attester that can, the preferred one first.
// It implements [Attester].
type Attesters []Attester

var _ Attester = Attesters(nil)

// MediaTypes implements [Attester]: what any of them makes, in the order of preference.
func (all Attesters) MediaTypes() []string {
	var list []string
	for _, a := range all {
		for _, m := range a.MediaTypes() {
			if !slices.Contains(list, m) {
				list = append(list, m)
			}
		}
	}
	return list
}

// Attest implements [Attester].
func (all Attesters) Attest(ctx context.Context, mediaType string, r Request) (Evidence, error) {
	for _, a := range all {
		if mediaType == "" || offers(a, mediaType) {
			return a.Attest(ctx, mediaType, r)
		}
	}
	return Evidence{}, fmt.Errorf("%w: %.100q; the device makes %q", ErrUnknownType, mediaType, all.MediaTypes())
}

func offers(a Attester, mediaType string) bool {
	return slices.ContainsFunc(a.MediaTypes(), func(m string) bool { return SameType(m, mediaType) })
}

// Choose returns the first of the wanted media types that the attester can make, as the attester
// spells it. None wanted is the attester's choice: "".
func Choose(a Attester, wanted []string) (mediaType string, ok bool) {
	if len(wanted) == 0 {
		return "", true
	}
	for _, w := range wanted {
		for _, m := range a.MediaTypes() {
			if SameType(m, w) {
				return m, true
			}
		}
	}
	return "", false
}

// SameType tells whether two media types are the same, whatever their spelling (RFC 9110 §8.3.1).
// One that cannot be parsed is only itself.
func SameType(a, b string) bool {
	if a == b {
		return true
	}
	typeA, paramsA, errA := mime.ParseMediaType(a)
	typeB, paramsB, errB := mime.ParseMediaType(b)
	return errA == nil && errB == nil && typeA == typeB && mime.FormatMediaType(typeA, paramsA) == mime.FormatMediaType(typeB, paramsB)
}
