// Package sandbox is the default TEE: a process of its own on the device, with sealed storage in
// one folder that only it can read, and applications in WebAssembly.
//
//	hardening := sandbox.Harden()
//	t, err := sandbox.Open(ctx, sandbox.Config{
//		Dir:       "/var/lib/teep-agent",
//		Identity:  sandbox.Identity{OEMID: oemid, HWModel: []byte("gateway"), ClassID: class},
//		Rand:      rand.Reader,
//		Now:       time.Now,
//		Hardening: &hardening,
//	})
//	defer t.Close()
//
// At its first start the TEE makes a device secret, a UEID and its keys, inside, and seals the
// latter under the former. None of them ever leaves the process; [tee.Keys] lends their use.
//
// What protects it is the boundary between processes, as the kernel draws it, and the
// permissions of the folder. That keeps out other users' programs and whoever gets at the sealed
// files without the device secret. It does not keep out the device's administrator, and the TEE
// says so: [tee.Identity].Weaknesses names every protection that is missing, and goes into the
// Evidence, so that whoever relies on the TEE decides with open eyes.
package sandbox
