// Package processor runs SUIT manifests: it verifies who signed one, checks that the signer may
// do what the manifest says, and then fetches, decrypts, verifies, installs, validates, loads,
// invokes and uninstalls components on a [Platform] that the caller provides.
//
//	p, err := processor.New(processor.Config{
//		Platform:   device,                            // suit/processor/memory has one for tests
//		Authority:  authority,                         // which key may touch which components
//		Components: []suit.ComponentID{suit.NewComponentID("app")},
//	})
//	report, err := p.Update(ctx, envelope, processor.UpdateOptions{Nonce: nonce})
//	report, err = p.Invoke(ctx, manifestID, processor.Options{})
//	report, err = p.Uninstall(ctx, manifestID, processor.Options{})
//
// The example of [Processor.Update] is that, whole: it verifies a manifest and runs it in ten lines.
//
// Every call returns a SUIT report, also when it fails; an error is always a [*Failure] that
// carries the reason of the report and the place in the manifest.
//
// # What it holds
//
//   - Nothing of a manifest is parsed before a signature of a key that the [Authority] knows was
//     verified, and nothing runs before the whole manifest passed the required checks (SUIT §6.2,
//     trust domains §required-checks) and was found within the signer's [Rights] (SUIT §9).
//   - No condition succeeds by default. What the platform cannot answer fails.
//   - A procedure is one [Tx]: its effects are visible and durable after it succeeded, or not at
//     all. The exception is the Invocation Procedure, which commits what suit-load prepared
//     before it starts a component.
//   - Sequence numbers are compared per manifest component identifier and never go back, also
//     not after an uninstall.
//   - Payloads stream in constant memory. Of a payload under an AEAD cipher nothing is visible
//     before its tag held. Content that came from outside is not committed before a digest or a
//     tag vouched for it.
//   - Commands run strictly in order, one at a time. Suit-parameter-strict-order is obeyed in
//     what it forbids; parallel execution is optional in the text (SUIT §6.6) and is not done.
//
// # Choices where the texts leave one
//
//   - suit-shared-sequence runs before each command sequence (SUIT §5.3.2), so that each section
//     starts from the same parameters.
//   - Installing the very manifest that is installed already is a success that changes nothing,
//     if its suit-validate section holds; if it does not, the manifest is applied again.
//   - A suit-directive-fetch whose source cannot be reached, or has something of another size,
//     counts inside suit-directive-try-each with soft failure as the failure of its sequence, so
//     that a manifest can name several mirrors. Every other failure of a directive aborts (SUIT §6.4).
//   - A sequence that fails softly leaves no parameters behind.
//   - suit-directive-invoke is accepted in the suit-invoke section only.
//   - Reports say, as system-property-claims of the manifest's own component, which procedure ran and
//     what was installed before; [Explain] reads that.
//   - The manifest-component-id of a dependency, if it has one, names its record, so that a
//     manifest that is installed for its own sake and as a dependency is one and the same.
//
// A [Processor] is safe for concurrent use as far as its Platform is; procedures that change
// the device run one at a time.
package processor
