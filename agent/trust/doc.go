// Package trust is whom a TEEP Agent trusts, and for what: which TAMs may speak to it, which
// component signers may authorize which components, and which verifiers vouch for a TAM. It is
// the Trust Anchor Store of the agent and of the TEE (RFC 9397 §5.1, §5.2); it is not the hardware's
// root of trust, and it holds public keys only.
//
// A [Set] is written by hand as YAML ([ParseYAML]), kept and signed as CBOR ([ParseCBOR],
// [Set.Encode]). The first set comes from a file when the device is provisioned. Every later one
// is an anchor set that the administrator named in the set before signed ([Sign], [Open]), with a
// higher version number: only an authentic list from the device's administrator is accepted
// (RFC 9397 §5.1).
//
// A set in YAML:
//
//	version: 1
//	administrator: admin.pub.pem          # who may change this set; without it nobody can
//	tams:
//	  - name: example                     # owns what it installs, under this name
//	    uris: [https://tam.example/teep]
//	    keys: [tam-esp256.pub.pem, tam-ed25519.pub.pem]
//	    encryption-key: tam-ecdh.pub.pem  # Evidence and SUIT Reports are encrypted to it
//	    must-attest: true                 # it has to prove its own state first
//	    components: ["'acme'"]            # all that it may install; without it, anything
//	  - name: carrier
//	    uris: [https://tam.carrier.example/]
//	    certificate-authority: carrier-root.pem
//	    certificate-subject: tam.carrier.example
//	signers:
//	  - name: developer
//	    keys: [dev.pub.pem]
//	    components: ["'hello'"]           # prefixes; "*" for every component
//	  - name: vendor
//	    certificate-authorities: [vendor-code-ca.pem]   # whoever it certifies to sign code
//	    components: ["'vendor'"]
//	verifiers:
//	  - name: appraiser
//	    keys: [verifier.pub.pem]
//
// Keys are files beside the set or PEM blocks in its place.
package trust
