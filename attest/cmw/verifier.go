package cmw

import (
	"context"
	"fmt"
	"mime"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
)

// MediaType is what wrappers in CBOR go under.
const MediaType = "application/cmw+cbor"

// CollectionMediaType is the media type of collections of one type.
func CollectionMediaType(collectionType string) string {
	return mime.FormatMediaType(MediaType, map[string]string{"cmwc_t": collectionType})
}

// Wrap puts Evidence into a record. Collections stay what they are.
func Wrap(e attest.Evidence) (attest.Evidence, error) {
	if isWrapper(e.MediaType) {
		return e, nil
	}
	data, err := Record{MediaType: e.MediaType, Value: e.Payload, Indicator: Evidence}.Encode()
	return attest.Evidence{MediaType: MediaType, Payload: data}, err
}

// Unwrap opens one wrapper and returns what is inside under its own media type. A collection is
// returned whole under the media type of its type: only who knows the type knows how its members
// belong together.
func Unwrap(data []byte) (attest.Evidence, error) {
	m, err := Parse(data)
	if err != nil {
		return attest.Evidence{}, err
	}
	if c := m.Collection; c != nil {
		if c.Type == "" {
			return attest.Evidence{}, malformed(fmt.Errorf("the collection has no %s, which says how its members belong together", collectionType))
		}
		return attest.Evidence{MediaType: CollectionMediaType(c.Type), Payload: data}, nil
	}
	r := m.Record
	if r.Indicator != 0 && r.Indicator&Evidence == 0 {
		return attest.Evidence{}, malformed(fmt.Errorf("the indicator %#b does not include Evidence (%#b)", r.Indicator, Evidence))
	}
	typ := r.Type()
	if typ == "" {
		return attest.Evidence{}, fmt.Errorf("%w: CMW with Content-Format %d; send the media type instead", attest.ErrUnknownType, r.ContentFormat)
	}
	return attest.Evidence{MediaType: typ, Payload: r.Value}, nil
}

func isWrapper(mediaType string) bool {
	typ, _, err := mime.ParseMediaType(mediaType)
	return err == nil && typ == MediaType
}

// Verifier opens wrappers and has what is inside appraised. It is safe for concurrent use if the
// verifiers are.
type Verifier struct {
	inner attest.Verifiers
}

var (
	_ attest.Verifier = (*Verifier)(nil)
	_ attest.Peeker   = (*Verifier)(nil)
)

// NewVerifier makes a Verifier that hands what it opens to the first of inner that accepts it.
func NewVerifier(inner ...attest.Verifier) *Verifier { return &Verifier{inner: inner} }

// Accepts implements [attest.Verifier]: wrappers of no stated type, and whatever is accepted inside.
func (v *Verifier) Accepts(mediaType string) bool {
	return bare(mediaType) || v.inner.Accepts(mediaType)
}

// bare tells a wrapper whose content is known by opening it alone.
func bare(mediaType string) bool {
	typ, params, err := mime.ParseMediaType(mediaType)
	return err == nil && typ == MediaType && len(params) == 0
}

// Appraise implements [attest.Verifier].
func (v *Verifier) Appraise(ctx context.Context, e attest.Evidence, x attest.Expectation) (*attest.Result, error) {
	e, err := v.open(e)
	if err != nil {
		return nil, err
	}
	return v.inner.Appraise(ctx, e, x)
}

// Peek implements [attest.Peeker].
func (v *Verifier) Peek(e attest.Evidence) (nonce []byte, agentKey *cose.Key, err error) {
	if e, err = v.open(e); err != nil {
		return nil, nil, err
	}
	return v.inner.Peek(e)
}

// open removes one wrapper: a wrapper in a wrapper says nothing that one does not.
func (v *Verifier) open(e attest.Evidence) (attest.Evidence, error) {
	if !bare(e.MediaType) {
		return e, nil
	}
	inner, err := Unwrap(e.Payload)
	if err == nil && bare(inner.MediaType) {
		err = malformed(fmt.Errorf("a record in a record"))
	}
	return inner, err
}
