package suit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit/internal/scan"
)

// Profile is an algorithm profile of SUIT MTI §3.
type Profile struct {
	// Name is what the text calls it.
	Name           string
	Digest         cose.Algorithm
	Authentication cose.Algorithm
	KeyExchange    cose.Algorithm
	Encryption     cose.Algorithm
}

// Profiles returns the six profiles of the text. The first four after the HMAC one are those of
// TEEP.
func Profiles() []Profile {
	return []Profile{
		{"suit-sha256-hmac-a128kw-a128ctr", cose.AlgSHA256, cose.AlgHMAC256, cose.AlgA128KW, cose.AlgA128CTR},
		{"suit-sha256-esp256-ecdh-a128ctr", cose.AlgSHA256, cose.AlgESP256, cose.AlgECDHESA128KW, cose.AlgA128CTR},
		{"suit-sha256-ed25519-ecdh-a128ctr", cose.AlgSHA256, cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgA128CTR},
		{"suit-sha256-esp256-ecdh-a128gcm", cose.AlgSHA256, cose.AlgESP256, cose.AlgECDHESA128KW, cose.AlgA128GCM},
		{"suit-sha256-ed25519-ecdh-chacha-poly", cose.AlgSHA256, cose.AlgEd25519, cose.AlgECDHESA128KW, cose.AlgChaCha20Poly1305},
		{"suit-sha256-hsslms-a256kw-a256ctr", cose.AlgSHA256, cose.AlgHSSLMS, cose.AlgA256KW, cose.AlgA256CTR},
	}
}

// ProfileByName finds one of [Profiles].
func ProfileByName(name string) (Profile, error) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("suit: no algorithm profile is named %q: see SUIT MTI §3", name)
}

// MarshalCBOR encodes the profile as in the CDDL: [digest, authentication, key exchange,
// encryption].
func (p Profile) MarshalCBOR() ([]byte, error) {
	b := []byte{0x84}
	for _, a := range []cose.Algorithm{p.Digest, p.Authentication, p.KeyExchange, p.Encryption} {
		b = appendInt(b, int64(a))
	}
	return b, nil
}

// UnmarshalCBOR decodes a profile. One that is not in [Profiles] has no name.
func (p *Profile) UnmarshalCBOR(data []byte) error {
	r := scan.New(data)
	if err := wantLength(&r, 4); err != nil {
		return at(err, "profile")
	}
	var q Profile
	for _, a := range []*cose.Algorithm{&q.Digest, &q.Authentication, &q.KeyExchange, &q.Encryption} {
		v, err := r.Int()
		if err != nil {
			return at(err, "profile")
		}
		*a = cose.Algorithm(v)
	}
	if err := r.Done(); err != nil {
		return at(err, "profile")
	}
	for _, known := range Profiles() {
		named := q
		if named.Name = known.Name; named == known {
			q = named
		}
	}
	*p = q
	return nil
}

// ErrProfile says that something uses other algorithms than its profile.
var ErrProfile = errors.New("suit: not of the algorithm profile")

// Check tells whether an envelope keeps to the profile: every digest in it, every authentication
// block, and every encryption info in its command sequences. The envelope needs no key for this
// and is not authenticated by it.
func (p Profile) Check(e *Envelope) error {
	if err := p.checkDigest(e.Digest, "authentication-wrapper"); err != nil {
		return err
	}
	for i, block := range e.AuthBlocks {
		algs, err := blockAlgorithms(block)
		if err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrProfile, i, err)
		}
		for _, a := range algs {
			if a != p.Authentication {
				return fmt.Errorf("%w %s: block %d is authenticated with %v, not %v", ErrProfile, p.Name, i, a, p.Authentication)
			}
		}
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		return err
	}
	return p.checkManifest(m)
}

func (p Profile) checkManifest(m *Manifest) error {
	for _, label := range append(SectionLabels(), LabelCommon) {
		s := m.Section(label)
		if s.Severed != nil {
			if err := p.checkDigest(*s.Severed, label.String()); err != nil {
				return err
			}
		}
		var err error
		s.Commands.Walk(func(c *Command) bool {
			err = p.checkCommand(c)
			return err == nil
		})
		if err != nil {
			return fmt.Errorf("%v: %w", label, err)
		}
	}
	for label, d := range map[Label]*Digest{LabelText: m.Text.Severed, LabelCoSWID: m.CoSWID.Severed} {
		if d == nil {
			continue
		}
		if err := p.checkDigest(*d, label.String()); err != nil {
			return err
		}
	}
	return nil
}

func (p Profile) checkDigest(d Digest, where string) error {
	if d.Algorithm != p.Digest {
		return fmt.Errorf("%w %s: %s has a digest by %v, not %v", ErrProfile, p.Name, where, d.Algorithm, p.Digest)
	}
	return nil
}

func (p Profile) checkCommand(c *Command) error {
	blocks := []Parameters{c.Parameters}
	for _, m := range c.Multiple {
		blocks = append(blocks, m.Parameters)
	}
	for _, params := range blocks {
		if d, ok := params.Digest(); ok {
			if err := p.checkDigest(d, "image-digest"); err != nil {
				return err
			}
		}
		info, ok := params.EncryptionInfo()
		if !ok {
			continue
		}
		if err := p.CheckEncryptionInfo(info); err != nil {
			return err
		}
	}
	return nil
}

// CheckEncryptionInfo tells whether a SUIT_Encryption_Info keeps to the profile.
func (p Profile) CheckEncryptionInfo(info []byte) error {
	content, keys, err := encryptionAlgorithms(info)
	if err != nil {
		return fmt.Errorf("%w: encryption-info: %w", ErrProfile, err)
	}
	if content != p.Encryption {
		return fmt.Errorf("%w %s: content is encrypted with %v, not %v", ErrProfile, p.Name, content, p.Encryption)
	}
	for _, k := range keys {
		if k != p.KeyExchange {
			return fmt.Errorf("%w %s: the content key is distributed with %v, not %v", ErrProfile, p.Name, k, p.KeyExchange)
		}
	}
	return nil
}

// The functions below look only at algorithm headers; package cose checks everything else when a
// message is used.

var errNoAlgorithm = errors.New("no algorithm in its headers")

// blockAlgorithms lists the algorithms of a tagged COSE_Sign1, COSE_Mac0 or COSE_Sign.
func blockAlgorithms(block []byte) ([]cose.Algorithm, error) {
	r := scan.New(block)
	tag, err := r.Tag()
	if err != nil {
		return nil, err
	}
	if err := wantLength(&r, 4); err != nil {
		return nil, err
	}
	alg, err := readAlgorithm(&r)
	if tag != tagSign {
		if err == nil && alg == 0 {
			err = errNoAlgorithm
		}
		return []cose.Algorithm{alg}, err
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Item(); err != nil { // payload
		return nil, err
	}
	return readLayers(&r, 3)
}

// readLayers reads the algorithms of COSE_Signatures or COSE_recipients, which begin with their
// headers and have length members or, for recipients, one more.
func readLayers(r *scan.Reader, length int) ([]cose.Algorithm, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	var list []cose.Algorithm
	for range n {
		k, err := r.Array()
		if err == nil && k != length {
			err = fmt.Errorf("layer has %d elements, not %d", k, length)
		}
		if err != nil {
			return nil, err
		}
		alg, err := readAlgorithm(r)
		if err == nil && alg == 0 {
			err = errNoAlgorithm
		}
		if err != nil {
			return nil, err
		}
		if _, err := r.Item(); err != nil { // signature or encrypted key
			return nil, err
		}
		if !slices.Contains(list, alg) {
			list = append(list, alg)
		}
	}
	if len(list) == 0 {
		return nil, errEmpty
	}
	return list, nil
}

// encryptionAlgorithms lists the content encryption and key distribution algorithms of a
// COSE_Encrypt.
func encryptionAlgorithms(info []byte) (content cose.Algorithm, keys []cose.Algorithm, err error) {
	r := scan.New(info)
	if _, err := r.Tag(); err != nil {
		return 0, nil, err
	}
	if err := wantLength(&r, 4); err != nil {
		return 0, nil, err
	}
	if content, err = readAlgorithm(&r); err != nil {
		return 0, nil, err
	}
	if content == 0 {
		return 0, nil, errNoAlgorithm
	}
	if _, err := r.Item(); err != nil { // ciphertext
		return 0, nil, err
	}
	keys, err = readLayers(&r, 3)
	return content, keys, err
}

// readAlgorithm reads both header buckets and returns alg from the protected or, failing that,
// the unprotected one; 0 if there is none.
func readAlgorithm(r *scan.Reader) (cose.Algorithm, error) {
	protected, err := r.Bytes()
	if err != nil {
		return 0, err
	}
	alg := cose.Algorithm(0)
	if len(protected) > 0 {
		inner := scan.New(protected)
		if alg, err = algorithmIn(&inner); err != nil {
			return 0, err
		}
	}
	other, err := algorithmIn(r)
	if alg == 0 {
		alg = other
	}
	return alg, err
}

const headerAlgorithm = 1

func algorithmIn(r *scan.Reader) (alg cose.Algorithm, err error) {
	n, err := r.Map()
	if err != nil {
		return 0, err
	}
	for range n {
		key, err := r.Item()
		if err != nil {
			return 0, err
		}
		value, err := r.Item()
		if err != nil {
			return 0, err
		}
		k := scan.New(key)
		if label, err := k.Int(); err != nil || label != headerAlgorithm {
			continue
		}
		v := scan.New(value)
		a, err := v.Int()
		if err != nil {
			return 0, err
		}
		alg = cose.Algorithm(a)
	}
	return alg, nil
}
