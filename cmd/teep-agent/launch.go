package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/tee/sandbox"
	"github.com/go-teep/teep/tee/sandbox/confine"
)

// The files that the confined process gets. collateral has no socket.
const (
	lockFile   = 0
	socketFile = 1
)

// task is what the launcher hands over to the confined process.
type task struct {
	Config     *configuration
	Serve      *serveTask
	Collateral *collateralTask
	Keys       *keysTask
	Enrol      *enrolTask
	Hardware   handedHardware
}

const (
	confinedName = "confined"
	// lockPatience is how long the confined process of a launcher that was killed may take to end.
	lockPatience = 5 * time.Second
	// defaultID is who the agent becomes when root starts it, no user is configured and there is no
	// account named agentName: a number that Linux distributions give to nobody.
	defaultID = 60989
)

// place is where tasks are carried out.
type place struct {
	// machine is the virtual machine that is the TEE; nil outside one.
	machine machine
	// inner is how the confined process ended that did not end well.
	inner confine.ExitError
}

// launch opens what the TEE needs from the device, and runs the task in a confined process; or, in a
// machine that is the TEE, in this one.
func launch(ctx context.Context, c *configuration, t task, at *place) error {
	t.Config = c
	if at.machine != nil {
		return runInMachine(ctx, &t, at.machine)
	}
	if c.Sealing.Key != "" && c.Sealing.Key != sealingDeviceSecret {
		return fmt.Errorf("%s: sealing.key %s is for an agent that is the first process of a virtual machine: remove it", c.Path, c.Sealing.Key)
	}
	who, err := c.account()
	if err != nil {
		return fmt.Errorf("%s: user: %w", c.Path, err)
	}
	lock, err := sandbox.Prepare(c.Dir, who.UID, who.GID, lockPatience)
	if err != nil {
		return err
	}
	defer lock.Close()
	files := []*os.File{lock}
	if t.Serve != nil {
		if err := t.Serve.read(c); err != nil {
			return err
		}
		// Its name is removed at the end; the launcher has another working directory by then.
		name, err := filepath.Abs(c.Socket)
		if err != nil {
			return err
		}
		socket, err := bindSocket(c.Socket)
		if err != nil {
			return err
		}
		if err := c.giveToBroker(); err != nil {
			return errors.Join(err, socket.Close(), os.Remove(name))
		}
		defer os.Remove(name)
		defer socket.Close()
		files = append(files, socket)
	}
	devices, opened, err := openHardware(ctx, c, &files)
	if err != nil {
		return err
	}
	defer opened.Close()
	t.Hardware = devices
	handover, err := json.Marshal(t)
	if err != nil {
		return err
	}
	without, err := confine.ParseWalls(c.InsecureWithout)
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // there is nothing to do from here on but to wait
	err = confine.Run(ctx, confine.Command{
		Args: []string{agentName, confinedName}, Dir: c.Dir, User: who, Files: files, Handover: handover, Without: without,
	})
	var exit *confine.ExitError
	if errors.As(err, &exit) {
		at.inner = *exit
		if exit.Code > 0 {
			return nil
		}
	}
	return err
}

// giveToBroker makes the broker's account the owner of the socket.
func (c *configuration) giveToBroker() error {
	if c.Broker == "" {
		return nil
	}
	who, err := lookup(c.Broker)
	if err == nil && who.UID != os.Geteuid() {
		err = os.Chown(c.Socket, who.UID, who.GID)
	}
	if err != nil {
		return fmt.Errorf("%s: broker: %w: only root can give the socket to another account", c.Path, err)
	}
	return nil
}

// account is who the confined process is: for an ordinary user, that user.
func (c *configuration) account() (confine.User, error) {
	if os.Geteuid() != 0 {
		if c.User != "" {
			if who, err := lookup(c.User); err != nil || who.UID != os.Geteuid() {
				return who, fmt.Errorf("only root can start the agent as user %s: start it as root, or remove \"user\"", c.User)
			}
		}
		return confine.User{UID: os.Geteuid(), GID: os.Getegid()}, nil
	}
	if c.User != "" {
		return lookup(c.User)
	}
	if who, err := lookup(agentName); err == nil {
		return who, nil
	}
	return confine.User{UID: defaultID, GID: defaultID}, nil
}

// lookup reads NAME, UID or UID:GID.
func lookup(text string) (confine.User, error) {
	uid, gid, both := strings.Cut(text, ":")
	if !both {
		gid = uid
	}
	u, uidErr := strconv.ParseUint(uid, 10, 31)
	g, gidErr := strconv.ParseUint(gid, 10, 31)
	if uidErr == nil && gidErr == nil {
		return confine.User{UID: int(u), GID: int(g)}, nil
	}
	account, err := user.Lookup(text)
	if err != nil {
		return confine.User{}, fmt.Errorf("%w: name an account of this device, or numbers UID:GID", err)
	}
	u, uidErr = strconv.ParseUint(account.Uid, 10, 31)
	g, gidErr = strconv.ParseUint(account.Gid, 10, 31)
	return confine.User{UID: int(u), GID: int(g)}, errors.Join(uidErr, gidErr)
}

// trustFile is what reading a file gave.
type trustFile struct {
	Content []byte
	Err     string
}

// readTrust reads the trust anchors and the files that they name. What is wrong with them matters at
// the first start only, and is said then, inside.
func (t *serveTask) readTrust(path string) error {
	if path == "" {
		return nil
	}
	var err error
	t.Trust, err = os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the sealed ones count; at the first start, the agent says that it needs them
	}
	if err != nil {
		return fmt.Errorf("trust anchors: %w", err)
	}
	t.TrustFiles = map[string]trustFile{}
	// The set is read again inside; here, only for the names in it.
	_, _ = trust.ParseYAML(t.Trust, func(name string) ([]byte, error) {
		content, err := os.ReadFile(config.Relative(path, name))
		file := trustFile{Content: content}
		if err != nil {
			file.Err = err.Error()
		}
		t.TrustFiles[name] = file
		return content, err
	})
	return nil
}

func (t *serveTask) readTrustFile(name string) ([]byte, error) {
	file, ok := t.TrustFiles[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s was not handed over", name)
	case file.Err != "":
		return nil, errors.New(file.Err)
	}
	return file.Content, nil
}

// confinedCommand is the other half of launch. It is of no use to anybody else.
func confinedCommand() *cobra.Command {
	return &cobra.Command{
		Use:    confinedName,
		Short:  "Do what the launcher hands over, confined",
		Hidden: true,
		Args:   program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inside, err := confine.Enter()
			if err != nil {
				return err
			}
			var t task
			if err := json.Unmarshal(inside.Handover, &t); err != nil {
				return fmt.Errorf("what the launcher handed over: %w", err)
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			go func() {
				<-inside.Orphaned
				cancel()
			}()
			return t.carryOut(ctx, &surroundings{Confined: inside}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// surroundings are what is around the task: the walls of a process, or a machine.
type surroundings struct {
	*confine.Confined
	machine machine // nil in a sandbox
}

// machine is a virtual machine that is the TEE.
type machine interface {
	open(ctx context.Context, c *configuration, s sandbox.Config) (*sandbox.TEE, error)
	serve(ctx context.Context, a link.Agent, o link.ServeOptions, d *desk) error
}

// carryOut does the task inside the TEE.
func (t *task) carryOut(ctx context.Context, inside *surroundings, stdout, stderr io.Writer) error {
	switch {
	case t.Collateral != nil:
		return printCollateral(ctx, t, inside, stdout)
	case t.Enrol != nil:
		return enrol(ctx, t, inside, stdout)
	case t.Keys != nil:
		return printKey(ctx, t, inside, stdout)
	}
	log, err := t.Serve.Logs.Logger(stderr)
	if err != nil {
		return err
	}
	return serve(ctx, t, inside, log)
}
