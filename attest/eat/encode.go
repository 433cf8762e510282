package eat

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// Encode returns the deterministic encoding. It refuses claims that [ParseClaims] would refuse, so
// that nothing is signed which no one can read.
func (c *Claims) Encode() ([]byte, error) {
	data, err := c.encode()
	if err != nil {
		return nil, err
	}
	if _, err := ParseClaims(data); err != nil {
		return nil, fmt.Errorf("eat: these claims cannot be sent: %w", err)
	}
	return data, nil
}

// encode is Encode for claims that are known to be readable.
func (c *Claims) encode() ([]byte, error) {
	m, err := c.encodeMap(0)
	if err != nil {
		return nil, err
	}
	data, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("eat: encode claims: %w", err)
	}
	return data, nil
}

func (c *Claims) encodeMap(depth int) (map[int64]any, error) {
	m := make(map[int64]any, 16+len(c.Unknown))
	for label, raw := range c.Unknown {
		m[label] = raw
	}
	putText(m, labelIssuer, c.Issuer)
	putTime(m, labelExpires, c.Expires)
	putTime(m, labelNotBefore, c.NotBefore)
	putTime(m, labelIssuedAt, c.IssuedAt)
	putBytes(m, labelNonce, c.Nonce)
	putBytes(m, labelUEID, c.UEID)
	if c.OEMID != nil {
		m[labelOEMID] = cbor.RawMessage(c.OEMID)
	}
	putBytes(m, labelHWModel, c.HWModel)
	putVersion(m, labelHWVersion, c.HWVersion)
	if c.Debug != DebugNotReported {
		m[labelDebugStatus] = int(c.Debug) - 1
	}
	putText(m, labelProfile, c.Profile)
	putText(m, labelSWName, c.SWName)
	putVersion(m, labelSWVersion, c.SWVersion)
	c.putAppraisal(m)
	return m, errors.Join(c.putConfirmation(m), c.putEncryptionKey(m), c.putSoftware(m), c.putSubmods(m, depth))
}

func putText(m map[int64]any, label int64, s string) {
	if s != "" {
		m[label] = s
	}
}

func putBytes(m map[int64]any, label int64, b []byte) {
	if b != nil {
		m[label] = b
	}
}

func putTime(m map[int64]any, label int64, t time.Time) {
	if !t.IsZero() {
		m[label] = t.Unix()
	}
}

func (v *Version) encode() []any {
	if v.Scheme == 0 {
		return []any{v.Text}
	}
	return []any{v.Text, v.Scheme}
}

func putVersion(m map[int64]any, label int64, v *Version) {
	if v != nil {
		m[label] = v.encode()
	}
}

func (c *Claims) putAppraisal(m map[int64]any) {
	if c.Appraised {
		m[labelStatus] = int64(c.Status)
	}
	if len(c.Vector) > 0 {
		m[labelTrustVector] = c.Vector
	}
	if len(c.PolicyIDs) > 0 {
		m[labelPolicyIDs] = c.PolicyIDs
	}
	if c.VerifierID != nil {
		m[labelVerifierID] = map[int64]string{0: c.VerifierID.Developer, 1: c.VerifierID.Build}
	}
	if len(c.Weaknesses) > 0 {
		m[LabelWeaknesses] = c.Weaknesses
	}
	if len(c.Reasons) > 0 {
		reasons := make([][]any, len(c.Reasons))
		for i, r := range c.Reasons {
			reasons[i] = []any{r.Claim, int64(r.Status), r.Text}
		}
		m[LabelReasons] = reasons
	}
}

func (c *Claims) putEncryptionKey(m map[int64]any) error {
	if c.EncryptionKey == nil {
		return nil
	}
	if c.EncryptionKey.IsPrivate() {
		return errors.New("eat: the encryption key is the private one; Evidence takes the public key")
	}
	encoded, err := c.EncryptionKey.MarshalCBOR()
	if err != nil {
		return fmt.Errorf("eat: encryption key: %w", err)
	}
	m[LabelEncryptionKey] = cbor.RawMessage(encoded)
	return nil
}

func (c *Claims) putConfirmation(m map[int64]any) error {
	if c.Confirmation == nil {
		return nil
	}
	methods := map[int64]any{}
	if k := c.Confirmation.Key; k != nil {
		if k.IsPrivate() {
			return errors.New("eat: cnf takes the public key, not the private one")
		}
		encoded, err := k.MarshalCBOR()
		if err != nil {
			return fmt.Errorf("eat: cnf: %w", err)
		}
		methods[confirmKey] = cbor.RawMessage(encoded)
	}
	putBytes(methods, confirmKeyID, c.Confirmation.KeyID)
	putBytes(methods, confirmThumbprint, c.Confirmation.Thumbprint)
	m[labelConfirmation] = methods
	return nil
}

func (c *Claims) putSoftware(m map[int64]any) error {
	if len(c.Manifests) > 0 {
		list := make([][]any, len(c.Manifests))
		for i, e := range c.Manifests {
			list[i] = []any{e.ContentFormat, e.Body}
			if r := e.Reference; r != nil {
				digest := []any{int64(r.Digest.Algorithm), r.Digest.Value}
				list[i] = []any{ContentFormatCBOR, []any{r.URI, digest}}
			}
		}
		m[labelManifests] = list
	}
	if len(c.Measurements) > 0 {
		list := make([][]any, len(c.Measurements))
		for i, e := range c.Measurements {
			list[i] = []any{e.ContentFormat, e.Body}
			if e.Component == nil {
				continue
			}
			body, err := e.Component.encode()
			if err != nil {
				return err
			}
			list[i] = []any{ContentFormatCBOR, body}
		}
		m[labelMeasurements] = list
	}
	return nil
}

// Identifiers of the named-information registry for the digests of measured components.
var namedInformation = map[cose.Algorithm]int64{cose.AlgSHA256: 1, cose.AlgSHA384: 7, cose.AlgSHA512: 8}

func (mc *MeasuredComponent) encode() ([]byte, error) {
	id := []any{mc.Name}
	if mc.Version != nil {
		id = append(id, mc.Version.encode())
	}
	alg, ok := namedInformation[mc.Digest.Algorithm]
	if !ok {
		return nil, fmt.Errorf("eat: measured component %q: digest algorithm %v has no name here; use SHA-256, SHA-384 or SHA-512", mc.Name, mc.Digest.Algorithm)
	}
	return cbor.Marshal(map[int64]any{1: id, 2: []any{alg, mc.Digest.Value}})
}

func (c *Claims) putSubmods(m map[int64]any, depth int) error {
	if len(c.Submods) == 0 {
		return nil
	}
	if depth >= MaxSubmodDepth {
		return fmt.Errorf("eat: submodules are nested deeper than %d", MaxSubmodDepth)
	}
	list := make(map[string]any, len(c.Submods))
	for label, s := range c.Submods {
		switch {
		case s.Claims != nil:
			inner, err := s.Claims.encodeMap(depth + 1)
			if err != nil {
				return fmt.Errorf("submodule %q: %w", label, err)
			}
			list[label] = inner
		case s.Detached != nil:
			list[label] = detachedDigest(*s.Detached)
		case s.Token != nil:
			list[label] = s.Token
		case s.JSON != "":
			list[label] = s.JSON
		default:
			return fmt.Errorf("eat: submodule %q is empty", label)
		}
	}
	m[labelSubmods] = list
	return nil
}

// detachedDigest encodes a Detached-Submodule-Digest.
//
//	Detached-Submodule-Digest = [ hash-algorithm : text / int, digest : bstr ]
func detachedDigest(d appraisal.Digest) []any { return []any{int64(d.Algorithm), d.Value} }
