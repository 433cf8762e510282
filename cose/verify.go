package cose

import (
	"fmt"
	"slices"
)

// VerifyOptions are what a caller accepts. The zero value accepts the secure default algorithms and
// any content type, with the payload embedded in the message.
type VerifyOptions struct {
	// ExternalAAD must be what the signer used.
	ExternalAAD []byte
	// DetachedPayload is the payload of a message that does not carry one; nil when it must.
	// An empty detached payload is a slice of length zero that is not nil.
	DetachedPayload []byte
	// Algorithms are the accepted algorithms as they stand in messages. Empty means
	// [DefaultSignatureAlgorithms], or HMAC 256/256 in VerifyMac0. ES256, ES384 and EdDSA of older
	// peers are accepted only when listed.
	Algorithms []Algorithm
	// ContentTypes are the accepted content types: strings, uint64, int or nil for a message
	// without one. Empty means any. Only a protected content type counts.
	ContentTypes []any
	// Understood are labels (int, int64 or string) that the caller processes and that may
	// therefore be critical.
	Understood []any
}

// DefaultSignatureAlgorithms are the algorithms that Verify accepts unless told otherwise.
func DefaultSignatureAlgorithms() []Algorithm {
	return []Algorithm{AlgESP256, AlgEd25519, AlgESP384}
}

// Verified is a message whose authentication holds.
type Verified struct {
	// Payload shares memory with the message or with VerifyOptions.DetachedPayload.
	Payload []byte
	// Algorithm, as it stands in the message, and Key are those of the first signature that holds.
	Algorithm Algorithm
	Key       *Key
	// Headers are those of the message. The unprotected ones are not authenticated.
	Headers Headers
	// Signers are all signatures that hold, in the order of the message.
	Signers []VerifiedSigner
	// Detached tells that the payload was not in the message.
	Detached bool
}

// VerifiedSigner is one signature that holds.
type VerifiedSigner struct {
	Algorithm Algorithm
	Key       *Key
	// Headers are those of the signature; for COSE_Sign1 they are those of the message.
	Headers Headers
}

// signedMessage is a parsed COSE_Sign1, COSE_Sign or COSE_Mac0. Everything shares memory with the
// message.
type signedMessage struct {
	multi      bool
	headers    Headers
	protected  []byte
	payload    []byte
	detached   bool
	signatures []signature
}

type signature struct {
	headers   Headers
	protected []byte
	value     []byte
}

// parseSigned reads a message of four elements. tags are the tags that it may carry; an untagged
// message is a COSE_Sign when its last element is an array.
func parseSigned(msg []byte, single, multi uint64, what string) (*signedMessage, error) {
	c, err := newCursor(msg, MaxMessageBytes)
	if err != nil {
		return nil, err
	}
	tag, tagged, err := c.tag()
	if err != nil {
		return nil, err
	}
	if tagged && tag != single && (tag != multi || multi == 0) {
		return nil, fmt.Errorf("%w: CBOR tag %d is not that of a %s", ErrMalformed, tag, what)
	}
	if err := c.frame(4, what); err != nil {
		return nil, err
	}
	m := &signedMessage{}
	if m.headers, m.protected, err = c.readHeaders(what); err != nil {
		return nil, err
	}
	if m.payload, m.detached, err = c.optionalBytes("payload"); err != nil {
		return nil, err
	}
	m.multi = multi != 0 && (tagged && tag == multi || !tagged && len(c.rest) > 0 && c.rest[0]>>5 == majorArray)
	if m.multi {
		err = m.readSignatures(c)
	} else {
		s := signature{headers: m.headers, protected: m.protected}
		s.value, err = c.bytes("signature or tag")
		m.signatures = []signature{s}
	}
	if err != nil {
		return nil, err
	}
	return m, c.end()
}

func (m *signedMessage) readSignatures(c *cursor) error {
	n, err := c.expect(majorArray, "COSE_Sign signatures")
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: COSE_Sign without signatures", ErrMalformed)
	}
	if n > MaxSigners {
		return fmt.Errorf("%w: %w: %d signatures, at most %d are read", ErrMalformed, ErrTooLarge, n, MaxSigners)
	}
	m.signatures = make([]signature, n)
	for i := range m.signatures {
		s := &m.signatures[i]
		if err := c.frame(3, "COSE_Signature"); err != nil {
			return err
		}
		if s.headers, s.protected, err = c.readHeaders("COSE_Signature"); err != nil {
			return err
		}
		if s.value, err = c.bytes("COSE_Signature signature"); err != nil {
			return err
		}
	}
	return nil
}

// Verify checks a COSE_Sign1 or COSE_Sign, tagged or untagged, against the keys that the caller
// trusts. Of a COSE_Sign at least one signature must hold; signatures by unknown keys do not
// matter. A message that does not verify yields an error that wraps ErrMalformed, ErrHeader,
// ErrPayload, ErrAlgorithm, ErrUnknownSigner or ErrSignature, and nothing else.
func Verify(msg []byte, keys KeySource, o VerifyOptions) (*Verified, error) {
	m, err := parseSigned(msg, TagSign1, TagSign, "COSE_Sign1 or COSE_Sign")
	if err != nil {
		return nil, err
	}
	allowed := o.Algorithms
	if len(allowed) == 0 {
		allowed = DefaultSignatureAlgorithms()
	}
	context := "Signature1"
	if m.multi {
		context = "Signature"
	}
	return m.verify(context, Algorithm.IsSignature, allowed, keys, o)
}

func (m *signedMessage) verify(context string, class func(Algorithm) bool, allowed []Algorithm, keys KeySource, o VerifyOptions) (*Verified, error) {
	if err := m.checkBody(o); err != nil {
		return nil, err
	}
	payload, err := choosePayload(m.payload, m.detached, o.DetachedPayload)
	if err != nil {
		return nil, err
	}
	out := &Verified{Payload: payload, Headers: m.headers, Detached: m.detached}
	t := trial{class: class, allowed: allowed, keys: keys, understood: o.Understood, left: MaxTrials}
	var worst error
	for _, s := range m.signatures {
		tbs := func() []byte {
			var signProtected []byte
			if m.multi {
				signProtected = s.protected
			}
			return sigStructure(context, m.protected, signProtected, o.ExternalAAD, payload)
		}
		key, err := t.check(s, tbs)
		if err != nil {
			worst = moreTelling(worst, err)
			continue
		}
		out.Signers = append(out.Signers, VerifiedSigner{Algorithm: s.headers.Protected.Algorithm(), Key: key, Headers: s.headers})
	}
	if len(out.Signers) == 0 {
		return nil, worst
	}
	out.Algorithm, out.Key = out.Signers[0].Algorithm, out.Signers[0].Key
	return out, nil
}

// checkBody enforces what holds for the message whoever signed it.
func (m *signedMessage) checkBody(o VerifyOptions) error {
	if err := m.headers.checkCritical(o.Understood); err != nil {
		return err
	}
	if len(o.ContentTypes) == 0 {
		return nil
	}
	if _, unprotected := m.headers.Unprotected.Get(LabelContentType); unprotected {
		return fmt.Errorf("%w: %w: it is not protected", ErrHeader, ErrContentType)
	}
	got := m.headers.Protected.ContentType()
	for _, want := range o.ContentTypes {
		if n, ok := want.(int); ok && n >= 0 {
			want = uint64(n)
		}
		if want == got {
			return nil
		}
	}
	if got == nil {
		return fmt.Errorf("%w: %w: the message has none; expected one of %v", ErrHeader, ErrContentType, o.ContentTypes)
	}
	return fmt.Errorf("%w: %w: %q is not one of %v", ErrHeader, ErrContentType, fmt.Sprint(got), o.ContentTypes)
}

func choosePayload(embedded []byte, isDetached bool, detached []byte) ([]byte, error) {
	switch {
	case isDetached && detached == nil:
		return nil, fmt.Errorf("%w: the message carries none and none was given", ErrPayload)
	case isDetached:
		return detached, nil
	case detached != nil:
		return nil, fmt.Errorf("%w: the message carries its own, but one was given too", ErrPayload)
	}
	return embedded, nil
}

// trial checks signatures against keys and counts what that costs.
type trial struct {
	class      func(Algorithm) bool
	allowed    []Algorithm
	keys       KeySource
	understood []any
	left       int
}

// check returns the key under which a signature holds. toBeSigned is called at most once, and only
// when there is a key to try.
func (t *trial) check(s signature, toBeSigned func() []byte) (*Key, error) {
	if err := s.headers.checkCritical(t.understood); err != nil {
		return nil, err
	}
	alg := s.headers.Protected.Algorithm()
	if alg == 0 {
		// RFC 9052 §3.1 wants alg authenticated where it can be.
		return nil, fmt.Errorf("%w: the protected bucket has no integer alg", ErrAlgorithm)
	}
	if !t.class(alg) {
		return nil, fmt.Errorf("%w %v is not supported in this type of message", ErrAlgorithm, alg)
	}
	if !slices.Contains(t.allowed, alg) {
		return nil, fmt.Errorf("%w %v is not accepted here; accepted are %v", ErrAlgorithm, alg, t.allowed)
	}
	candidates, reason := verifiersFrom(t.keys, alg, s.headers)
	var tbs []byte
	tried := false
	for _, v := range candidates {
		if v.Algorithm().specific() != alg.specific() {
			continue // a source that offers other algorithms than it was asked for
		}
		if t.left == 0 {
			return nil, fmt.Errorf("%w: %w: more than %d keys would have to be tried; the message should name its kid", ErrMalformed, ErrTooLarge, MaxTrials)
		}
		t.left--
		if tbs == nil {
			tbs = toBeSigned()
		}
		tried = true
		if v.Verify(tbs, s.value) == nil {
			return v.Key(), nil
		}
	}
	if tried {
		return nil, fmt.Errorf("%w (%v)", ErrSignature, alg)
	}
	return nil, unknownSigner(alg, s.headers.KeyID(), reason)
}

func unknownSigner(alg Algorithm, kid []byte, reason error) error {
	who := "no kid"
	if kid != nil {
		who = fmt.Sprintf("kid %.64x", kid)
	}
	if reason != nil {
		return fmt.Errorf("%w (%v, %s): %w", ErrUnknownSigner, alg, who, reason)
	}
	return fmt.Errorf("%w: no trusted key fits %v, %s", ErrUnknownSigner, alg, who)
}

// UnverifiedPayload returns the payload of a COSE_Sign1, COSE_Sign or COSE_Mac0 WITHOUT checking
// anything about its origin. It is for tools that show messages, and for finding out whom to ask
// for a key. The payload shares memory with msg; a detached one is ErrPayload.
func UnverifiedPayload(msg []byte) ([]byte, error) {
	m, err := parseAnySigned(msg)
	if err != nil {
		return nil, err
	}
	if m.detached {
		return nil, fmt.Errorf("%w: the message carries none", ErrPayload)
	}
	return m.payload, nil
}

// UnverifiedHeaders returns the headers of a COSE_Sign1, COSE_Sign or COSE_Mac0, and those of each
// signature of a COSE_Sign, WITHOUT checking anything about their origin.
func UnverifiedHeaders(msg []byte) (body Headers, signatures []Headers, err error) {
	m, err := parseAnySigned(msg)
	if err != nil {
		return Headers{}, nil, err
	}
	if m.multi {
		for _, s := range m.signatures {
			signatures = append(signatures, s.headers)
		}
	}
	return m.headers, signatures, nil
}

func parseAnySigned(msg []byte) (*signedMessage, error) {
	if len(msg) > 0 && msg[0] == majorTag<<5|TagMac0 {
		return parseSigned(msg, TagMac0, 0, "COSE_Mac0")
	}
	return parseSigned(msg, TagSign1, TagSign, "COSE_Sign1 or COSE_Sign")
}
