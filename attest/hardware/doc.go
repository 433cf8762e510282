// Package hardware opens what a device has for attestation, as its agent's configuration says, and
// makes the one [attest.Attester] of it: an EAT that a key of the TEE signs, a quote of a TPM, or a
// report of the processor of a confidential virtual machine.
//
//	attestation:
//	  formats: [tpm, eat]                  # eat (the default), tpm, tsm; the preferred one first
//	  certificate-chain: attestation.pem   # eat: certifies the TEE's attestation key
//	  tpm:
//	    device: /dev/tpmrm0                # or the data socket of an emulator
//	    pcrs: [0, 4, 8, 9, 11]
//	    event-log: /sys/kernel/security/tpm0/binary_bios_measurements
//	    certificate-chain: ak.pem          # certifies the TPM's attestation key, if it was not enrolled
//
// It takes two steps, because a TEE that is confined cannot open devices. Outside, [Config.Open]
// opens them; inside, [New] uses what it got, in the same process or in another that was handed the
// files and the [Material]. [Hardware.UEID] is known before the TEE is made: a device goes by
// one UEID whatever the Evidence.
package hardware
