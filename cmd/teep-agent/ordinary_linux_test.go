package main_test

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ordinaryUser is nobody in particular.
const ordinaryUser = 60994

// TestOrdinaryUser: who is not root runs the agent behind the same walls, from the first start on, and
// under that account alone.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("every other test of this package shows it: they do not run as root here")
	}
	d := newDevice(t, "")
	must(t, filepath.WalkDir(d.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, ordinaryUser, ordinaryUser)
	}))
	must(t, os.Chmod(d.dir, 0o700))
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser, Groups: []uint32{}}}
	collateral := d.command("collateral", "--owner", "Maker")
	collateral.SysProcAttr = as
	out, err := collateral.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "BEGIN PUBLIC KEY") {
		t.Fatalf("%v: %s", err, out)
	}
	cmd, log := d.command("serve"), &bytes.Buffer{}
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = as, log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("unix", filepath.Join(d.dir, "agent.sock"))
		if err == nil {
			must(t, conn.Close())
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v\n%s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
	if !strings.Contains(log.String(), "msg=confined") {
		t.Errorf("not confined:\n%s", log)
	}
	if !strings.Contains(log.String(), "missing=0") {
		t.Logf("this kernel lacks walls, which is said: package confine tests each:\n%s", log)
	}
	st, err := os.Stat(filepath.Join(d.dir, "state"))
	must(t, err)
	if owner := st.Sys().(*syscall.Stat_t).Uid; owner != ordinaryUser || st.Mode().Perm() != 0o700 {
		t.Errorf("the state belongs to %d, mode %o", owner, st.Mode().Perm())
	}
	// Another account than the own is root's to give.
	must(t, os.WriteFile(filepath.Join(d.dir, "agent.yaml"), []byte(configText+"user: \"60995\"\n"), 0o644))
	other := d.command("serve")
	other.SysProcAttr = as
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "only root can start the agent as user") {
		t.Errorf("%v: %s", err, out)
	}
}
