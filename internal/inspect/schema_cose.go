package inspect

import "github.com/go-teep/teep/internal/edn"

// headerSchema names header parameters (RFC 9052 §3.1, RFC 9053 §6, RFC 9360).
func headerSchema(s *schemas) *edn.Schema {
	return &edn.Schema{Members: map[int64]edn.Field{
		1: {Name: "alg", Schema: s.algorithm}, 2: {Name: "crit"}, 3: {Name: "content type"},
		4: {Name: "kid", Schema: s.opaque}, 5: {Name: "IV", Schema: s.opaque}, 6: {Name: "Partial IV", Schema: s.opaque},
		11: {Name: "countersignature"}, 16: {Name: "typ"},
		33:  {Name: "x5chain", Schema: &edn.Schema{Opaque: true, Rest: edn.Field{Schema: s.opaque}}},
		34:  {Name: "x5t"},
		-1:  {Name: "ephemeral key", Schema: s.key},
		-20: {Name: "salt", Schema: s.opaque},
		-21: {Name: "PartyU identity", Schema: s.opaque}, -22: {Name: "PartyU nonce", Schema: s.opaque}, -23: {Name: "PartyU other", Schema: s.opaque},
		-24: {Name: "PartyV identity", Schema: s.opaque}, -25: {Name: "PartyV nonce", Schema: s.opaque}, -26: {Name: "PartyV other", Schema: s.opaque},
	}}
}

// coseSchemas describes the six messages of RFC 9052.
func coseSchemas(s *schemas) map[Kind]*edn.Schema {
	layer := func(name string, rest ...edn.Field) *edn.Schema {
		return &edn.Schema{Name: name, Elements: append([]edn.Field{
			{Name: "protected", Schema: &edn.Schema{Wraps: s.headers}}, {Name: "unprotected", Schema: s.headers}}, rest...)}
	}
	payload := edn.Field{Name: "payload", Schema: s.payload}
	signature := edn.Field{Name: "signature", Schema: s.opaque}
	ciphertext := edn.Field{Name: "ciphertext", Schema: s.opaque}
	macTag := edn.Field{Name: "tag", Schema: s.opaque}
	recipient := layer("COSE_recipient", edn.Field{Name: "encrypted key", Schema: s.opaque})
	recipient.Elements = append(recipient.Elements, edn.Field{Name: "recipients", Schema: &edn.Schema{Rest: edn.Field{Schema: recipient}}})
	recipients := edn.Field{Name: "recipients", Schema: &edn.Schema{Rest: edn.Field{Schema: recipient}}}
	signatures := edn.Field{Name: "signatures", Schema: &edn.Schema{Rest: edn.Field{Schema: layer("COSE_Signature", signature)}}}
	return map[Kind]*edn.Schema{
		KindSign1:    layer("COSE_Sign1", payload, signature),
		KindSign:     layer("COSE_Sign", payload, signatures),
		KindMac0:     layer("COSE_Mac0", payload, macTag),
		KindMac:      layer("COSE_Mac", payload, macTag, recipients),
		KindEncrypt0: layer("COSE_Encrypt0", ciphertext),
		KindEncrypt:  layer("COSE_Encrypt", ciphertext, recipients),
	}
}
