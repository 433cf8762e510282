package appraisal

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
)

// SignedContentType is the content type in the protected header of signed collateral. It keeps a
// signature over anything else of the owner from passing as collateral.
const SignedContentType = "application/vnd.go-teep.collateral+yaml"

// Owner is someone whose signed collateral is accepted.
type Owner struct {
	// Name must be the owner that the file names.
	Name string
	// Keys verify the signature.
	Keys cose.KeySource
}

// Sign wraps a collateral file in YAML into a COSE_Sign1 by its owner. A file that ParseYAML
// would refuse is not signed.
func Sign(rand io.Reader, yaml []byte, signer cose.Signer) ([]byte, error) {
	if _, err := ParseYAML(yaml); err != nil {
		return nil, err
	}
	return cose.Sign1(rand, yaml, signer, cose.SignOptions{ContentType: SignedContentType})
}

// ParseSigned reads collateral signed with [Sign]. The signature is checked before the file is
// parsed, and the file must name as owner the one whose key made the signature: an owner cannot
// speak for another.
func ParseSigned(msg []byte, owners ...Owner) (*Collateral, error) {
	if len(msg) > MaxFileBytes {
		return nil, fmt.Errorf("%w: the file has %d bytes, at most %d are read", ErrCollateral, len(msg), MaxFileBytes)
	}
	refusal := error(cose.ErrUnknownSigner)
	for _, o := range owners {
		v, err := cose.Verify(msg, o.Keys, cose.VerifyOptions{ContentTypes: []any{SignedContentType}})
		if errors.Is(err, cose.ErrUnknownSigner) {
			continue
		}
		if err != nil {
			refusal = err // another owner's key may share the key identifier
			continue
		}
		c, err := ParseYAML(v.Payload)
		if err != nil {
			return nil, err
		}
		if c.Owner != o.Name {
			return nil, fmt.Errorf("%w: the file names %q as its owner and is signed by %q", ErrCollateral, c.Owner, o.Name)
		}
		return c, nil
	}
	return nil, fmt.Errorf("%w: none of %d accepted owners signed the file: %w", ErrCollateral, len(owners), refusal)
}
