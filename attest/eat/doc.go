// Package eat makes and appraises Entity Attestation Tokens (RFC 9711) in the profile that TEEP
// defines (TEEP §5): the Evidence of an agent, and the Attestation Results of a verifier.
//
// Inside the TEE, an [Attester] signs Evidence with the attestation key and binds it to the key
// that signs TEEP messages:
//
//	a, err := eat.NewAttester(eat.AttesterConfig{Identity: id, Signer: attestationKey, …})
//	evidence, err := a.Attest(ctx, "", attest.Request{Nonce: challenge, AgentKey: agentKey})
//
// A [Verifier] checks who signed it, that it is fresh, and that it names the agent's key, compares
// it with reference values, and signs what it found as an Attestation Result:
//
//	v, err := eat.NewVerifier(eat.VerifierConfig{Endorsements: store, References: store, …})
//	result, err := v.Appraise(ctx, evidence, attest.Expectation{Nonce: challenge, AgentKey: k})
//
// Who relies on such a result checks it with [CheckResult] (TEEP §7.1.1.1, §7.2.1.1), whether it
// is a TAM or an agent that wants to know its TAM. [Encrypt] hides a token from those who carry it.
//
// # Where this profile is more exact than the texts
//
//   - The agent's measurement is a measured component in the measurements claim.
//   - Each installed Trusted Component is a submodule named by its component identifier (see
//     [ComponentLabel]), whose sw-name is its manifest's URI (TEEP §5), whose sw-version is the
//     manifest's sequence number, and whose manifests claim is its SUIT_Reference.
//   - SUIT_Reference and measured components have no Content-Format of their own yet;
//     application/cbor (60) stands in, as in the TEEP examples.
//   - An Attestation Result carries the EAR claims beside the claims of the TEEP profile. Its
//     eat_profile is TEEP's, as the TAM's media type is; the appraisal is the submodule
//     [AppraisalLabel].
//   - What has no registered claim is in the private range: [LabelWeaknesses], [LabelReasons],
//     [LabelEncryptionKey].
package eat
