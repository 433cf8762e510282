package eat

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
)

// malformed names the claim that cannot be read.
func malformed(claim string, err error) error {
	return fmt.Errorf("%w: %s: %w", attest.ErrFormat, claim, err)
}

// ParseClaims decodes a claims set within the limits of this package. Claims that it does not know
// are kept; claims that it knows must be well formed. The error is [attest.ErrFormat] and names
// the claim. What a profile requires to be present is another question: see
// [Claims.CheckProfile].
func ParseClaims(data []byte) (*Claims, error) {
	if len(data) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: claims of %d bytes, at most %d are read", attest.ErrFormat, len(data), MaxTokenBytes)
	}
	return parseClaims(data, 0)
}

func parseClaims(data []byte, depth int) (*Claims, error) {
	if len(data) == 0 || data[0]>>5 != 5 {
		return nil, fmt.Errorf("%w: a claims set is a map", attest.ErrFormat)
	}
	if err := cbor.Wellformed(data); err != nil {
		return nil, fmt.Errorf("%w: claims set: %w", attest.ErrFormat, err)
	}
	members, err := scanClaims(data, maxClaims)
	if err != nil {
		return nil, fmt.Errorf("%w: claims set: %w", attest.ErrFormat, err)
	}
	c := &Claims{}
	for _, m := range members {
		label, raw := m.label, m.value
		known, err := c.parse(label, raw, depth)
		if err != nil {
			return nil, err
		}
		if !known {
			if c.Unknown == nil {
				c.Unknown = map[int64]cbor.RawMessage{}
			}
			c.Unknown[label] = bytes.Clone(raw)
		}
	}
	return c, c.checkDependencies()
}

// checkDependencies holds the rules that tie claims together (RFC 9711 §4.2.4, §4.2.5, §4.2.7).
func (c *Claims) checkDependencies() error {
	switch {
	case c.HWModel != nil && c.OEMID == nil:
		return fmt.Errorf("%w: hwmodel without oemid", attest.ErrFormat)
	case c.HWVersion != nil && c.HWModel == nil:
		return fmt.Errorf("%w: hwversion without hwmodel", attest.ErrFormat)
	case c.SWVersion != nil && c.SWName == "":
		return fmt.Errorf("%w: sw-version without sw-name", attest.ErrFormat)
	case c.Debug == DebugDisabledPermanently && c.OEMID == nil:
		return fmt.Errorf("%w: dbgstat disabled-permanently without oemid", attest.ErrFormat)
	}
	return nil
}

// parse decodes one claim; known is false for claims that are kept as they are.
func (c *Claims) parse(label int64, raw []byte, depth int) (known bool, err error) {
	name := ""
	switch label {
	case labelIssuer:
		name = "iss"
		c.Issuer, err = parseText(raw)
	case labelExpires:
		name = "exp"
		c.Expires, err = parseTime(raw)
	case labelNotBefore:
		name = "nbf"
		c.NotBefore, err = parseTime(raw)
	case labelIssuedAt:
		name = "iat"
		c.IssuedAt, err = parseTime(raw)
	case labelConfirmation:
		c.Confirmation, err = parseConfirmation(raw)
		return true, err
	case labelNonce:
		name = "eat_nonce"
		c.Nonce, err = parseBytes(raw, MinNonceBytes, MaxNonceBytes)
	case labelProfile:
		name = "eat_profile"
		c.Profile, err = parseText(raw)
	case labelSubmods:
		return true, c.parseSubmods(raw, depth)
	default:
		if known, err = c.parseEntity(label, raw); known || err != nil {
			return known, err
		}
		return c.parseAppraisal(label, raw)
	}
	if err != nil {
		err = malformed(name, err)
	}
	return true, err
}

// parseEntity decodes the claims that describe device and software.
func (c *Claims) parseEntity(label int64, raw []byte) (known bool, err error) {
	name := ""
	switch label {
	case labelUEID:
		name = "ueid"
		c.UEID, err = parseBytes(raw, minUEIDBytes, maxUEIDBytes)
	case labelOEMID:
		name = "oemid"
		c.OEMID, err = attest.CanonicalOEMID(raw)
	case labelHWModel:
		name = "hwmodel"
		c.HWModel, err = parseBytes(raw, 1, maxHWModelBytes)
	case labelHWVersion:
		name = "hwversion"
		c.HWVersion, err = parseVersion(raw)
	case labelDebugStatus:
		name = "dbgstat"
		c.Debug, err = parseDebug(raw)
	case labelSWName:
		name = "sw-name"
		c.SWName, err = parseText(raw)
	case labelSWVersion:
		name = "sw-version"
		c.SWVersion, err = parseVersion(raw)
	case labelManifests:
		name = "manifests"
		c.Manifests, err = parseManifests(raw)
	case labelMeasurements:
		name = "measurements"
		c.Measurements, err = parseMeasurements(raw)
	case LabelEncryptionKey:
		name = "encryption-key"
		c.EncryptionKey, err = cose.ParseKey(raw)
		if err == nil && (c.EncryptionKey.IsPrivate() || c.EncryptionKey.Public() == nil) {
			err = errors.New("the key is not a public key")
		}
	default:
		return false, nil
	}
	if err != nil {
		err = malformed(name, err)
	}
	return true, err
}

// parseAppraisal decodes the claims that a verifier makes.
func (c *Claims) parseAppraisal(label int64, raw []byte) (known bool, err error) {
	name := ""
	switch label {
	case labelStatus:
		name = "ear_status"
		c.Status, err = parseStatus(raw)
		c.Appraised = err == nil
	case labelTrustVector:
		name = "ear_trustworthiness_vector"
		c.Vector, err = parseVector(raw)
	case labelPolicyIDs:
		name = "ear_appraisal_policy_ids"
		c.PolicyIDs, err = parseTexts(raw, MaxReasons)
	case labelVerifierID:
		name = "ear_verifier_id"
		c.VerifierID, err = parseVerifierID(raw)
	case LabelWeaknesses:
		name = "weaknesses"
		c.Weaknesses, err = parseTexts(raw, MaxWeaknesses)
	case LabelReasons:
		name = "reasons"
		c.Reasons, err = parseReasons(raw)
	default:
		return false, nil
	}
	if err != nil {
		err = malformed(name, err)
	}
	return true, err
}

// major returns the major type of an encoded item.
func major(raw []byte) byte {
	if len(raw) == 0 {
		return 0xff
	}
	return raw[0] >> 5
}

// unmarshal decodes an item whose major type is given: the CBOR library is lenient about types,
// for instance about null.
func unmarshal(raw []byte, want byte, what string, v any) error {
	if major(raw) != want {
		return fmt.Errorf("not %s", what)
	}
	return cbor.Unmarshal(raw, v)
}

// scalar reads the head of one whole item of a given major type and returns its argument and what
// follows the head. Items reach this package well-formed, inside an item that the CBOR library
// checked; decoding each small one with the library again would cost more than the signatures.
func scalar(raw []byte, want byte, what string) (arg uint64, content []byte, err error) {
	if major(raw) != want {
		return 0, nil, fmt.Errorf("not %s", what)
	}
	info := raw[0] & 0x1f
	if info < 24 {
		return uint64(info), raw[1:], nil
	}
	size := 1 << (info - 24)
	if info > 27 || len(raw) < 1+size {
		return 0, nil, fmt.Errorf("not %s of definite length", what)
	}
	for _, b := range raw[1 : 1+size] {
		arg = arg<<8 | uint64(b)
	}
	return arg, raw[1+size:], nil
}

// parseBytes returns a copy, so that a claim does not keep the whole message in memory.
func parseBytes(raw []byte, low, high int) ([]byte, error) {
	n, content, err := scalar(raw, 2, "a byte string")
	if err != nil {
		return nil, err
	}
	if n != uint64(len(content)) {
		return nil, errors.New("a byte string that does not end where it says")
	}
	if len(content) < low || len(content) > high {
		return nil, fmt.Errorf("%d bytes, %d to %d are allowed", len(content), low, high)
	}
	return append(make([]byte, 0, len(content)), content...), nil
}

func parseText(raw []byte) (string, error) {
	n, content, err := scalar(raw, 3, "a text string")
	if err != nil {
		return "", err
	}
	if n != uint64(len(content)) {
		return "", errors.New("a text string that does not end where it says")
	}
	s := string(content)
	return s, checkText(s)
}

func checkText(s string) error {
	if s == "" || len(s) > MaxTextBytes || !utf8.ValidString(s) {
		return fmt.Errorf("a text of %d bytes, 1 to %d are allowed", len(s), MaxTextBytes)
	}
	return nil
}

func parseTexts(raw []byte, limit int) ([]string, error) {
	items, err := parseArray(raw, 1, limit)
	if err != nil {
		return nil, err
	}
	list := make([]string, len(items))
	for i := range items {
		if list[i], err = parseText(items[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func parseArray(raw []byte, low, high int) ([]cbor.RawMessage, error) {
	if major(raw) != 4 {
		return nil, errors.New("not an array")
	}
	if err := cbor.Wellformed(raw); err != nil {
		return nil, err
	}
	return scanArray(raw, low, high)
}

// maxSeconds keeps times within what time.Time can compute with: the year 9999.
const maxSeconds = 253402300799

func parseTime(raw []byte) (time.Time, error) {
	if m := major(raw); m != 0 && m != 1 {
		return time.Time{}, errors.New("not an integer number of seconds (floating point is forbidden, RFC 9711 §4.3.1)")
	}
	seconds, err := parseInt(raw, 1, maxSeconds)
	if err != nil {
		return time.Time{}, fmt.Errorf("seconds out of range: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func parseVersion(raw []byte) (*Version, error) {
	items, err := parseArray(raw, 1, 2)
	if err != nil {
		return nil, err
	}
	v := &Version{}
	if v.Text, err = parseText(items[0]); err != nil {
		return nil, err
	}
	if len(items) == 2 && major(items[1]) == 3 {
		return v, nil // a scheme by name: not compared here
	}
	if len(items) == 2 {
		if v.Scheme, err = parseInt(items[1], math.MinInt64, math.MaxInt64); err != nil {
			return nil, fmt.Errorf("version scheme: %w", err)
		}
	}
	return v, nil
}

func parseInt(raw []byte, low, high int64) (int64, error) {
	m := major(raw)
	if m > 1 {
		return 0, errors.New("not an integer")
	}
	arg, rest, err := scalar(raw, m, "an integer")
	if err != nil {
		return 0, err
	}
	if arg > math.MaxInt64 || len(rest) != 0 {
		return 0, errors.New("not an integer of 64 bits")
	}
	n := int64(arg)
	if m == 1 {
		n = -1 - n
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d lies outside %d to %d", n, low, high)
	}
	return n, nil
}

func parseDebug(raw []byte) (DebugStatus, error) {
	n, err := parseInt(raw, 0, int64(debugStates)-2)
	if err != nil {
		return DebugNotReported, err
	}
	return DebugStatus(n + 1), nil
}

func parseStatus(raw []byte) (attest.Status, error) {
	n, err := parseInt(raw, 0, math.MaxInt8)
	if err != nil {
		return attest.StatusNone, err
	}
	switch s := attest.Status(n); s {
	case attest.StatusNone, attest.StatusAffirming, attest.StatusWarning, attest.StatusContraindicated:
		return s, nil
	}
	return attest.StatusNone, fmt.Errorf("%d is not a trustworthiness tier", n)
}

func parseVector(raw []byte) (appraisal.TrustVector, error) {
	members, err := scanClaims(raw, math.MaxUint8)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, errors.New("the vector is empty")
	}
	v := make(appraisal.TrustVector, len(members))
	for _, m := range members {
		label := m.label
		n, err := parseInt(m.value, math.MinInt8, math.MaxInt8)
		if err != nil {
			return nil, err
		}
		if label < 0 || label > math.MaxUint8 || !appraisal.Aspect(label).Valid() {
			return nil, fmt.Errorf("unknown aspect %d", label)
		}
		v[appraisal.Aspect(label)] = int8(n)
	}
	return v, nil
}

func parseVerifierID(raw []byte) (*VerifierID, error) {
	members, err := scanClaims(raw, maxClaims)
	if err != nil {
		return nil, err
	}
	if len(members) > 2 {
		return nil, errors.New("more than developer and build")
	}
	developer, err := parseText(valueOf(members, 0))
	if err != nil {
		return nil, fmt.Errorf("developer: %w", err)
	}
	build, err := parseText(valueOf(members, 1))
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	return &VerifierID{Developer: developer, Build: build}, nil
}

func parseReasons(raw []byte) ([]attest.Reason, error) {
	items, err := parseArray(raw, 1, MaxReasons)
	if err != nil {
		return nil, err
	}
	list := make([]attest.Reason, len(items))
	for i := range items {
		parts, err := parseArray(items[i], 3, 3)
		if err != nil {
			return nil, err
		}
		r := &list[i]
		if r.Claim, err = parseText(parts[0]); err != nil {
			return nil, err
		}
		if r.Status, err = parseStatus(parts[1]); err != nil {
			return nil, err
		}
		if r.Text, err = parseText(parts[2]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parseDigest decodes [algorithm, bytes] with an identifier of the COSE registry.
func parseDigest(raw []byte) (appraisal.Digest, error) {
	items, err := parseArray(raw, 2, 2)
	if err != nil {
		return appraisal.Digest{}, err
	}
	alg, err := parseInt(items[0], math.MinInt32, math.MaxInt32)
	if err != nil {
		return appraisal.Digest{}, fmt.Errorf("digest algorithm: %w", err)
	}
	value, err := parseBytes(items[1], 1, 64)
	if err != nil {
		return appraisal.Digest{}, fmt.Errorf("digest: %w", err)
	}
	return appraisal.NewDigest(cose.Algorithm(alg), value)
}
