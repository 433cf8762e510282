// Package image makes the image of a virtual machine that is a TEE: a kernel, an initramfs with the
// static agent as its first process, and what a verifier has to expect of a machine that boots it.
//
//	kernel, err := image.ReadKernelPackage(ctx, "linux-image-….deb")
//	img, err := image.Build(image.Options{Kernel: kernel, Agent: agent, Config: os.DirFS("device")})
//	err = img.Write("vm")
//
// The same inputs give the same bytes. [Image.PCRs] computes what a TPM holds after a measured boot
// of the image; [Image.References] writes that as reference values. Nothing here starts a machine:
// package broker/machine does.
//
// In the initramfs:
//
//	/init                    the agent, which knows by this name that it is the first process
//	/lib/modules/load        names of kernel modules, one a line, in the order in which they load
//	/lib/modules/<name>.ko   the modules
//	/etc/teep-agent/         its configuration: agent.yaml, and what that names
package image
