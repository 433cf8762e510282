package confine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-teep/teep/tee/sandbox/confine"
)

// The intruder's settings and results, as testdata/intruder has them.
type settings struct {
	Dir        string
	UID        int
	Without    []confine.Wall
	Mode       string
	Outside    string
	OutsidePID int
}

type result struct {
	Report        confine.Report
	Measurement   []byte
	PID, UID      int
	Files         int
	Secret, Plain uintptr
	Kind          string
	Attempts      map[string]string
}

var intruder = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "intruder")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "intruder")
	cmd := exec.Command("go", "build", "-o", name, "./testdata/intruder")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the intruder: %w\n%s", err, out)
	}
	return name, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if name, err := intruder(); err == nil {
		_ = os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(code)
}

// The users of the tests. As root, the tests run twice: with a launcher that is root, and one that is
// not.
const (
	dedicated = 60991
	ordinary  = 60992
	stranger  = 60993
)

// launcher is one way to start.
type launcher struct {
	name string
	uid  int // the launcher's
	tee  int // whom it becomes
}

func launchers(t *testing.T) []launcher {
	if os.Geteuid() == 0 {
		return []launcher{{"root", 0, dedicated}, {"ordinary user", ordinary, ordinary}}
	}
	t.Log("not root: the tests with a launcher that is root are left out")
	return []launcher{{"ordinary user", os.Geteuid(), os.Geteuid()}}
}

func as(uid int) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 && uid != 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: []uint32{}}
	}
	return attr
}

// process is a launcher that runs, and what its confined process said first.
type process struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr *bytes.Buffer
	result result
	dir    string
}

// start starts the intruder behind walls. What it is given is made for l.tee.
func start(t *testing.T, l launcher, s settings) *process {
	t.Helper()
	name, err := intruder()
	must(t, err)
	// Unlike t.TempDir, in reach of other users.
	top, err := os.MkdirTemp("", "confine")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	must(t, os.Chmod(top, 0o755))
	s.Dir, s.UID, s.Outside = filepath.Join(top, "folder"), l.tee, filepath.Join(top, "outside")
	must(t, os.WriteFile(s.Outside, []byte("for everybody"), 0o644))
	must(t, os.Mkdir(s.Dir, 0o700))
	must(t, os.WriteFile(filepath.Join(s.Dir, "sealed"), []byte("sealed"), 0o600))
	if os.Geteuid() == 0 {
		must(t, os.Chown(filepath.Join(s.Dir, "sealed"), l.tee, l.tee))
		must(t, os.Chown(s.Dir, l.tee, l.tee))
	}
	text, err := json.Marshal(s)
	must(t, err)
	p := &process{cmd: exec.Command(name, string(text)), stderr: &bytes.Buffer{}, dir: s.Dir}
	p.cmd.SysProcAttr, p.cmd.Stderr = as(l.uid), p.stderr
	p.cmd.Dir = "/"
	pipe, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = bufio.NewReader(pipe)
	must(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		_ = p.cmd.Wait()
		t.Fatalf("the confined process said nothing: %v\n%s", err, p.stderr)
	}
	must(t, json.Unmarshal(line, &p.result))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// need skips a test for a wall that this kernel cannot build, and says which.
func (p *process) need(t *testing.T, walls ...confine.Wall) {
	t.Helper()
	for _, w := range walls {
		if reason := p.result.Report.Missing[w]; reason != "" {
			t.Skipf("this kernel does not give %s: %s", w, reason)
		}
	}
}

// kernelHas is what this machine gives: the walls of an undisturbed start.
func kernelHas(t *testing.T, l launcher, w confine.Wall) bool {
	t.Helper()
	return start(t, l, settings{Mode: "report"}).result.Report.Missing[w] == ""
}

func TestEveryWallStands(t *testing.T) {
	for _, l := range launchers(t) {
		t.Run(l.name, func(t *testing.T) {
			p := start(t, l, settings{Mode: "report"})
			r := p.result.Report
			for w, reason := range r.Missing {
				t.Logf("this kernel does not give %s: %s", w, reason)
			}
			if os.Getenv("CI") == "true" && len(r.Missing) > 0 {
				t.Error("a wall is missing under CI=true")
			}
			if r.Missing[confine.WallLandlock] == "" && r.LandlockABI < 1 {
				t.Errorf("Landlock stands with version %d", r.LandlockABI)
			}
			if p.result.Files != 1 {
				t.Errorf("%d files were handed over", p.result.Files)
			}
			name, err := intruder()
			must(t, err)
			program, err := os.ReadFile(name)
			must(t, err)
			if want := sha256.Sum256(program); !bytes.Equal(p.result.Measurement, want[:]) {
				t.Errorf("measured %x; the program is %x", p.result.Measurement, want)
			}
			if r.Missing[confine.WallPIDNamespace] == "" && p.result.PID != 1 {
				t.Errorf("it is process %d in a namespace of its own", p.result.PID)
			}
		})
	}
}

// TestAttacksFromInside: nothing that a program in the confined process tries gets through, and
// what the agent needs works.
func TestAttacksFromInside(t *testing.T) {
	for _, l := range launchers(t) {
		t.Run(l.name, func(t *testing.T) {
			p := start(t, l, settings{Mode: "attack", OutsidePID: bystander(t, l)})
			p.need(t, confine.WallSeccomp, confine.WallLandlock, confine.WallMountNamespace)
			check(t, p.result.Attempts, "")
		})
	}
}

// check fails for what was allowed and must not be, and the other way round. kinds, if not empty,
// are the only ones looked at.
func check(t *testing.T, attempts map[string]string, kinds ...string) {
	t.Helper()
	if len(attempts) < 20 {
		t.Fatalf("only %d attempts were made", len(attempts))
	}
	for what, failure := range attempts {
		if strings.HasPrefix(what, "allowed: ") {
			if failure != "" {
				t.Errorf("%s: %s", what, failure)
			}
			continue
		}
		if failure == "" && slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(what, k) }) {
			t.Errorf("got through: %s", what)
		}
	}
}

// TestEachWallAlone takes the others away, as far as they stand in the way of the same attacks.
func TestEachWallAlone(t *testing.T) {
	namespaces := []confine.Wall{confine.WallUserNamespace, confine.WallMountNamespace, confine.WallPIDNamespace,
		confine.WallNetNamespace, confine.WallIPCNamespace, confine.WallUTSNamespace}
	for _, l := range launchers(t) {
		for _, c := range []struct {
			wall    confine.Wall
			without []confine.Wall
			holds   []string
		}{
			{confine.WallSeccomp, append(slices.Clone(namespaces), confine.WallLandlock),
				[]string{"socket:", "process:", "privilege:", "kernel:", "memory:"}},
			{confine.WallLandlock, append(slices.Clone(namespaces), confine.WallSeccomp),
				[]string{"file: read ", "file: write", "file: leave", "privilege: mount", "process: ptrace attach"}},
			{confine.WallMountNamespace, []confine.Wall{confine.WallLandlock, confine.WallSeccomp},
				[]string{"file: read ", "file: write outside", "file: write to /tmp", "file: leave"}},
			{confine.WallPIDNamespace, []confine.Wall{confine.WallLandlock, confine.WallSeccomp},
				[]string{"process: signal outside", "process: ptrace attach", "process: read memory", "process: pidfd"}},
			{confine.WallNetNamespace, []confine.Wall{confine.WallLandlock, confine.WallSeccomp},
				[]string{"socket: TCP", "socket: packet"}},
			{confine.WallUser, append(slices.Clone(namespaces), confine.WallLandlock, confine.WallSeccomp),
				[]string{"file: device", "privilege: mount", "privilege: unmount", "privilege: pivot", "privilege: chroot",
					"privilege: user", "privilege: group", "privilege: capability", "privilege: raise", "kernel: module", "kernel: host name", "kernel: clock", "socket: packet"}},
		} {
			t.Run(l.name+"/"+string(c.wall), func(t *testing.T) {
				if !kernelHas(t, l, c.wall) {
					t.Skipf("this kernel does not give %s", c.wall)
				}
				p := start(t, l, settings{Mode: "attack", Without: c.without, OutsidePID: bystander(t, l)})
				for _, w := range c.without {
					if p.result.Report.Missing[w] == "" {
						t.Errorf("%s was to be left out and is not reported missing", w)
					}
				}
				if reason := p.result.Report.Missing[c.wall]; reason != "" {
					t.Fatalf("%s is missing too: %s", c.wall, reason)
				}
				check(t, p.result.Attempts, c.holds...)
			})
		}
	}
}

// TestWithoutWallsTheAttacksWork: attacks that fail for another reason would prove nothing.
func TestWithoutWallsTheAttacksWork(t *testing.T) {
	l := launchers(t)[0]
	p := start(t, l, settings{Mode: "attack", OutsidePID: bystander(t, l), Without: []confine.Wall{
		confine.WallUserNamespace, confine.WallMountNamespace, confine.WallPIDNamespace, confine.WallNetNamespace,
		confine.WallIPCNamespace, confine.WallUTSNamespace, confine.WallLandlock, confine.WallSeccomp}})
	for _, what := range []string{"file: read etc/passwd", "file: read self/status", "file: write to /tmp", "file: leave by link", "socket: TCP", "socket: unix",
		"socket: netlink", "process: shell", "process: own program", "process: fork", "process: signal outside", "process: read memory",
		"process: pidfd", "privilege: dumpable again", "kernel: shared memory", "memory: written and executed", "memory: program in memory"} {
		if failure, made := p.result.Attempts[what]; !made || failure != "" {
			t.Errorf("%s does not even work without walls: %s", what, failure)
		}
	}
	_ = os.Remove("/tmp/teep-planted")
}

// bystander is a process outside, of the user that the confined process is.
func bystander(t *testing.T, l launcher) int {
	t.Helper()
	return victim(t, l.tee).PID
}

func victim(t *testing.T, uid int) result {
	t.Helper()
	name, err := intruder()
	must(t, err)
	cmd := exec.Command(name, "victim", "")
	cmd.SysProcAttr = as(uid)
	cmd.Dir = "/"
	_, err = cmd.StdinPipe()
	must(t, err)
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(pipe).ReadBytes('\n')
	must(t, err)
	var r result
	must(t, json.Unmarshal(line, &r))
	return r
}

// childOf returns the process that a launcher started.
func childOf(t *testing.T, launcher int) int {
	t.Helper()
	all, err := os.ReadDir("/proc")
	must(t, err)
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// pid (name) state ppid
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(launcher) {
			return pid
		}
	}
	t.Fatalf("launcher %d has no child", launcher)
	return 0
}

// within runs a check until it holds.
func within(t *testing.T, d time.Duration, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", d, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
