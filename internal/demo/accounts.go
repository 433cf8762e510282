package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// brokerID is whom the broker runs as when root tells the story: a number that Linux distributions
// give to nobody, next to that of the agent. Then the kernel keeps the two apart. An ordinary user
// has one account, and everything runs under it.
const brokerID = 60988

func (s *story) brokerAccount() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: brokerID, Gid: brokerID}
}

// brokerLine tells the agent who may use its socket.
func (s *story) brokerLine() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return fmt.Sprintf("broker: \"%d\"\n", brokerID)
}

// openToOthers lets the broker's account reach the device's folder, and the programs; what is secret
// in there is closed by itself.
func (s *story) openToOthers() error {
	if os.Geteuid() != 0 {
		return nil
	}
	device := s.path("device")
	if err := os.Chown(device, brokerID, brokerID); err != nil {
		return err
	}
	return os.Chmod(s.dir, 0o711)
}

// checkBoundary tries to read the TEE's folder with the account of the broker.
func (s *story) checkBoundary(ctx context.Context) error {
	if s.brokerAccount() == nil {
		s.tell("the broker runs under the same account as the agent here: run this as root to see the kernel keep them apart")
		return nil
	}
	secret := s.path("device", "state", "device-secret")
	cmd := exec.CommandContext(ctx, "cat", secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.brokerAccount()}
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("ermission denied")) {
		return fmt.Errorf("the broker's account was not kept from reading %s: %s", filepath.Base(secret), out)
	}
	s.tell("the broker's account cannot read that folder: permission denied")
	return nil
}
