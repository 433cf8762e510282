package confine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// insideMachine names the folder that the process of TestMachineWalls keeps.
const insideMachine = "TEEP_TEST_MACHINE_FOLDER"

// TestMachineWalls plays a program that broke out of the runtime of applications in the one process of a
// machine: a process of its own builds the walls and then tries what must fail.
func TestMachineWalls(t *testing.T) {
	if dir := os.Getenv(insideMachine); dir != "" {
		breakOut(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("the first process of a machine is root: run the tests as root")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "other"), []byte("a file of the machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept")
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestMachineWalls$", "-test.v")
	cmd.Env = []string{insideMachine + "=" + kept}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "walls stand") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func breakOut(t *testing.T, dir string) {
	report, err := EnterMachine([]string{dir, "/there/is/none"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, wall := range []Wall{WallNotDumpable, WallNoNewPrivs, WallLimits} {
		if why := report.Missing[wall]; why != "" {
			t.Errorf("%s: %s", wall, why)
		}
	}
	files, calls := report.Missing[WallLandlock] == "", report.Missing[WallSeccomp] == ""
	for _, attempt := range []struct {
		what  string
		holds bool
		try   func() error
	}{
		{"read another file", files, func() error { return readable(filepath.Join(dir, "..", "other")) }},
		{"read a device", files, func() error { return readable("/dev/null") }},
		{"read the kernel's memory", true, func() error { return readable("/proc/kcore") }},
		{"write to the program", files, func() error { return os.WriteFile("/init", nil, 0o600) }},
		{"change the kernel's settings", files, func() error { return os.WriteFile("/proc/sys/kernel/printk", []byte("7"), 0) }},
		{"open a socket", calls, func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err }},
		{"start a program", calls, func() error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() }},
		{"mount", true, func() error { return unix.Mount("none", dir, "tmpfs", 0, "") }},
		{"load a module", true, func() error { return unix.InitModule(nil, "") }},
		{"get a privilege back", true, func() error {
			return onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
		}},
		{"make memory that is written and executed", calls, func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
			return err
		}},
		{"be dumpable again", calls, func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
	} {
		if err := attempt.try(); err == nil && attempt.holds {
			t.Errorf("it could %s", attempt.what)
		}
	}
	name := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(name, []byte("content"), 0o600), readable(name), os.Remove(name)); err != nil {
		t.Errorf("it lost its own folder: %v", err)
	}
	if !t.Failed() {
		fmt.Println("walls stand")
	}
}

func readable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	_, err = f.Read(make([]byte, 1))
	return errors.Join(err, f.Close())
}
