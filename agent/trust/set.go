package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// ErrInvalid says that a set cannot be used as it is. The text says what to write.
var ErrInvalid = errors.New("trust anchors")

// Limits of a set.
const (
	// MaxSize is the largest encoded set in bytes, in either form.
	MaxSize = 256 << 10
	// maxName bounds the name of an anchor in bytes.
	maxName = 64
	// maxURI bounds a TAM URI in bytes.
	maxURI = 2048
)

// Set is one generation of an agent's trust anchors. It is immutable once in use.
type Set struct {
	// Version rises with every change: an older set is never accepted again.
	Version uint64
	// Administrator is the key that signs the next set; nil means that there is none.
	Administrator *cose.Key
	TAMs          []TAM
	Signers       []Signer
	Verifiers     []Verifier
}

// TAM is a Trusted Application Manager that the agent listens to.
type TAM struct {
	// Name owns what the TAM installs. It outlives keys: renewing them changes nothing.
	Name string
	// URIs are where it is reached, the preferred first. A hint from an application counts only
	// if it is one of them, to the letter.
	URIs []string
	// Keys are its public keys, one or more for each algorithm, old and new while they rotate.
	Keys []*cose.Key
	// Authority is the certificate that the TAM's x5chain must lead to, and Subject the DNS name
	// that its own certificate must have: an authority may certify others too.
	Authority *x509.Certificate
	Subject   string
	// Encryption is its ECDH key; nil if it has none.
	Encryption *cose.Key
	// MustAttest makes the agent demand an Attestation Result of the TAM (TEEP §7.2.1).
	MustAttest bool
	// Components limits what the TAM may manage by prefix; empty for whatever the signers may
	// (RFC 9397 §9.5).
	Components []suit.ComponentID
}

// Signer is a Trusted Component Signer.
type Signer struct {
	Name string
	Keys []*cose.Key
	// Authorities are certificates of authorities. Whoever one of them certifies to sign code signs for
	// this signer, with the chain in the envelope (x5chain, RFC 9360). Authority says what is wanted of it.
	Authorities []*x509.Certificate
	// Components are the prefixes that it may sign for; the empty prefix is everything.
	Components []suit.ComponentID
	// Commands and Parameters narrow down what its manifests may use; empty for all.
	Commands   []suit.CommandCode
	Parameters []suit.ParameterLabel
}

// Verifier signs Attestation Results about TAMs.
type Verifier struct {
	Name string
	Keys []*cose.Key
}

// Check tells what is wrong with a set, in words that say what to write instead.
func (s *Set) Check() error {
	if s.Version == 0 {
		return invalid(`version is missing or 0: write "version: 1", and raise it with every change`)
	}
	if s.Administrator != nil && s.Administrator.IsPrivate() {
		return invalid("administrator is a private key: write its public key here and keep the private one elsewhere")
	}
	if len(s.TAMs) == 0 {
		return invalid("no tams: an agent that trusts no TAM can do nothing; name one at least")
	}
	names, keys := map[string]bool{}, map[string]string{}
	for i := range s.TAMs {
		if err := s.TAMs[i].check(names, keys); err != nil {
			return err
		}
	}
	clear(names)
	clear(keys)
	for i := range s.Signers {
		if err := s.Signers[i].check(names, keys); err != nil {
			return err
		}
	}
	clear(names)
	clear(keys)
	for _, v := range s.Verifiers {
		if err := checkAnchor("verifier", v.Name, v.Keys, names, keys); err != nil {
			return err
		}
		if len(v.Keys) == 0 {
			return invalid("verifier %q has no keys: name its public key", v.Name)
		}
	}
	return nil
}

func (t *TAM) check(names map[string]bool, keys map[string]string) error {
	if err := checkAnchor("TAM", t.Name, t.Keys, names, keys); err != nil {
		return err
	}
	if len(t.Keys) == 0 && t.Authority == nil {
		return invalid("TAM %q has neither keys nor a certificate-authority: name one of them", t.Name)
	}
	if (t.Authority == nil) != (t.Subject == "") {
		return invalid("TAM %q: certificate-authority and certificate-subject go together; the subject is the DNS name in the TAM's certificate", t.Name)
	}
	if len(t.URIs) == 0 {
		return invalid("TAM %q has no uris: name where it is reached", t.Name)
	}
	for _, u := range t.URIs {
		if err := checkURI(u); err != nil {
			return invalid("TAM %q: uri %q %s", t.Name, u, err)
		}
	}
	if t.Encryption != nil && t.Encryption.IsPrivate() {
		return invalid("TAM %q: encryption-key is a private key: write the public one", t.Name)
	}
	return t.checkEncryption()
}

// checkEncryption refuses a signature key for encryption: one key has one use (RFC 9397 §5).
func (t *TAM) checkEncryption() error {
	if t.Encryption == nil {
		return nil
	}
	if slices.ContainsFunc(t.Keys, t.Encryption.Equal) {
		return invalid("TAM %q: encryption-key is also one of its signature keys: make a key of its own for it", t.Name)
	}
	switch k := t.Encryption; {
	case k.Type() == cose.KeyTypeEC2 && (k.Curve() == cose.CurveP256 || k.Curve() == cose.CurveP384):
	case k.Type() == cose.KeyTypeOKP && k.Curve() == cose.CurveX25519:
	default:
		return invalid("TAM %q: encryption-key %v cannot be encrypted to; use a P-256 key", t.Name, k)
	}
	return nil
}

func checkURI(u string) error {
	rest, ok := strings.CutPrefix(u, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(u, "http://")
	}
	switch {
	case !ok:
		return errors.New("has to begin with https:// (or http://)")
	case rest == "" || rest[0] == '/':
		return errors.New("has no host")
	case len(u) > maxURI:
		return fmt.Errorf("is longer than %d bytes", maxURI)
	case strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("has characters that a URI cannot have: percent-encode them")
	case strings.Contains(rest, "@"):
		return errors.New("has a user name or password in it, or an unescaped @: write it without")
	}
	return nil
}

func (s *Signer) check(names map[string]bool, keys map[string]string) error {
	if err := checkAnchor("signer", s.Name, s.Keys, names, keys); err != nil {
		return err
	}
	if len(s.Keys) == 0 && len(s.Authorities) == 0 {
		return invalid("signer %q has neither keys nor certificate-authorities: name its public key, or who certifies it", s.Name)
	}
	for _, a := range s.Authorities {
		if !a.BasicConstraintsValid || !a.IsCA {
			return invalid("signer %q: the certificate of %q is not that of an authority: name the CA's, or the public key of the signer", s.Name, a.Subject)
		}
		if other, taken := keys[string(a.Raw)]; taken {
			return invalid("signer %q has an authority that signer %q has too: it says who somebody is, so it belongs to one", s.Name, other)
		}
		keys[string(a.Raw)] = s.Name
	}
	if len(s.Components) == 0 {
		return invalid(`signer %q has no components: name the prefixes that it may sign for, or "*" for every component`, s.Name)
	}
	return nil
}

func checkAnchor(kind, name string, own []*cose.Key, names map[string]bool, keys map[string]string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return invalid("a %s has no usable name (%q): give it one of 1 to %d printable bytes", kind, name, maxName)
	}
	if names[name] {
		return invalid("two entries of kind %s are named %q: give each its own name", kind, name)
	}
	names[name] = true
	for _, k := range own {
		if k == nil {
			return invalid("%s %q has an empty key", kind, name)
		}
		if k.IsPrivate() {
			return invalid("%s %q: a private key among its keys; write public keys only", kind, name)
		}
		if _, err := k.Verifier(); err != nil {
			return invalid("%s %q: a key that cannot verify signatures: %v", kind, name, err)
		}
		thumbprint := string(k.Thumbprint())
		if other, taken := keys[thumbprint]; taken {
			return invalid("%s %q has a key that %s %q has too: a key says who somebody is, so it belongs to one", kind, name, kind, other)
		}
		keys[thumbprint] = name
	}
	return nil
}

// TAM returns the TAM of that name.
func (s *Set) TAM(name string) (*TAM, bool) {
	i := slices.IndexFunc(s.TAMs, func(t TAM) bool { return t.Name == name })
	if i < 0 {
		return nil, false
	}
	return &s.TAMs[i], true
}

// Authorities are the certificate authorities that TAMs and signers are anchored by.
func (s *Set) Authorities() []*x509.Certificate {
	var all []*x509.Certificate
	for i := range s.TAMs {
		if a := s.TAMs[i].Authority; a != nil {
			all = append(all, a)
		}
	}
	for i := range s.Signers {
		all = append(all, s.Signers[i].Authorities...)
	}
	return all
}

// TAMByURI returns the TAM that is reached at exactly that URI.
func (s *Set) TAMByURI(uri string) (*TAM, bool) {
	i := slices.IndexFunc(s.TAMs, func(t TAM) bool { return slices.Contains(t.URIs, uri) })
	if i < 0 {
		return nil, false
	}
	return &s.TAMs[i], true
}

// MayManage tells whether the TAM may install, update or remove the component.
func (t *TAM) MayManage(id suit.ComponentID) bool {
	return len(t.Components) == 0 || slices.ContainsFunc(t.Components, id.HasPrefix)
}

// Equal tells whether two sets are the same to the byte.
func (s *Set) Equal(o *Set) bool {
	a, errA := s.Encode()
	b, errB := o.Encode()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
