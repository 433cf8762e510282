// Package cose signs, verifies, encrypts and decrypts CBOR objects (COSE, RFC 9052 and RFC 9053).
//
// Use these two functions: [Sign1] makes a signed message, [Verify] checks one and returns its
// payload together with the key that signed it.
//
//	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
//	signer, err := key.Signer()
//	msg, err := cose.Sign1(rand.Reader, []byte("payload"), signer, cose.SignOptions{})
//
//	trusted, err := cose.NewKeySet(key.Public())
//	verified, err := cose.Verify(msg, trusted, cose.VerifyOptions{})
//	// verified.Payload, verified.Key, verified.Algorithm
//
// The rest of the package follows the same pattern:
//
//   - [Key] is a COSE_Key. It comes from [GenerateKey], [ParseKey], [ParsePEM] or a key of the
//     standard library, and gives out a [Signer], a [Verifier], its thumbprint (RFC 9679) or PEM.
//   - [SignMulti] makes a COSE_Sign with several signatures. [Verify] reads it too.
//   - [NewSigner] wraps any crypto.Signer, so keys may stay in a token or a key service.
//   - [Mac0] and [VerifyMac0] authenticate with a shared key.
//   - [Encrypt0] and [Decrypt0] use a shared content key. [Encrypt] and [Decrypt] make a fresh
//     content key and wrap it for recipients: [A128KWRecipient], [A256KWRecipient],
//     [ECDHESRecipient].
//   - [ParseEncrypt], [WrapContentKey], [NewContentReader] and [NewContentWriter] are for payloads
//     that do not fit into memory.
//   - [CertificateKeys] takes the signer's key from a certificate chain in the message.
//
// # What is refused
//
// [Verify] accepts ESP256, ESP384 and Ed25519 and nothing else. The polymorphic algorithms of
// older peers (ES256, ES384, EdDSA) have to be named in [VerifyOptions], and so do the ciphers
// without authentication (A128CTR, A256CTR) in [DecryptOptions]. Critical headers that nobody
// understands, a header in both buckets, a signature algorithm outside the protected bucket,
// indefinite lengths, duplicate labels and anything beyond the sizes in limits.go are errors.
// Every error wraps one of the sentinels of this package.
//
// # Concurrency and ownership
//
// Keys, signers, verifiers and key sets do not change after they were made and are safe for
// concurrent use, provided that a wrapped crypto.Signer is. Functions do not keep or modify what
// they are given. Payloads and headers that are returned by parsers may share memory with the
// message: leave the message alone as long as they are in use.
package cose
