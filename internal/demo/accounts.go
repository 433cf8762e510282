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
	// Beside a machine, that is the boundary.
	if os.Geteuid() != 0 || !reachable(s.dir) || s.inMachine() {
		return nil
	}
	return &syscall.Credential{Uid: brokerID, Gid: brokerID}
}

// reachable tells whether every account can pass through the folders above dir.
func reachable(dir string) bool {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		st, err := os.Stat(parent)
		if err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if parent == filepath.Dir(parent) {
			return true
		}
	}
}

// brokerLine tells the agent who may use its socket.
func (s *story) brokerLine() string {
	if s.brokerAccount() == nil {
		return ""
	}
	return fmt.Sprintf("broker: \"%d\"\n", brokerID)
}

// openToOthers gives the device's folder to the broker's account, with a copy of its program: that of
// the build may be in a folder that nobody else can enter. What is secret in there is closed by itself.
func (s *story) openToOthers() error {
	if s.brokerAccount() == nil {
		return nil
	}
	program, err := os.ReadFile(s.program("teep-broker"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("device", "teep-broker"), program, 0o755); err != nil {
		return err
	}
	if err := os.Chown(s.path("device"), brokerID, brokerID); err != nil {
		return err
	}
	return os.Chmod(s.dir, 0o711)
}

// giveToBroker lets the broker's account read its configuration.
func (s *story) giveToBroker(name string) error {
	if s.brokerAccount() == nil {
		return nil
	}
	return os.Chown(s.path("device", name), brokerID, brokerID)
}

// brokerProgram is the copy that the broker's account can run, where there is one.
func (s *story) brokerProgram() string {
	if s.brokerAccount() == nil {
		return s.program("teep-broker")
	}
	return s.path("device", "teep-broker")
}

// checkBoundary tries to read the TEE's folder with the account of the broker.
func (s *story) checkBoundary(ctx context.Context) error {
	if s.inMachine() {
		s.tell("the broker is outside the machine, whose only ways in and out are the link, the disk and the console")
		return nil
	}
	if s.brokerAccount() == nil {
		s.tell("the broker runs under the same account as the agent here: run this as root, in /tmp, to see the kernel keep them apart")
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
