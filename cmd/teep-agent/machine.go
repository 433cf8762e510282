package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/attest/tpm"
)

// What the state of an agent in a virtual machine can be sealed under.
const (
	sealingTPM          = "tpm"
	sealingSNP          = "sev-snp"
	sealingDeviceSecret = "insecure-device-secret"
)

// checkMachine refuses mistakes in what is for agents in virtual machines.
func (c *configuration) checkMachine() error {
	switch keys := []string{sealingTPM, sealingSNP, sealingDeviceSecret}; {
	case c.Sealing.Key != "" && !slices.Contains(keys, c.Sealing.Key):
		return fmt.Errorf("sealing.key %q: write %s, %s or %s", c.Sealing.Key, keys[0], keys[1], keys[2])
	case c.Sealing.Key != sealingTPM && len(c.Sealing.PCRs) > 0:
		return fmt.Errorf("sealing.pcrs are of a TPM, and sealing.key is not %s", sealingTPM)
	case c.Sealing.Key != sealingTPM && c.Sealing.Approver != "":
		return fmt.Errorf("sealing.approver: a TPM checks approvals, and sealing.key is not %s", sealingTPM)
	case c.Sealing.Key == "" && c.Sealing.Version > 0:
		return errors.New("sealing.version is for an agent that is the first process of a virtual machine, where what booted is measured: remove it")
	case c.Channel != "" && c.Channel != "virtio-serial" && c.Channel != "vsock":
		return fmt.Errorf("channel %q: write virtio-serial or vsock", c.Channel)
	}
	for _, pcr := range c.Sealing.PCRs {
		if pcr < 0 || pcr >= tpm.MaxPCRs {
			return fmt.Errorf("sealing.pcrs: there is no PCR %d: they are 0 to %d", pcr, tpm.MaxPCRs-1)
		}
	}
	if c.Sealing.Key == sealingTPM && len(c.Sealing.PCRs) == 0 {
		c.Sealing.PCRs = tpm.DefaultPCRs()
	}
	return nil
}
