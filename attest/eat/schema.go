package eat

import "github.com/go-teep/teep/internal/edn"

// ClaimsSchema names the claims of a claims set for diagnostic notation.
func ClaimsSchema() *edn.Schema {
	tier := &edn.Schema{Values: map[int64]string{0: "none", 2: "affirming", 32: "warning", 96: "contraindicated"}}
	claims := &edn.Schema{Name: "Claims-Set"}
	claims.Members = map[int64]edn.Field{
		labelIssuer: {Name: "iss"}, labelExpires: {Name: "exp"}, labelNotBefore: {Name: "nbf"}, labelIssuedAt: {Name: "iat"},
		labelConfirmation: {Name: "cnf", Schema: &edn.Schema{Members: map[int64]edn.Field{
			confirmKey: {Name: "COSE_Key"}, confirmKeyID: {Name: "kid", Schema: opaque}, confirmThumbprint: {Name: "ckt", Schema: opaque}}}},
		labelNonce: {Name: "eat_nonce", Schema: opaque}, labelUEID: {Name: "ueid", Schema: opaque},
		labelOEMID: {Name: "oemid", Schema: opaque}, labelHWModel: {Name: "hwmodel", Schema: opaque}, labelHWVersion: {Name: "hwversion"},
		labelDebugStatus: {Name: "dbgstat", Schema: &edn.Schema{Values: map[int64]string{
			0: "enabled", 1: "disabled", 2: "disabled since boot", 3: "disabled permanently", 4: "disabled fully and permanently"}}},
		labelProfile:      {Name: "eat_profile"},
		labelSubmods:      {Name: "submods", Schema: &edn.Schema{Other: edn.Field{Schema: &edn.Schema{Select: submodSchema(claims)}}}},
		labelSWName:       {Name: "sw-name"},
		labelSWVersion:    {Name: "sw-version"},
		labelManifests:    {Name: "manifests", Schema: softwareSchema(referenceSchema())},
		labelMeasurements: {Name: "measurements", Schema: softwareSchema(&edn.Schema{Wraps: measuredSchema()})},
		labelStatus:       {Name: "ear_status", Schema: tier},
		labelTrustVector:  {Name: "ear_trustworthiness_vector", Schema: vectorSchema()},
		labelPolicyIDs:    {Name: "ear_appraisal_policy_ids"},
		labelVerifierID: {Name: "ear_verifier_id", Schema: &edn.Schema{Members: map[int64]edn.Field{
			0: {Name: "developer"}, 1: {Name: "build"}}}},
		LabelWeaknesses:    {Name: "weaknesses"},
		LabelEncryptionKey: {Name: "encryption-key"},
		LabelReasons: {Name: "reasons", Schema: &edn.Schema{Rest: edn.Field{Schema: &edn.Schema{Elements: []edn.Field{
			{Name: "claim"}, {Name: "status", Schema: tier}, {Name: "why"}}}}}},
	}
	return claims
}

// TokenSchema names the parts of a signed token, tagged or not.
func TokenSchema() *edn.Schema {
	header := &edn.Schema{Members: map[int64]edn.Field{
		1: {Name: "alg", Schema: &edn.Schema{Values: map[int64]string{-9: "ESP256", -19: "Ed25519", -51: "ESP384", -7: "ES256", -8: "EdDSA"}}},
		2: {Name: "crit"}, 3: {Name: "content type"}, 4: {Name: "kid", Schema: opaque}, 33: {Name: "x5chain", Schema: opaque},
	}}
	return &edn.Schema{Name: "EAT", Elements: []edn.Field{
		{Name: "protected", Schema: &edn.Schema{Wraps: header}}, {Name: "unprotected", Schema: header},
		{Name: "payload", Schema: &edn.Schema{Wraps: ClaimsSchema()}}, {Name: "signature", Schema: opaque},
	}}
}

// opaque marks byte strings that are never CBOR, however they look. It is not changed.
var opaque = &edn.Schema{Opaque: true}

func submodSchema(claims *edn.Schema) func([]byte) *edn.Schema {
	return func(item []byte) *edn.Schema {
		if major(item) == 5 {
			return claims
		}
		return nil
	}
}

func softwareSchema(body *edn.Schema) *edn.Schema {
	return &edn.Schema{Rest: edn.Field{Schema: &edn.Schema{Elements: []edn.Field{
		{Name: "content format", Schema: &edn.Schema{Values: map[int64]string{ContentFormatCBOR: "application|cbor", 258: "application|swid+cbor"}}},
		{Schema: body},
	}}}}
}

func digestSchema() *edn.Schema {
	return &edn.Schema{Elements: []edn.Field{
		{Schema: &edn.Schema{Values: map[int64]string{-16: "SHA-256", -43: "SHA-384", -44: "SHA-512", 1: "sha-256", 7: "sha-384", 8: "sha-512"}}},
		{Schema: opaque},
	}}
}

func referenceSchema() *edn.Schema {
	return &edn.Schema{Name: "SUIT_Reference", Elements: []edn.Field{{Name: "uri"}, {Name: "digest", Schema: digestSchema()}}}
}

func measuredSchema() *edn.Schema {
	return &edn.Schema{Name: "measured-component", Members: map[int64]edn.Field{
		1: {Name: "id", Schema: &edn.Schema{Elements: []edn.Field{{Name: "name"}, {Name: "version"}}}},
		2: {Name: "measurement", Schema: digestSchema()},
	}}
}

func vectorSchema() *edn.Schema {
	return &edn.Schema{Members: map[int64]edn.Field{
		0: {Name: "instance-identity"}, 1: {Name: "configuration"}, 2: {Name: "executables"}, 3: {Name: "file-system"},
		4: {Name: "hardware"}, 5: {Name: "runtime-opaque"}, 6: {Name: "storage-opaque"}, 7: {Name: "sourced-data"},
	}}
}
