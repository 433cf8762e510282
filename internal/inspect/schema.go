package inspect

import (
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/edn"
)

// schemas names the parts of every structure for diagnostic notation. They refer to each other,
// because almost everything can carry almost everything.
type schemas struct {
	any       *edn.Schema // whatever kindOf finds
	opaque    *edn.Schema // bytes that are no CBOR however they look
	algorithm *edn.Schema
	headers   *edn.Schema
	key       *edn.Schema
	claims    *edn.Schema
	bundle    *edn.Schema
	wrapped   *edn.Schema // a byte string that wraps anything
	payload   *edn.Schema // a byte string that wraps one of the structures, or is opaque

	suit suitSchemas
	teep teepSchemas
	cose map[Kind]*edn.Schema
}

func newSchemas() *schemas {
	s := &schemas{opaque: &edn.Schema{Opaque: true}}
	s.any = &edn.Schema{Select: s.choose}
	s.wrapped = &edn.Schema{Wraps: s.any, Select: s.chooseWrapped}
	s.payload = &edn.Schema{Select: s.choosePayload}
	s.algorithm = &edn.Schema{Values: algorithmNames()}
	s.key = keySchema(s)
	s.headers = headerSchema(s)
	s.claims = eat.ClaimsSchema()
	s.nameConfirmation()
	s.bundle = &edn.Schema{Name: "Detached-EAT-Bundle", Elements: []edn.Field{
		{Name: "main-token", Schema: s.wrapped},
		{Name: "detached-claims-sets", Schema: &edn.Schema{Other: edn.Field{Schema: &edn.Schema{Wraps: s.claims}}}},
	}}
	s.cose = coseSchemas(s)
	s.suit = newSUITSchemas(s)
	s.teep = newTEEPSchemas(s)
	return s
}

// nameConfirmation lets the claims' key be shown as one.
func (s *schemas) nameConfirmation() {
	const labelConfirmation, confirmKey = 8, 1
	cnf, ok := s.claims.Members[labelConfirmation]
	if !ok || cnf.Schema == nil {
		return
	}
	if f, ok := cnf.Schema.Members[confirmKey]; ok {
		f.Schema = s.key
		cnf.Schema.Members[confirmKey] = f
	}
}

// choose returns the schema for an item by what it is.
func (s *schemas) choose(data []byte) *edn.Schema {
	it, err := parse(data)
	if err != nil {
		return nil
	}
	return s.of(&it)
}

func (s *schemas) of(it *item) *edn.Schema {
	switch k := kindOf(it); k {
	case KindTEEP:
		return s.teep.message(messageType(it))
	case KindEnvelope:
		return s.suit.envelope
	case KindManifest:
		return s.suit.manifest
	case KindReport:
		return s.suit.report
	case KindClaims:
		return s.claims
	case KindBundle:
		return s.bundle
	case KindKey:
		return s.key
	case KindKeySet:
		return &edn.Schema{Name: "COSE_KeySet", Rest: edn.Field{Schema: s.key}}
	default:
		return s.cose[k]
	}
}

// choosePayload opens a byte string whose content nobody declares, such as an integrated payload,
// if it has the form of one of the structures.
func (s *schemas) choosePayload(data []byte) *edn.Schema {
	outer, err := parse(data)
	if err != nil || !outer.is(majorBytes) {
		return s.any
	}
	if inner, err := parse(outer.content); err == nil && kindOf(&inner) != KindCBOR {
		return &edn.Schema{Wraps: s.of(&inner)}
	}
	return s.opaque
}

// chooseWrapped names what a byte string wraps.
func (s *schemas) chooseWrapped(data []byte) *edn.Schema {
	outer, err := parse(data)
	if err != nil || !outer.is(majorBytes) {
		return s.any
	}
	if inner, err := parse(outer.content); err == nil {
		if schema := s.of(&inner); schema != nil {
			return &edn.Schema{Wraps: schema}
		}
	}
	return nil
}

func algorithmNames() map[int64]string {
	names := map[int64]string{}
	for _, a := range []cose.Algorithm{
		cose.AlgESP256, cose.AlgESP384, cose.AlgEd25519, cose.AlgES256, cose.AlgES384, cose.AlgEdDSA,
		cose.AlgHSSLMS, cose.AlgMLDSA65, cose.AlgHMAC256, cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305,
		cose.AlgA128CTR, cose.AlgA256CTR, cose.AlgDirect, cose.AlgA128KW, cose.AlgA256KW,
		cose.AlgECDHESA128KW, cose.AlgECDHESA256KW, cose.AlgSHA256, cose.AlgSHA384, cose.AlgSHA512,
	} {
		names[int64(a)] = a.String()
	}
	return names
}

// keySchema names the parts of COSE_Key by key type (RFC 9052 §7, RFC 9053 §7).
func keySchema(s *schemas) *edn.Schema {
	members := func(extra map[int64]string) *edn.Schema {
		m := map[int64]edn.Field{
			1: {Name: "kty", Schema: &edn.Schema{Values: map[int64]string{1: "OKP", 2: "EC2", 3: "RSA", 4: "Symmetric", 5: "HSS-LMS", 7: "AKP"}}},
			2: {Name: "kid", Schema: s.opaque}, 3: {Name: "alg", Schema: s.algorithm},
			4: {Name: "key_ops", Schema: &edn.Schema{Rest: edn.Field{Schema: &edn.Schema{Values: map[int64]string{
				1: "sign", 2: "verify", 3: "encrypt", 4: "decrypt", 5: "wrap key", 6: "unwrap key", 7: "derive key",
				8: "derive bits", 9: "MAC create", 10: "MAC verify"}}}}},
			5: {Name: "Base IV", Schema: s.opaque},
		}
		for label, name := range extra {
			m[label] = edn.Field{Name: name, Schema: s.opaque}
		}
		if extra[-1] == "crv" {
			m[-1] = edn.Field{Name: "crv", Schema: &edn.Schema{Values: map[int64]string{
				1: "P-256", 2: "P-384", 3: "P-521", 4: "X25519", 5: "X448", 6: "Ed25519", 7: "Ed448"}}}
		}
		return &edn.Schema{Name: "COSE_Key", Members: m}
	}
	types := map[int64]*edn.Schema{
		ktyOKP:       members(map[int64]string{-1: "crv", -2: "x", -4: "d"}),
		ktyEC2:       members(map[int64]string{-1: "crv", -2: "x", -3: "y", -4: "d"}),
		ktyRSA:       members(map[int64]string{-1: "n", -2: "e", -3: "d"}),
		ktySymmetric: members(map[int64]string{-1: "k"}),
		5:            members(map[int64]string{-1: "pub"}),
		ktyAKP:       members(map[int64]string{-1: "pub", -2: "priv"}),
	}
	plain := members(nil)
	plain.Select = func(data []byte) *edn.Schema {
		it, err := parse(data)
		if err != nil {
			return nil
		}
		if kty := it.value(keyType); kty != nil {
			n, _ := kty.int64()
			return types[n]
		}
		return nil
	}
	return plain
}
