package vm

import (
	"context"
	"errors"

	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
)

// Open builds walls around the process, so that what breaks out of the runtime of applications has not the
// machine, and opens the TEE on the disk with the sealed state. The channel is that of Serve, which has
// to be open before; systemCalls are those that the key source needs besides an agent's. The folder, the confinement and the boundary
// in the configuration are the machine's to say; the key source is required, because a secret in a
// file would lie on the host's disk.
func (m *Machine) Open(ctx context.Context, c sandbox.Config, k Keeper, channel Channel, systemCalls ...string) (*sandbox.TEE, error) {
	if c.Keys == nil {
		return nil, errors.New("vm: what the state is sealed under is not configured: sealing.key")
	}
	if err := m.MountState(); err != nil {
		return nil, err
	}
	// From here on there is no way to another device.
	if err := m.openChannel(channel); err != nil {
		return nil, err
	}
	report, err := confine.EnterMachine([]string{StateDir, reports}, systemCalls)
	if err != nil {
		return nil, err
	}
	m.log.Info("confined", "landlock-abi", report.LandlockABI, "missing", len(report.Missing))
	c.Dir, c.Confinement, c.Boundary = StateDir, report, k.Weaknesses()
	return sandbox.Open(ctx, c)
}

// reports is where the kernel has the processor's reports (configfs-tsm).
const reports = "/sys/kernel/config/tsm"
