package psa

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// CCAMediaType is what CCA tokens go under; CCAPlatformProfile is the eat_profile of the platform's
// half.
const (
	CCAMediaType       = `application/eat-collection; profile="http://arm.com/CCA-SSD/1.0.0"`
	CCAPlatformProfile = "tag:arm.com,2023:cca_platform#1.0.0"
	// RealmName is the measured component with a realm's initial measurement.
	RealmName = "cca realm"
)

const (
	tagCCA                    = 399
	labelPlatform, labelRealm = 44234, 44241
)

// realm is the claims set of a realm token. Its extensible measurements are not appraised.
//
//	{ 10 => bstr .size 64, 44236 => tstr, 44237 => bstr .cbor COSE_Key, 44238 => bstr, 44240 => tstr, * => any }
type realm struct {
	Challenge []byte `cbor:"10,keyasint"`
	Algorithm string `cbor:"44236,keyasint"`
	Key       []byte `cbor:"44237,keyasint"`
	Initial   []byte `cbor:"44238,keyasint"`
	KeyHash   string `cbor:"44240,keyasint"`
}

// CCAReports authenticates CCA tokens. It is safe for concurrent use.
type CCAReports struct{ endorsements appraisal.DeviceEndorsements }

var _ bound.Reports = (*CCAReports)(nil)

// NewCCAReports takes the endorsements of platforms' initial attestation keys.
func NewCCAReports(endorsements appraisal.DeviceEndorsements) (*CCAReports, error) {
	if endorsements == nil {
		return nil, errors.New("psa: endorsements are needed; without any no platform is known")
	}
	return &CCAReports{endorsements: endorsements}, nil
}

// Accepts implements [bound.Reports].
func (r *CCAReports) Accepts(mediaType string) bool { return mediaType == CCAMediaType }

// Read implements [bound.Reports]. The chain is: an endorsed key signed the platform token; its
// challenge is the digest of the realm's key; that key signed the realm token; its challenge is the
// binding.
//
//	cca-token = #6.399({ 44234 => bstr .cbor platform-token, 44241 => bstr .cbor realm-token })
func (r *CCAReports) Read(ctx context.Context, token []byte, b bound.Beside) (*bound.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	platform, realmToken, err := split(token)
	if err != nil {
		return nil, err
	}
	c, e, err := authenticate("CCA platform token", platform, r.endorsements, b.Now)
	if err != nil {
		return nil, err
	}
	if c.Profile != CCAPlatformProfile {
		return nil, malformed("CCA platform token", fmt.Errorf("its profile is %.100q", c.Profile))
	}
	said, err := verifyRealm(realmToken, c.Nonce)
	if err != nil {
		return nil, err
	}
	out, err := report(c, e)
	if err != nil {
		return nil, err
	}
	digest, err := digestOf(said.Initial)
	if err != nil {
		return nil, malformed("CCA realm token: initial measurement", err)
	}
	out.Bound = said.Challenge
	out.Measurements = append(out.Measurements, eat.MeasuredComponent{Name: RealmName, Digest: digest})
	return out, nil
}

func split(token []byte) (platform, realm []byte, err error) {
	if len(token) > MaxTokenBytes {
		return nil, nil, malformed("CCA token", fmt.Errorf("%d bytes, at most %d are read", len(token), MaxTokenBytes))
	}
	var tag cbor.RawTag
	if err := cbor.Unmarshal(token, &tag); err != nil || tag.Number != tagCCA {
		return nil, nil, malformed("CCA token", errors.Join(err, fmt.Errorf("it is not tagged %d", tagCCA)))
	}
	var halves map[int64][]byte
	if err := cbor.Unmarshal(tag.Content, &halves); err != nil {
		return nil, nil, malformed("CCA token", err)
	}
	if len(halves) != 2 || halves[labelPlatform] == nil || halves[labelRealm] == nil {
		return nil, nil, malformed("CCA token", errors.New("it is not a platform token and a realm token"))
	}
	return halves[labelPlatform], halves[labelRealm], nil
}

// verifyRealm checks that the platform vouches for the realm's key, and that key for the claims.
func verifyRealm(token, vouched []byte) (*realm, error) {
	payload, err := cose.UnverifiedPayload(token)
	if err != nil {
		return nil, malformed("CCA realm token", err)
	}
	named := &realm{}
	if err := cbor.Unmarshal(payload, named); err != nil {
		return nil, malformed("CCA realm token", err)
	}
	hash, ok := map[string]crypto.Hash{"sha-256": crypto.SHA256, "sha-384": crypto.SHA384, "sha-512": crypto.SHA512}[named.KeyHash]
	if !ok {
		return nil, malformed("CCA realm token", fmt.Errorf("its key is named by the hash %.40q, not sha-256, sha-384 or sha-512", named.KeyHash))
	}
	h := hash.New()
	h.Write(named.Key)
	if !bytes.Equal(h.Sum(nil), vouched) {
		return nil, fmt.Errorf("%w: the CCA platform token vouches for another realm's key", attest.ErrUntrusted)
	}
	key, err := cose.ParseKey(named.Key)
	if err != nil {
		return nil, malformed("CCA realm token: key", err)
	}
	keys, err := cose.NewKeySet(key)
	if err != nil {
		return nil, malformed("CCA realm token: key", err)
	}
	v, err := cose.Verify(token, keys, cose.VerifyOptions{Algorithms: algorithms()})
	if err != nil {
		return nil, fmt.Errorf("%w: CCA realm token: %w", attest.ErrSignature, err)
	}
	said := &realm{}
	if err := cbor.Unmarshal(v.Payload, said); err != nil {
		return nil, malformed("CCA realm token", err)
	}
	return said, nil
}
