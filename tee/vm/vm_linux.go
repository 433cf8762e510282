package vm

import (
	"context"
	"errors"

	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
)

// Open opens the TEE on the disk with the sealed state. The folder, the confinement and the boundary
// in the configuration are the machine's to say; the key source is required, because a secret in a
// file would lie on the host's disk.
func (m *Machine) Open(ctx context.Context, c sandbox.Config, k Keeper) (*sandbox.TEE, error) {
	if c.Keys == nil {
		return nil, errors.New("vm: what the state is sealed under is not configured: sealing.key")
	}
	if err := m.MountState(); err != nil {
		return nil, err
	}
	c.Dir, c.Confinement, c.Boundary = StateDir, &confine.Report{}, k.Weaknesses()
	return sandbox.Open(ctx, c)
}
