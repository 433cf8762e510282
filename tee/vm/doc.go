// Package vm is a TEE that is a virtual machine of its own: the agent is its first and only process,
// and the rest of the device, with the broker, is outside. It is the shape of a confidential virtual
// machine; on AMD SEV-SNP or Intel TDX the boundary is kept by the processor, elsewhere by the
// hypervisor, and the Evidence says which.
//
//	if vm.FirstProcess() {
//		machine, err := vm.Boot(logger)          // file systems, kernel modules, the disk, the ports
//		defer machine.PowerOff()
//		t, err := machine.Open(ctx, config, …)   // walls, and a tee.TEE
//		err = machine.Serve(ctx, agent, options) // until the machine ends
//	}
//
// The machine has no network. What leads in and out are the ports of the link (virtio-serial, or
// vsock where the image's configuration says so), a disk with sealed files, and a console that logs
// go to. All of them are the host's, and none is trusted; what is in the image (package image makes
// it) is trusted as far as it is measured.
//
// Inside, applications are kept apart by their runtime (package wasm), and what breaks out of that is in a
// process with the system calls of an agent, one folder and no other device (confine.EnterMachine), as far as
// the machine's kernel has these walls; the Evidence names what is missing.
//
// Ending the machine is loss of power, which the sealed store is made for (package seal).
package vm
