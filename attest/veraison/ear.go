package veraison

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// Profiles of EAR that are read: the text's, and that of the Veraison services, which spell some
// claims with a dot.
const (
	profileIETF     = "tag:ietf.org,2026:rats/ear#03"
	profileVeraison = "tag:github.com,2023:veraison/ear"
)

// maxSubmods bounds the appraisals in one result.
const maxSubmods = 16

// base64Bytes reads base64 in either alphabet, padded or not: the texts and the services differ.
type base64Bytes []byte

func (b *base64Bytes) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	var err error
	*b, err = base64.RawURLEncoding.DecodeString(text)
	return err
}

// ear is the claims set of a result.
type ear struct {
	Profile  string                  `json:"eat_profile"`
	IssuedAt int64                   `json:"iat"`
	Expires  *int64                  `json:"exp"`
	Nonce    base64Bytes             `json:"eat_nonce"`
	Status   tier                    `json:"ear_status"`
	Submods  map[string]earAppraisal `json:"submods"`
}

// earAppraisal is the appraisal of one attester.
type earAppraisal struct {
	Status  tier            `json:"ear_status"`
	Dotted  tier            `json:"ear.status"`
	Vector  map[string]int8 `json:"ear_trustworthiness_vector"`
	VectorD map[string]int8 `json:"ear.trustworthiness-vector"`
	UEID    base64Bytes     `json:"ueid"`
}

// tier is a status by name or number.
type tier struct {
	status attest.Status
	set    bool
}

func (t *tier) UnmarshalJSON(data []byte) error {
	var name string
	t.set = true
	if json.Unmarshal(data, &name) == nil {
		if name == "none" {
			return nil
		}
		var err error
		t.status, err = attest.ParseStatus(name)
		return err
	}
	var n int8
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	t.status = attest.StatusOf(n)
	return nil
}

// algorithm is the one JWS algorithm that a key is used with.
func algorithm(k *cose.Key) (jose.SignatureAlgorithm, error) {
	pub, err := k.CryptoPublic()
	if err != nil {
		return "", fmt.Errorf("veraison: key of the verifier: %w", err)
	}
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		}
	}
	return "", errors.New("veraison: results are signed with ECDSA over P-256 or P-384, or Ed25519; this key is for neither")
}

// verify checks the signature of a result before anything of it is read.
func (c *Client) verify(token string) ([]byte, error) {
	for _, k := range c.c.Keys {
		alg, err := algorithm(k)
		if err != nil {
			return nil, err
		}
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
		if err != nil {
			continue
		}
		pub, err := k.CryptoPublic()
		if err != nil {
			return nil, fmt.Errorf("veraison: key of the verifier: %w", err)
		}
		if payload, err := jws.Verify(pub); err == nil {
			return payload, nil
		}
	}
	return nil, fmt.Errorf("%w: no key of the remote verifier %s made this result", attest.ErrSignature, c.c.Owner)
}

// result turns a signed result into what is appraised here.
func (c *Client) result(token string, b bound.Beside) (*bound.Report, error) {
	payload, err := c.verify(token)
	if err != nil {
		return nil, err
	}
	r := &ear{}
	if err := json.Unmarshal(payload, r); err != nil {
		return nil, fmt.Errorf("%w: Attestation Result of %s: %w", attest.ErrFormat, c.c.Owner, err)
	}
	if r.Profile != profileIETF && r.Profile != profileVeraison {
		return nil, fmt.Errorf("%w: Attestation Result of profile %.100q", attest.ErrFormat, r.Profile)
	}
	if err := c.checkTimes(r, b.Now); err != nil {
		return nil, err
	}
	if len(r.Submods) == 0 || len(r.Submods) > maxSubmods {
		return nil, fmt.Errorf("%w: an Attestation Result with %d appraisals", attest.ErrFormat, len(r.Submods))
	}
	out := &bound.Report{Bound: r.Nonce, Authority: eat.Authority{Owner: c.c.Owner, Class: c.c.Class}}
	for _, label := range slices.Sorted(maps.Keys(r.Submods)) {
		if err := addAppraisal(out, label, r.Submods[label]); err != nil {
			return nil, err
		}
	}
	if r.Status.set && r.Status.status != attest.StatusNone {
		out.Findings = append(out.Findings, eat.Finding{Claim: "ear_status", Aspect: appraisal.Hardware, Value: int8(r.Status.status),
			Text: fmt.Sprintf("appraised by %s as a whole: %v", c.c.Owner, r.Status.status)})
	}
	if out.Authority.UEID == nil {
		return nil, fmt.Errorf("%w: the Attestation Result of %s names no device (ueid), so it could be of any", attest.ErrUntrusted, c.c.Owner)
	}
	return out, nil
}

func (c *Client) checkTimes(r *ear, now time.Time) error {
	issued := time.Unix(r.IssuedAt, 0)
	switch {
	case r.IssuedAt == 0 || now.Add(c.c.MaxSkew).Before(issued) || now.Sub(issued) > c.c.MaxAge+c.c.MaxSkew:
		return fmt.Errorf("%w: Attestation Result of %s, issued at %s", attest.ErrNotFresh, c.c.Owner, issued.UTC().Format(time.RFC3339))
	case r.Expires != nil && !now.Before(time.Unix(*r.Expires, 0).Add(c.c.MaxSkew)):
		return fmt.Errorf("%w: Attestation Result of %s expired", attest.ErrNotFresh, c.c.Owner)
	}
	return nil
}

// addAppraisal takes over one appraisal: each aspect of its vector, and its overall status, which
// may be worse than any of them by the verifier's own policy.
func addAppraisal(out *bound.Report, label string, a earAppraisal) error {
	status := a.Status
	if !status.set {
		status = a.Dotted
	}
	if !status.set {
		return fmt.Errorf("%w: the appraisal %.64q has no status", attest.ErrFormat, label)
	}
	if a.UEID != nil {
		if out.Authority.UEID != nil {
			return fmt.Errorf("%w: the Attestation Result names more than one device", attest.ErrUntrusted)
		}
		out.Authority.UEID = a.UEID
	}
	vector := a.Vector
	if vector == nil {
		vector = a.VectorD
	}
	for aspect := appraisal.Aspect(0); aspect.Valid(); aspect++ {
		if value, ok := vector[aspect.String()]; ok {
			out.Findings = append(out.Findings, eat.Finding{Claim: label + " " + aspect.String(), Aspect: aspect, Value: value,
				Text: fmt.Sprintf("appraised by %s as %d", out.Authority.Owner, value)})
		}
	}
	overall := int8(status.status)
	if status.status == attest.StatusNone {
		// No verdict is none to rely on.
		overall = int8(attest.StatusContraindicated)
	}
	out.Findings = append(out.Findings, eat.Finding{Claim: label, Aspect: appraisal.Hardware, Value: overall,
		Text: fmt.Sprintf("appraised by %s: %v", out.Authority.Owner, status.status)})
	return nil
}
