package machine

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// Names of the image's files, of the ports and of the disk, which the machine knows its devices by
// (package tee/vm).
const (
	kernelFile      = "vmlinuz"
	initramfsFile   = "initramfs.img"
	commandLineFile = "cmdline"

	approvalsFile = "approvals.cbor"

	linkPort      = "org.go-teep.link."
	ownerPort     = "org.go-teep.owner.0"
	stateDisk     = "teep-state"
	approvalsDisk = "teep-approvals"
)

// arguments is QEMU's command line. append is the kernel's.
func (c *Config) arguments(accelerator, commandLine string) []string {
	args := []string{
		// Nothing that is not named here: no network, no screen, no monitor, no file of somebody's.
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-name", "teep-agent", "-accel", accelerator, "-smp", "1", "-m", strconv.Itoa(c.MemoryMiB),
		"-serial", "stdio",
	}
	bus := "pci"
	if c.Machine == MachineMicroVM {
		bus = "device"
		args = append(args, "-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on,auto-kernel-cmdline=on")
	} else {
		args = append(args, "-M", "q35")
	}
	if accelerator == AcceleratorKVM {
		args = append(args, "-cpu", "host")
	} else {
		args = append(args, "-cpu", "max")
	}
	args = append(args,
		"-kernel", filepath.Join(c.Image, kernelFile), "-initrd", filepath.Join(c.Image, initramfsFile), "-append", commandLine,
	)
	if name := c.approvals(); name != "" {
		// Before the disk with the state: where that is found, this is.
		args = append(args, "-drive", "if=none,id=approvals,format=raw,readonly=on,file="+name,
			"-device", "virtio-blk-"+bus+",drive=approvals,serial="+approvalsDisk)
	}
	args = append(args,
		// A flush inside reaches the host's disk before it is acknowledged.
		"-drive", "if=none,id=state,format=raw,cache=writeback,file="+c.State,
		"-device", "virtio-blk-"+bus+",drive=state,serial="+stateDisk,
		"-device", "virtio-rng-"+bus,
	)
	args = append(args, c.linkArguments(bus)...)
	args = append(args, c.tpmArguments()...)
	return append(args, c.Arguments...)
}

func (c *Config) linkArguments(bus string) []string {
	if c.CID != 0 {
		return []string{"-device", fmt.Sprintf("vhost-vsock-%s,guest-cid=%d", bus, c.CID)}
	}
	args := []string{
		"-device", "virtio-serial-" + bus,
		// Before those of the link: where they are, it is.
		"-chardev", "socket,id=owner,path=" + c.ownerSocket() + ",server=on,wait=off",
		"-device", "virtserialport,chardev=owner,name=" + ownerPort,
	}
	for port := range c.Ports {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=link%d,path=%s,server=on,wait=off", port, c.socket(port)),
			"-device", fmt.Sprintf("virtserialport,chardev=link%d,name=%s%d", port, linkPort, port))
	}
	return args
}

// tpmArguments add a TPM, and the firmware that measures into it.
func (c *Config) tpmArguments() []string {
	if c.TPM == "" {
		return nil
	}
	args := []string{"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + c.Firmware}
	if c.FirmwareVariables != NoVariables {
		args = append(args, "-drive", "if=pflash,format=raw,unit=1,file="+c.variables())
	}
	if c.TPM == TPMEmulated {
		args = append(args, "-chardev", "socket,id=tpm,path="+c.tpmSocket(), "-tpmdev", "emulator,id=tpm0,chardev=tpm")
	} else {
		args = append(args, "-tpmdev", "passthrough,id=tpm0,path="+c.TPM)
	}
	return append(args, "-device", "tpm-crb,tpmdev=tpm0")
}
