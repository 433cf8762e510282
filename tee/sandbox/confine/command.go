package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// User is an account by its numbers.
type User struct{ UID, GID int }

// Command is the confined process that a launcher wants.
type Command struct {
	// Args is its command line; Args[0] is a name only, the program is always this one.
	Args []string
	// Dir is the one folder that it gets. It exists, belongs to User, and is closed to others.
	// Run makes it the working directory of the launcher too.
	Dir string
	// User is who it runs as if the launcher is root. Otherwise it stays who it is.
	User User
	// Files are passed on, in order. The launcher keeps its own.
	Files []*os.File
	// Handover is what it is told: any bytes.
	Handover []byte
	// Without names walls that are left out, for debugging.
	Without []Wall
}

// Confined is what the confined process was given.
type Confined struct {
	Handover []byte
	Files    []*os.File
	// Measurement is the SHA-256 of the program that runs.
	Measurement []byte
	Report      Report
	// Orphaned is closed when the launcher is gone. The process is killed with its launcher
	// where the kernel does that; this is for where it does not.
	Orphaned <-chan struct{}
}

// handover is what the launcher writes into the pipe, as one JSON text.
type handover struct {
	Payload    []byte            `json:"payload"`
	Files      int               `json:"files"`
	Report     Report            `json:"report"`
	Without    []Wall            `json:"without"`
	Namespaces map[string]string `json:"namespaces"` // the launcher's
	// Become is who to become inside, for a launcher that is root on a kernel without user
	// namespaces.
	Become *User `json:"become,omitempty"`
	// Privileged says that the process is root outside, whatever it is inside.
	Privileged bool `json:"privileged"`
}

// The files of the confined process.
const (
	programFile  = 3 // what it runs, for reading
	handoverFile = 4
	firstFile    = 5
)

// ExitError says how a confined process ended that did not end well. What went wrong it has told
// itself.
type ExitError struct {
	// Code is its exit code, or -1 if it was killed.
	Code  int
	State string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("confine: the confined process ended: %s", e.State)
}

// attempt starts the process as start does, hands over, and waits for it.
func attempt(ctx context.Context, c Command, program *os.File, h handover, start func(*exec.Cmd) error) error {
	content, err := json.Marshal(h)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	cmd := exec.Command(programPath())
	cmd.Args = c.Args
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = append([]*os.File{program, r}, c.Files...)
	err = start(cmd)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return &startError{err}
	}
	stop := context.AfterFunc(ctx, func() {
		// It may have ended by itself: then there is nobody to tell.
		_ = cmd.Process.Signal(terminate)
	})
	defer stop()
	// If it dies before it has read everything, Wait knows why.
	_, _ = w.Write(content)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Code: exit.ExitCode(), State: exit.String()}
	}
	return err
}

// startError says that there was no process.
type startError struct{ err error }

func (e *startError) Error() string { return "confine: start the confined process: " + e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// environment keeps what steers the Go runtime and the time zone of logs, and nothing that others
// might have put there.
func environment(all []string) []string {
	kept := []string{}
	for _, e := range all {
		for _, prefix := range []string{"GOMAXPROCS=", "GOGC=", "GOMEMLIMIT=", "GOTRACEBACK=", "GODEBUG=", "TZ="} {
			if len(e) > len(prefix) && e[:len(prefix)] == prefix {
				kept = append(kept, e)
			}
		}
	}
	return kept
}

// receive reads what the launcher hands over, and watches that it lives.
func receive() (h handover, files []*os.File, orphaned <-chan struct{}, err error) {
	pipe := os.NewFile(handoverFile, "handover")
	dec := json.NewDecoder(pipe)
	if err := dec.Decode(&h); err != nil {
		return h, nil, nil, fmt.Errorf("confine: nothing was handed over (%w): this command is for the program itself; run 'serve'", err)
	}
	for i := range h.Files {
		files = append(files, os.NewFile(uintptr(firstFile+i), fmt.Sprintf("handed over %d", i)))
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer pipe.Close()
		var b [1]byte
		for {
			if _, err := pipe.Read(b[:]); err != nil {
				return
			}
		}
	}()
	// The zone is a file that is out of reach later.
	_, _ = time.Now().Local().Zone()
	return h, files, gone, nil
}
