package eat

import (
	"errors"
	"fmt"
	"math"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// formatted decodes the entries of manifests and measurements, which are shaped alike.
//
//	manifest-format = [ content-type: uint .le 65535, content-format: $manifest-body-cbor ]
func formatted(raw []byte, limit int, each func(format uint64, body []byte) error) error {
	items, err := parseArray(raw, 1, limit)
	if err != nil {
		return err
	}
	for i, item := range items {
		parts, err := parseArray(item, 2, 2)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		format, err := parseInt(parts[0], 0, math.MaxUint16)
		if err != nil {
			return fmt.Errorf("entry %d: content format: %w", i, err)
		}
		if err := each(uint64(format), parts[1]); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// unwrapped returns the content of a byte string, or the item itself: the TEEP examples put
// SUIT_Reference into the claim directly, RFC 9711 wraps CBOR manifests.
func unwrapped(body []byte) []byte {
	n, content, err := scalar(body, 2, "a byte string")
	if err == nil && n == uint64(len(content)) {
		return content
	}
	return body
}

func parseManifests(raw []byte) ([]Manifest, error) {
	var list []Manifest
	err := formatted(raw, MaxManifests, func(format uint64, body []byte) error {
		m := Manifest{ContentFormat: format, Body: body}
		if format == ContentFormatCBOR {
			r, err := parseReference(unwrapped(body))
			if err != nil {
				return fmt.Errorf("SUIT_Reference: %w", err)
			}
			m.Reference = r
		}
		list = append(list, m)
		return nil
	})
	return list, err
}

// parseReference reads the array of the SUIT Report text. The TEEP example still has the map of an
// earlier draft, which is refused with a word that says so.
func parseReference(raw []byte) (*ManifestReference, error) {
	if major(raw) == 5 {
		return nil, errors.New("a map, as older drafts had it; SUIT Report §4 says an array of URI and digest")
	}
	items, err := parseArray(raw, 2, 2)
	if err != nil {
		return nil, err
	}
	r := &ManifestReference{}
	if err := unmarshal(items[0], 3, "a text string", &r.URI); err != nil || len(r.URI) > MaxTextBytes {
		return nil, fmt.Errorf("the URI is not a text of at most %d bytes", MaxTextBytes)
	}
	r.Digest, err = parseDigest(unwrapped(items[1]))
	return r, err
}

func parseMeasurements(raw []byte) ([]Measurement, error) {
	var list []Measurement
	err := formatted(raw, MaxMeasurements, func(format uint64, body []byte) error {
		m := Measurement{ContentFormat: format, Body: body}
		if format == ContentFormatCBOR {
			mc, err := parseMeasured(unwrapped(body))
			if err != nil {
				return fmt.Errorf("measured component: %w", err)
			}
			m.Component = mc
		}
		list = append(list, m)
		return nil
	})
	return list, err
}

func parseMeasured(raw []byte) (*MeasuredComponent, error) {
	if err := cbor.Wellformed(raw); err != nil { // it may come out of a byte string
		return nil, err
	}
	members, err := scanClaims(raw, maxClaims)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		switch label := m.label; label {
		case 1, 2:
		case 3, 4:
			return nil, errors.New("the TEEP profile gives authorities and flags no meaning")
		default:
			return nil, fmt.Errorf("member %d is not supported: the profile takes digested measurements only", label)
		}
	}
	id, err := parseArray(valueOf(members, 1), 1, 2)
	if err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	mc := &MeasuredComponent{}
	if mc.Name, err = parseText(id[0]); err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	if len(id) == 2 {
		if mc.Version, err = parseVersion(id[1]); err != nil {
			return nil, fmt.Errorf("version: %w", err)
		}
	}
	mc.Digest, err = parseNamedDigest(valueOf(members, 2))
	return mc, err
}

// parseNamedDigest decodes [algorithm, bytes] with an identifier of the named-information
// registry, by number or by name.
func parseNamedDigest(raw []byte) (appraisal.Digest, error) {
	items, err := parseArray(raw, 2, 2)
	if err != nil {
		return appraisal.Digest{}, fmt.Errorf("measurement: %w", err)
	}
	names := map[string]cose.Algorithm{"sha-256": cose.AlgSHA256, "sha-384": cose.AlgSHA384, "sha-512": cose.AlgSHA512}
	var alg cose.Algorithm
	if major(items[0]) == 3 {
		name, err := parseText(items[0])
		if err != nil {
			return appraisal.Digest{}, err
		}
		alg = names[name]
	} else {
		n, err := parseInt(items[0], 0, math.MaxInt32)
		if err != nil {
			return appraisal.Digest{}, fmt.Errorf("measurement algorithm: %w", err)
		}
		for a, id := range namedInformation {
			if id == n {
				alg = a
			}
		}
	}
	if alg == 0 {
		return appraisal.Digest{}, errors.New("measurement algorithm is none of sha-256, sha-384, sha-512")
	}
	value, err := parseBytes(items[1], 1, 64)
	if err != nil {
		return appraisal.Digest{}, fmt.Errorf("measurement: %w", err)
	}
	return appraisal.NewDigest(alg, value)
}

func (c *Claims) parseSubmods(raw []byte, depth int) error {
	if depth >= MaxSubmodDepth {
		return malformed("submods", fmt.Errorf("nested deeper than %d", MaxSubmodDepth))
	}
	_, n, size, err := head(raw)
	switch {
	case err != nil:
		return malformed("submods", err)
	case major(raw) != 5:
		return malformed("submods", errors.New("not a map"))
	case n == 0 || n > MaxSubmods:
		return malformed("submods", fmt.Errorf("%d submodules, 1 to %d are allowed", n, MaxSubmods))
	}
	c.Submods = make(map[string]Submodule, n)
	rest := raw[size:]
	for range n {
		var label string
		var item []byte
		if label, item, rest, err = scanText(rest); err != nil {
			return malformed("submods", err)
		}
		if _, twice := c.Submods[label]; twice {
			return malformed("submods", fmt.Errorf("submodule %.64q is there twice", label))
		}
		s, err := parseSubmodule(item, depth)
		if err != nil {
			return malformed(fmt.Sprintf("submodule %.64q", label), err)
		}
		c.Submods[label] = s
	}
	if len(rest) != 0 {
		return malformed("submods", cbor.ErrTrailing)
	}
	return nil
}

// parseSubmodule tells the four kinds apart by their type (RFC 9711 §4.2.18).
func parseSubmodule(raw []byte, depth int) (s Submodule, err error) {
	switch major(raw) {
	case 5:
		s.Claims, err = parseClaims(raw, depth+1)
	case 4:
		var d appraisal.Digest
		d, err = parseDigest(raw)
		s.Detached = &d
	case 2:
		s.Token, err = parseBytes(raw, 2, MaxTokenBytes)
		if err == nil && major(s.Token) != 6 {
			err = errors.New("a nested token is not tagged")
		}
	case 3:
		if err = unmarshal(raw, 3, "a text string", &s.JSON); err == nil && s.JSON == "" {
			err = errors.New("an empty JSON token")
		}
	default:
		err = fmt.Errorf("%w: neither claims, token nor digest", attest.ErrFormat)
	}
	return s, err
}
