package eat

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// CheckProfile checks the claims that the TEEP profile requires (TEEP §5): ueid, oemid, hwmodel,
// hwversion, manifests and cnf. The error is [attest.ErrFormat], names what is missing, and is
// also [attest.ErrKeyBinding] when cnf is.
func (c *Claims) CheckProfile() error {
	var missing []string
	for _, claim := range []struct {
		name    string
		present bool
	}{
		{"ueid", c.UEID != nil}, {"oemid", c.OEMID != nil}, {"hwmodel", c.HWModel != nil},
		{"hwversion", c.HWVersion != nil}, {"manifests", len(c.Manifests) > 0}, {"cnf", c.Confirmation != nil},
	} {
		if !claim.present {
			missing = append(missing, claim.name)
		}
	}
	if c.Profile != "" && c.Profile != Profile {
		return fmt.Errorf("%w: eat_profile is %.100q, not TEEP's %q", attest.ErrFormat, c.Profile, Profile)
	}
	if len(missing) == 0 {
		return nil
	}
	err := fmt.Errorf("%w: missing claims, which the TEEP profile requires (TEEP §5): %s", attest.ErrFormat, strings.Join(missing, ", "))
	if c.Confirmation == nil {
		err = errors.Join(err, attest.ErrKeyBinding)
	}
	return err
}

// checkTimes checks exp and nbf, and that iat does not lie in the future, with clocks that may
// differ by skew. The error is [attest.ErrNotFresh].
func (c *Claims) checkTimes(now time.Time, skew time.Duration) error {
	switch {
	case !c.Expires.IsZero() && !now.Before(c.Expires.Add(skew)):
		return fmt.Errorf("%w: expired at %s, it is %s", attest.ErrNotFresh, c.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !c.NotBefore.IsZero() && now.Add(skew).Before(c.NotBefore):
		return fmt.Errorf("%w: not valid before %s", attest.ErrNotFresh, c.NotBefore.Format(time.RFC3339))
	case now.Add(skew).Before(c.IssuedAt):
		return fmt.Errorf("%w: issued in the future, at %s; check the clocks", attest.ErrNotFresh, c.IssuedAt.Format(time.RFC3339))
	}
	return nil
}

// componentPrefix starts the label of a Trusted Component's submodule.
const componentPrefix = "component:"

// ComponentLabel names the submodule of an installed component: "component:" and the SUIT
// component identifier, encoded, in hexadecimal.
func ComponentLabel(id [][]byte) (string, error) {
	if len(id) == 0 {
		return "", errors.New("eat: a component has no identifier")
	}
	encoded, err := cbor.Marshal(id)
	if err != nil {
		return "", fmt.Errorf("eat: component identifier: %w", err)
	}
	return fmt.Sprintf("%s%x", componentPrefix, encoded), nil
}

func componentID(label string) ([][]byte, bool) {
	digits, ok := strings.CutPrefix(label, componentPrefix)
	if !ok {
		return nil, false
	}
	encoded, err := hex.DecodeString(digits)
	if err != nil {
		return nil, false
	}
	var id [][]byte
	if err := cbor.Unmarshal(encoded, &id); err != nil || len(id) == 0 {
		return nil, false
	}
	// Only the one spelling counts, so that one component has one label.
	again, err := ComponentLabel(id)
	return id, err == nil && again == label
}

// sign signs encoded claims. The profile has no CBOR tags (TEEP §5), and the key identifier is the
// thumbprint.
func sign(payload []byte, s cose.Signer, o cose.SignOptions, rand io.Reader) ([]byte, error) {
	o.Untagged, o.OmitKeyID = true, true
	err := o.Protected.Set(cose.LabelKeyID, s.Public().Thumbprint())
	if err != nil {
		return nil, fmt.Errorf("eat: key identifier: %w", err)
	}
	token, err := cose.Sign1(rand, payload, s, o)
	if err != nil {
		return nil, fmt.Errorf("eat: sign: %w", err)
	}
	if len(token) > MaxTokenBytes {
		return nil, fmt.Errorf("eat: the token has %d bytes, at most %d can be read", len(token), MaxTokenBytes)
	}
	return token, nil
}

// untag removes the CWT tag, which the profile does without and other encoders may add.
func untag(token []byte) ([]byte, error) {
	if len(token) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: a token of %d bytes, at most %d are read", attest.ErrFormat, len(token), MaxTokenBytes)
	}
	if major(token) != 6 {
		return token, nil
	}
	var tag cbor.RawTag
	if err := cbor.Unmarshal(token, &tag); err != nil {
		return nil, fmt.Errorf("%w: token: %w", attest.ErrFormat, err)
	}
	if tag.Number == tagCWT {
		return tag.Content, nil
	}
	return token, nil
}

// verifySigned checks the signature of a token before anything of its claims is read.
func verifySigned(token []byte, keys cose.KeySource, algorithms []cose.Algorithm) (*Claims, *cose.Verified, error) {
	token, err := untag(token)
	if err != nil {
		return nil, nil, err
	}
	v, err := cose.Verify(token, keys, cose.VerifyOptions{Algorithms: algorithms})
	switch {
	case err == nil:
	case errors.Is(err, attest.ErrUntrusted):
		return nil, nil, err
	case errors.Is(err, cose.ErrUnknownSigner):
		return nil, nil, fmt.Errorf("%w: %w", attest.ErrUntrusted, err)
	case errors.Is(err, cose.ErrMalformed):
		return nil, nil, fmt.Errorf("%w: %w", attest.ErrFormat, err)
	default:
		return nil, nil, fmt.Errorf("%w: %w", attest.ErrSignature, err)
	}
	claims, err := ParseClaims(v.Payload)
	return claims, v, err
}
