// Package machine starts the virtual machine of a TEE with QEMU, watches it, and connects to the agent
// inside. It makes no difference between a machine that the processor protects from its host and one
// that it does not: it is the host, and nothing that it does is trusted inside.
//
//	m, err := machine.New(machine.Config{Image: "vm", State: "state.img", TPM: machine.TPMEmulated}, log)
//	go m.Run(ctx)                     // starts it, and again when it ends
//	conn, err := m.Dial(ctx)          // carries the frames of package link
//
// What runs outside the machine, beside QEMU, is an emulated TPM (swtpm) where one is asked for. The
// programs come from the packages that [Config.Prepare] names when they are missing.
package machine
