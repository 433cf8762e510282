package confine_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-teep/teep/tee/sandbox/confine"
)

type target struct {
	PID           int
	Secret, Plain uintptr
	Dir           string
}

func breakIn(t *testing.T, uid int, at target) map[string]string {
	t.Helper()
	name, err := intruder()
	must(t, err)
	text, err := json.Marshal(at)
	must(t, err)
	cmd := exec.Command(name, "break in", string(text))
	cmd.SysProcAttr, cmd.Dir = as(uid), "/"
	out, err := cmd.Output()
	must(t, err)
	var r result
	must(t, json.Unmarshal(out, &r))
	return r.Attempts
}

// TestAttacksFromOutside: another process of the very same user, which in the one case made the
// confined process's user namespace, reads nothing of it, changes nothing and debugs nothing.
func TestAttacksFromOutside(t *testing.T) {
	namespaces := []confine.Wall{confine.WallUserNamespace, confine.WallMountNamespace, confine.WallPIDNamespace,
		confine.WallNetNamespace, confine.WallIPCNamespace, confine.WallUTSNamespace}
	for _, l := range launchers(t) {
		t.Run(l.name+", on a kernel without namespaces", func(t *testing.T) {
			p := start(t, l, settings{Mode: "wait", Without: namespaces})
			p.need(t, confine.WallNotDumpable)
			child := childOf(t, p.cmd.Process.Pid)
			for what, failure := range breakIn(t, l.tee, target{PID: child, Secret: p.result.Secret, Plain: p.result.Plain, Dir: p.dir}) {
				if failure == "" && !strings.HasPrefix(what, "storage:") {
					t.Errorf("got through: %s", what)
				}
			}
		})
		t.Run(l.name, func(t *testing.T) {
			p := start(t, l, settings{Mode: "wait"})
			p.need(t, confine.WallNotDumpable)
			child := childOf(t, p.cmd.Process.Pid)
			for what, failure := range breakIn(t, l.tee, target{PID: child, Secret: p.result.Secret, Plain: p.result.Plain, Dir: p.dir}) {
				if failure == "" && !strings.HasPrefix(what, "storage:") {
					t.Errorf("got through: %s", what)
				}
			}
			// Nor into the launcher, through which one would get there.
			for what, failure := range breakIn(t, l.uid, target{PID: p.cmd.Process.Pid, Plain: 0x400000, Dir: p.dir}) {
				if l.uid != 0 && failure == "" && !strings.HasPrefix(what, "storage:") && what != "limits: set" {
					t.Errorf("got through to the launcher: %s", what)
				}
			}
		})
	}
}

// TestStorageIsClosedToOthers: another user's process.
func TestStorageIsClosedToOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	for _, l := range launchers(t) {
		t.Run(l.name, func(t *testing.T) {
			p := start(t, l, settings{Mode: "wait"})
			child := childOf(t, p.cmd.Process.Pid)
			for what, failure := range breakIn(t, stranger, target{PID: child, Secret: p.result.Secret, Plain: p.result.Plain, Dir: p.dir}) {
				if failure == "" {
					t.Errorf("got through: %s", what)
				}
			}
		})
	}
}

// TestSecretMemoryIsClosedToRoot: with memfd_secret, not even the administrator's debugger reads
// the page of keys, although it reads the rest.
func TestSecretMemoryIsClosedToRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whom it is to keep out")
	}
	p := start(t, launchers(t)[0], settings{Mode: "wait"})
	if p.result.Kind != "memfd_secret" {
		t.Skipf("this kernel does not give memfd_secret, but %s", p.result.Kind)
	}
	attempts := breakIn(t, 0, target{PID: childOf(t, p.cmd.Process.Pid), Secret: p.result.Secret, Plain: p.result.Plain, Dir: p.dir})
	for _, way := range []string{"memory: /proc/PID/mem", "memory: process_vm_readv", "memory: process_vm_writev"} {
		if failure := attempts[way+", plain"]; failure != "" {
			t.Errorf("%s does not work at all: %s", way, failure)
		}
		if attempts[way+", secret"] == "" {
			t.Errorf("got through: %s, secret", way)
		}
	}
}

// TestBreakInWorks: on a process without walls, of the same user.
func TestBreakInWorks(t *testing.T) {
	for _, l := range launchers(t) {
		v := victim(t, l.tee)
		for what, failure := range breakIn(t, l.tee, target{PID: v.PID, Plain: v.Plain, Dir: "/nowhere"}) {
			named := strings.HasPrefix(what, "memory:") || strings.HasPrefix(what, "debug: ptrace attach") || what == "proc: read maps" ||
				what == "proc: list fd" || strings.HasPrefix(what, "files:")
			if named && failure != "" {
				t.Errorf("%s: %s: %s: so the attack proves nothing", l.name, what, failure)
			}
		}
	}
}

// TestEndings: the confined process ends with SIGTERM, and dies with its launcher.
func TestEndings(t *testing.T) {
	for _, l := range launchers(t) {
		t.Run(l.name+"/SIGTERM", func(t *testing.T) {
			p := start(t, l, settings{Mode: "wait"})
			must(t, p.cmd.Process.Signal(syscall.SIGTERM))
			line, err := p.out.ReadString('\n')
			if err != nil || line != "ended by SIGTERM\n" {
				t.Errorf("%q, %v", line, err)
			}
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, p.stderr)
			}
		})
		t.Run(l.name+"/launcher killed", func(t *testing.T) {
			p := start(t, l, settings{Mode: "wait"})
			child := childOf(t, p.cmd.Process.Pid)
			must(t, p.cmd.Process.Kill())
			within(t, 5*time.Second, "the confined process is gone", func() bool {
				return errors.Is(syscall.Kill(child, 0), syscall.ESRCH)
			})
		})
		t.Run(l.name+"/exit code", func(t *testing.T) {
			p := start(t, l, settings{Mode: "crash"})
			err := p.cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 3 {
				t.Errorf("%v: %s", err, p.stderr)
			}
		})
	}
}

// TestConfinedAlone: the confined half cannot be started by anybody but a launcher.
func TestConfinedAlone(t *testing.T) {
	name, err := intruder()
	must(t, err)
	out, err := exec.Command(name, "confined").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nothing was handed over") {
		t.Fatalf("%v: %s", err, out)
	}
}
