package cose

import (
	"bytes"
	"fmt"
	"slices"
)

// DecryptOptions are what a caller accepts.
type DecryptOptions struct {
	// ExternalAAD must be what the sender used.
	ExternalAAD []byte
	// Algorithms are the accepted content encryption algorithms. Empty means the authenticated
	// ones. A128CTR and A256CTR must be listed: whoever lists them checks the plaintext otherwise.
	Algorithms []Algorithm
	// KDFOther is SuppPubInfo.other of ECDH-ES recipients; see [ECDHESRecipient].
	KDFOther string
	// IV is the IV of a message that does not carry one; nil when it must.
	IV []byte
	// Understood are labels that the caller processes and that may therefore be critical.
	Understood []any
}

// DecryptKeys are the private and symmetric keys of a receiver. A key is used when its kid or
// thumbprint is that of a recipient; keys without kid are tried besides.
type DecryptKeys []*Key

// EncryptMessage is a parsed COSE_Encrypt or COSE_Encrypt0. It shares memory with the message.
type EncryptMessage struct {
	// Headers are those of the message.
	Headers Headers
	// Ciphertext is the embedded ciphertext; nil when Detached.
	Ciphertext []byte
	// Detached tells that the message does not carry its ciphertext.
	Detached bool

	context    string
	protected  []byte
	recipients []recipient // none in a COSE_Encrypt0
}

// ParseEncrypt reads a COSE_Encrypt, tagged or untagged, without decrypting anything.
func ParseEncrypt(msg []byte) (*EncryptMessage, error) {
	return parseEncrypted(msg, TagEncrypt, 4, "COSE_Encrypt", "Encrypt")
}

// MarshalCBOR encodes the message, tagged. Protected headers are those that were received, byte for byte.
func (m *EncryptMessage) MarshalCBOR() ([]byte, error) {
	tag, elements := uint64(TagEncrypt), uint64(4)
	if m.context == "Encrypt0" {
		tag, elements = TagEncrypt0, 3
	}
	b := appendHead(appendHead(nil, majorTag, tag), majorArray, elements)
	b = m.Headers.Unprotected.appendMap(appendBytes(b, m.protected))
	b = appendOptional(b, m.Ciphertext, m.Detached)
	if elements == 3 {
		return b, nil
	}
	b = appendHead(b, majorArray, uint64(len(m.recipients)))
	for _, r := range m.recipients {
		b = appendHead(b, majorArray, 3)
		b = r.headers.Unprotected.appendMap(appendBytes(b, r.protected))
		b = appendOptional(b, r.wrapped, r.wrapped == nil)
	}
	return b, nil
}

func parseEncrypted(msg []byte, want, elements uint64, what, context string) (*EncryptMessage, error) {
	c, err := newCursor(msg, MaxMessageBytes)
	if err != nil {
		return nil, err
	}
	tag, tagged, err := c.tag()
	if err != nil {
		return nil, err
	}
	if tagged && tag != want {
		return nil, fmt.Errorf("%w: CBOR tag %d is not that of a %s (%d)", ErrMalformed, tag, what, want)
	}
	if err := c.frame(elements, what); err != nil {
		return nil, err
	}
	m := &EncryptMessage{context: context}
	if m.Headers, m.protected, err = c.readHeaders(what); err != nil {
		return nil, err
	}
	if m.Ciphertext, m.Detached, err = c.optionalBytes("ciphertext"); err != nil {
		return nil, err
	}
	if elements == 4 {
		if err := m.readRecipients(c); err != nil {
			return nil, err
		}
	}
	return m, c.end()
}

func (m *EncryptMessage) readRecipients(c *cursor) error {
	n, err := c.expect(majorArray, "COSE_Encrypt recipients")
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: COSE_Encrypt without recipients", ErrMalformed)
	}
	if n > MaxRecipients {
		return fmt.Errorf("%w: %w: %d recipients, at most %d are read", ErrMalformed, ErrTooLarge, n, MaxRecipients)
	}
	m.recipients = make([]recipient, n)
	for i := range m.recipients {
		if m.recipients[i], err = c.readRecipient(); err != nil {
			return err
		}
		if m.recipients[i].alg == AlgDirect && n > 1 {
			return fmt.Errorf("%w: a direct recipient is not the only one (RFC 9052 §8.5.1)", ErrMalformed)
		}
	}
	return nil
}

// Algorithm is the content encryption algorithm, or zero. For an AEAD it stands in the protected
// bucket, for a cipher without authentication in the unprotected one.
func (m *EncryptMessage) Algorithm() Algorithm {
	if alg := m.Headers.Protected.Algorithm(); alg != 0 {
		return alg
	}
	return m.Headers.Unprotected.Algorithm()
}

// IV is the IV that the message carries, or nil.
func (m *EncryptMessage) IV() []byte { return m.Headers.IV() }

// AAD is the Enc_structure, the additional data of an AEAD (RFC 9052 §5.3).
func (m *EncryptMessage) AAD(externalAAD []byte) []byte {
	return encStructure(m.context, m.protected, externalAAD)
}

// Recipients is the number of recipients.
func (m *EncryptMessage) Recipients() int { return len(m.recipients) }

// RecipientKeyIDs lists the kid of each recipient, nil for one that names none.
func (m *EncryptMessage) RecipientKeyIDs() [][]byte {
	ids := make([][]byte, len(m.recipients))
	for i, r := range m.recipients {
		ids[i] = r.headers.KeyID()
	}
	return ids
}

// check enforces the rules that hold before any key is used.
func (m *EncryptMessage) check(o DecryptOptions) error {
	if err := m.Headers.checkCritical(o.Understood); err != nil {
		return err
	}
	alg := m.Algorithm()
	c, err := alg.content()
	if err != nil {
		return err
	}
	switch {
	case len(o.Algorithms) > 0 && !slices.Contains(o.Algorithms, alg):
		return fmt.Errorf("%w %v is not accepted here; accepted are %v", ErrAlgorithm, alg, o.Algorithms)
	case len(o.Algorithms) == 0 && !c.aead:
		return fmt.Errorf("%w %v authenticates nothing; list it in DecryptOptions.Algorithms where the plaintext is checked by a digest", ErrAlgorithm, alg)
	case c.aead && m.Headers.Protected.Algorithm() == 0:
		return fmt.Errorf("%w: alg %v is not protected (RFC 9052 §3.1)", ErrHeader, alg)
	case !c.aead && (len(withoutEmptyMap(m.protected)) > 0 || len(o.ExternalAAD) > 0):
		return fmt.Errorf("%w: %v authenticates nothing, but there are protected parameters or external AAD (RFC 9459)", ErrHeader, alg)
	}
	if _, partial := m.Headers.Get(LabelPartialIV); partial {
		return fmt.Errorf("%w Partial IV is not supported", ErrHeader)
	}
	return nil
}

// chooseIV takes the IV from the message, or else from the options.
func (m *EncryptMessage) chooseIV(o DecryptOptions) ([]byte, error) {
	iv := m.IV()
	switch {
	case iv != nil && o.IV != nil && !bytes.Equal(iv, o.IV):
		return nil, fmt.Errorf("%w: the IV of the message is not the one that was given", ErrHeader)
	case iv != nil:
		return iv, nil
	case o.IV != nil:
		return o.IV, nil
	}
	return nil, fmt.Errorf("%w IV is missing and none was given", ErrHeader)
}

// ContentKey unwraps the content key of a COSE_Encrypt. It checks the algorithms, critical headers
// and key sizes, and of course nothing about the content. It is for callers that decrypt in a
// stream; all others use Decrypt.
func (m *EncryptMessage) ContentKey(keys DecryptKeys, o DecryptOptions) ([]byte, error) {
	if err := m.check(o); err != nil {
		return nil, err
	}
	t := unwrapTrial{size: m.Algorithm().KeySize(), o: o, left: MaxTrials}
	// Recipients that name one of the keys come first: with a thousand recipients, trying is dear.
	for _, named := range []bool{true, false} {
		for i := range m.recipients {
			for _, k := range keys {
				if k == nil || m.recipients[i].names(k) != named {
					continue
				}
				if contentKey := t.try(&m.recipients[i], k, named); contentKey != nil {
					return contentKey, nil
				}
			}
		}
	}
	if t.worst == nil {
		return nil, fmt.Errorf("%w: %d recipients, %d keys", ErrNoKey, len(m.recipients), len(keys))
	}
	return nil, t.worst
}

// names tells whether the recipient names the key by kid or thumbprint.
func (r *recipient) names(k *Key) bool {
	kid := r.headers.KeyID()
	return kid != nil && (k.kid != nil && bytes.Equal(kid, k.kid) || isThumbprint(kid, k))
}

// may tells whether a key that is not named may belong to the recipient after all: one of the two
// sides does not say.
func (r *recipient) may(k *Key) bool { return r.headers.KeyID() == nil || k.kid == nil }

type unwrapTrial struct {
	size  int
	o     DecryptOptions
	left  int
	worst error
}

func (t *unwrapTrial) try(r *recipient, k *Key, named bool) []byte {
	if !named && !r.may(k) {
		return nil
	}
	if err := r.check(t.o); err != nil {
		t.worst = moreTelling(t.worst, err)
		return nil
	}
	if !k.IsPrivate() || k.fits(r.alg) != nil {
		return nil
	}
	if t.left == 0 {
		t.worst = moreTelling(t.worst, fmt.Errorf("%w: %w: more than %d keys would have to be tried; recipients should name their kid", ErrMalformed, ErrTooLarge, MaxTrials))
		return nil
	}
	t.left--
	contentKey, err := r.unwrap(k, t.o.KDFOther)
	if err == nil && len(contentKey) != t.size {
		err = fmt.Errorf("%w: a content key of %d bytes, the algorithm needs %d", ErrDecrypt, len(contentKey), t.size)
	}
	if err != nil {
		t.worst = moreTelling(t.worst, err)
		return nil
	}
	return contentKey
}

// Decrypt opens a COSE_Encrypt, tagged or untagged. detached is the ciphertext of a message that
// does not carry one; nil when it must.
func Decrypt(msg, detached []byte, keys DecryptKeys, o DecryptOptions) ([]byte, error) {
	m, err := ParseEncrypt(msg)
	if err != nil {
		return nil, err
	}
	contentKey, err := m.ContentKey(keys, o)
	if err != nil {
		return nil, err
	}
	return m.open(contentKey, detached, o)
}

// Decrypt0 opens a COSE_Encrypt0, tagged or untagged, with a shared content key; see Decrypt.
func Decrypt0(msg, detached []byte, key *Key, o DecryptOptions) ([]byte, error) {
	m, err := parseEncrypted(msg, TagEncrypt0, 3, "COSE_Encrypt0", "Encrypt0")
	if err != nil {
		return nil, err
	}
	if err := m.check(o); err != nil {
		return nil, err
	}
	if err := key.fits(m.Algorithm()); err != nil {
		return nil, err
	}
	if err := key.allows(KeyOpDecrypt); err != nil {
		return nil, err
	}
	return m.open(key.secret, detached, o)
}

func (m *EncryptMessage) open(contentKey, detached []byte, o DecryptOptions) ([]byte, error) {
	ciphertext, err := choosePayload(m.Ciphertext, m.Detached, detached)
	if err != nil {
		return nil, err
	}
	iv, err := m.chooseIV(o)
	if err != nil {
		return nil, err
	}
	return openContent(m.Algorithm(), contentKey, iv, m.AAD(o.ExternalAAD), ciphertext)
}
