// Package sandbox is the default TEE: a process of its own on the device, with sealed storage in
// one folder that only it can read, and applications in WebAssembly.
//
//	inside, err := confine.Enter()
//	t, err := sandbox.Open(ctx, sandbox.Config{
//		Dir:         ".",
//		Identity:    sandbox.Identity{OEMID: oemid, HWModel: []byte("gateway"), ClassID: class},
//		Rand:        rand.Reader,
//		Now:         time.Now,
//		Confinement: &inside.Report,
//	})
//	defer t.Close()
//
// At its first start the TEE makes a device secret, a UEID and its keys, inside, and seals the
// latter under the former. None of them ever leaves the process; [tee.Keys] lends their use.
//
// What protects it is the boundary between processes, as the kernel draws it (package confine builds
// the walls), the permissions of the folder, and memory for keys that others cannot read (package
// secretmem). That keeps out other programs, and whoever gets at the sealed files without the device
// secret. It does not keep out the device's administrator, nor, from the folder, programs of the user
// that it runs as: give it a user of its own. The TEE says so: [tee.Identity].Weaknesses names every protection that is missing, and goes into the
// Evidence, so that whoever relies on the TEE decides with open eyes.
package sandbox
