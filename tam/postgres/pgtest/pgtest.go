// Package pgtest starts a PostgreSQL server for a test: a real one, from the distribution's package,
// in a folder of its own, on a Unix socket only.
//
//	server := pgtest.Start(t)
//	store, err := postgres.Open(ctx, server.Database(t), postgres.Options{})
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL server. It ends with its test.
type Server struct {
	dir, bin  string
	owner     *syscall.Credential
	databases int
	settings  []string
	cmd       *exec.Cmd
	done      chan struct{}
	killed    bool // once, by Kill
}

// role is the server's superuser, who may only come from this machine's socket.
const role = "teep"

// Start starts a server. Where PostgreSQL is not installed the test is skipped with a line that says
// so; with CI=true it is installed, and the test fails if it cannot be.
//
// What it acknowledges survives Stop, but no loss of power, unless one of the settings is "fsync=on":
// that is for measurements.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin, err := find()
	if err != nil && os.Getenv("CI") == "true" {
		if out, err := exec.Command("apt-get", "install", "-y", "--no-install-recommends", "postgresql").CombinedOutput(); err != nil {
			t.Fatalf("PostgreSQL is not installed and cannot be: %v\n%s", err, out)
		}
		if bin, err = find(); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Skipf("skipped: %v; 'apt-get install postgresql' makes this test run", err)
	}
	// Not t.TempDir, whose parent only this user may enter; the server refuses to run as root.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir, bin: bin, settings: settings}
	t.Cleanup(func() {
		s.Stop(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.drop(t)
	// trust: only the socket's folder leads here, and only its owner may enter that.
	s.run(t, "initdb", "--auth=trust", "--username="+role, "--encoding=UTF8", "--no-sync", "-D", s.data())
	s.Run(t)
	return s
}

func find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL server is installed: %w", err)
	}
	return filepath.Dir(path), nil
}

// drop chooses an unprivileged user when this is root.
func (s *Server) drop(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr != nil || gidErr != nil {
			continue
		}
		s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("there is no user postgres or nobody to run PostgreSQL as")
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *Server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Run starts the server after Stop, with the data that it had.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=",
		"-c", "max_connections=100", "-c", "shared_buffers=32MB", "-c", "fsync=off", "-c", "full_page_writes=off"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting) // the last one of a name counts
	}
	s.cmd = s.command("postgres", args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.begin(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			_ = c.Close(ctx)
			return
		}
		ended := s.done
		if s.killed { // what is left of the one before may still hold its memory: it begins again
			ended = nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond): // there is nothing to wait for but that it answers
			select {
			case <-s.done:
				again := s.command("postgres", s.cmd.Args[1:]...)
				again.Stdout, again.Stderr = log, log
				s.cmd = again
				s.begin(t)
			default:
			}
			continue
		}
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("PostgreSQL does not answer: %v\n%s", err, text)
	}
}

// begin starts the process.
func (s *Server) begin(t testing.TB) {
	t.Helper()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}(s.cmd, s.done)
}

// Kill ends the server as kill -9 does: its first process, which cannot tell the others. Run starts it again.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Logf("killing PostgreSQL: %v", err)
	}
	<-s.done
	s.cmd, s.killed = nil, true
}

// Stop kills the server as a crash would, unless it stands still already.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	// SIGQUIT is an immediate shutdown: all sessions end, nothing is tidied up, the next start recovers.
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Logf("stopping PostgreSQL: %v", err)
	}
	<-s.done
	s.cmd = nil
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	s.databases++
	name := fmt.Sprintf("db%d", s.databases)
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}

func (s *Server) url(database string) string {
	q := url.Values{"host": {s.dir}, "user": {role}}
	return "postgres:///" + database + "?" + q.Encode()
}
