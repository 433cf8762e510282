// Package tpmseal seals the state of a TEE under a TPM 2.0: a random secret that the TPM gives out only
// while its platform configuration registers (PCRs) have the values of the first start, that is, to
// the same firmware, kernel and agent; and a counter in the TPM's non-volatile memory (NV), by which the
// store finds that it was put back to an older copy.
//
//	source := &tpmseal.Source{TPM: transport, PCRs: []int{0, 4, 8, 9, 11}}
//	t, err := sandbox.Open(ctx, sandbox.Config{Keys: source, …})
//
// # How
//
// The secret is a sealed object under a primary key of the owner hierarchy, with PolicyPCR as its only
// authorization (TPM 2.0 Part 1 §24, Part 3 §23.7). The TPM derives that primary key again at every
// start, from a seed that is gone when the TPM is cleared. The object lies on the disk, in the file
// "tpm-sealed-key", and is of use to this TPM alone. What passes between TEE and TPM is encrypted in a
// session, so that listening on the bus gains nothing.
//
// The counter is an NV index of type counter, which only counts up, and which starts above every count
// that the TPM has ever seen when it is made again. Its authorization value comes from the secret:
// nobody else can count, and a value that is read is authenticated by it, so that another index in its
// place is found.
//
// # What happens when
//
//   - Another agent, kernel, command line or firmware boots: ErrMeasurement; the state stays as it is.
//   - An update boots that the approver approved: the state opens as before, and the counter counts on.
//   - The TPM was cleared, or is another: ErrTPM; the state is lost.
//   - An older copy of the disk is put back, or the counter was removed: tee.ErrRollback.
//   - The machine crashes at any step: the next start finds the old or the new state.
//
// # Updates
//
// An update of the agent is another agent. A state that names an approver at its first start opens for what
// booted then, and for everything that the approver signed for: the object's policy is PolicyOR of
// PolicyPCR and PolicyAuthorize. [Approve] is the approver's side; what it returns is carried beside the
// image, over any way. The approver's key is as good as the state of every machine that names it.
//
// There is no taking back of an approval by itself. That a newer agent has opened the state keeps older ones
// away (seal.Config.Version): they refuse, by what is sealed inside and counted. An old agent whose very
// start can be subverted is not stopped by that; then the state has to begin anew with another approver.
package tpmseal
