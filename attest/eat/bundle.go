package eat

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/internal/cbor"
)

// Bundle is a Detached EAT Bundle (RFC 9711 §5): a token, and claims sets whose digests the token
// holds. Nothing in it is verified before [Bundle.Attach].
//
//	Detached-EAT-Bundle = [
//	    main-token : bstr .cbor tagged-token,
//	    detached-claims-sets : { + tstr => bstr .cbor Claims-Set }
//	]
type Bundle struct {
	// Token is the main token: a signed, tagged item.
	Token []byte
	// Detached are the encoded claims sets by label.
	Detached map[string][]byte
}

// ParseBundle decodes a bundle, tagged 602 or not. A main token in JSON is refused: the TEEP
// profile is CBOR only.
func ParseBundle(data []byte) (*Bundle, error) {
	if len(data) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: a bundle of %d bytes, at most %d are read", attest.ErrFormat, len(data), MaxTokenBytes)
	}
	if major(data) == 6 {
		var tag cbor.RawTag
		if err := cbor.Unmarshal(data, &tag); err != nil {
			return nil, malformed("bundle", err)
		}
		if tag.Number != tagBundle {
			return nil, malformed("bundle", fmt.Errorf("tag %d, not %d", tag.Number, tagBundle))
		}
		data = tag.Content
	}
	parts, err := parseArray(data, 2, 2)
	if err != nil {
		return nil, malformed("bundle", err)
	}
	if major(parts[0]) == 3 {
		return nil, malformed("bundle", errors.New("the main token is JSON; the TEEP profile is CBOR only"))
	}
	b := &Bundle{Detached: map[string][]byte{}}
	if b.Token, err = parseBytes(parts[0], 2, MaxTokenBytes); err != nil {
		return nil, malformed("bundle main token", err)
	}
	if major(b.Token) != 6 {
		return nil, malformed("bundle main token", errors.New("it is not tagged"))
	}
	var sets map[string]cbor.RawMessage
	if err := unmarshal(parts[1], 5, "a map", &sets); err != nil {
		return nil, malformed("detached claims sets", err)
	}
	if len(sets) == 0 || len(sets) > MaxSubmods {
		return nil, malformed("detached claims sets", fmt.Errorf("%d sets, 1 to %d are allowed", len(sets), MaxSubmods))
	}
	for label, raw := range sets {
		if b.Detached[label], err = parseBytes(raw, 1, MaxTokenBytes); err != nil {
			return nil, malformed(fmt.Sprintf("detached claims set %.64q", label), err)
		}
	}
	return b, nil
}

// Encode writes the bundle with its tag.
func (b *Bundle) Encode() ([]byte, error) {
	data, err := cbor.Marshal(cbor.Tag{Number: tagBundle, Content: []any{b.Token, b.Detached}})
	if err != nil {
		return nil, fmt.Errorf("eat: encode bundle: %w", err)
	}
	return data, nil
}

// Attach puts the detached claims sets into the claims of the main token, whose signature the
// caller has checked. Each set must have the digest that the token holds under its label, at
// whatever depth; one that the token knows nothing of is unauthenticated and refused. A digest
// whose claims are not in the bundle stays a digest.
func (b *Bundle) Attach(c *Claims) error {
	attached := map[string]bool{}
	if err := b.attach(c, 0, attached); err != nil {
		return err
	}
	for label := range b.Detached {
		if !attached[label] {
			return malformed("bundle", fmt.Errorf("the token holds no digest for the detached claims set %.64q", label))
		}
	}
	return nil
}

func (b *Bundle) attach(c *Claims, depth int, attached map[string]bool) error {
	for label, s := range c.Submods {
		if s.Claims != nil {
			if err := b.attach(s.Claims, depth+1, attached); err != nil {
				return err
			}
			continue
		}
		set, ok := b.Detached[label]
		if s.Detached == nil || !ok {
			continue
		}
		if attached[label] {
			return malformed("bundle", fmt.Errorf("two submodules are called %.64q", label))
		}
		h, ok := s.Detached.Algorithm.Hash()
		if !ok {
			return malformed("bundle", fmt.Errorf("the digest of %.64q has an unknown algorithm", label))
		}
		w := h.New()
		w.Write(set)
		if string(w.Sum(nil)) != string(s.Detached.Value) {
			return fmt.Errorf("%w: the detached claims set %.64q does not have the digest that the token holds", attest.ErrSignature, label)
		}
		claims, err := parseClaims(set, depth+1)
		if err != nil {
			return err
		}
		c.Submods[label] = Submodule{Claims: claims}
		attached[label] = true
	}
	return nil
}
