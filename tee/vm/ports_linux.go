package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/link/owner"
	"github.com/go-teep/teep/link/serial"
	"github.com/go-teep/teep/link/vsock"
)

// Channel is what carries the link.
type Channel string

// Channels.
const (
	// ChannelSerial is every virtio-serial port whose name begins with LinkPort.
	ChannelSerial Channel = "virtio-serial"
	// ChannelVsock is vsock.Port.
	ChannelVsock Channel = "vsock"
)

// ParseChannel reads the name of a channel; empty means virtio-serial.
func ParseChannel(name string) (Channel, error) {
	switch c := Channel(name); c {
	case "":
		return ChannelSerial, nil
	case ChannelSerial, ChannelVsock:
		return c, nil
	}
	return "", fmt.Errorf("channel %q: write %s or %s", name, ChannelSerial, ChannelVsock)
}

// openChannel opens what Serve serves on.
func (m *Machine) openChannel(c Channel) (err error) {
	if c == ChannelVsock {
		if m.listener, err = vsock.Listen(vsock.Port); err != nil {
			return err
		}
		m.ownerListener, err = vsock.Listen(vsock.OwnerPort)
		return err
	}
	if m.ports, err = openPorts(); err != nil {
		return err
	}
	// The host makes this port before those of the link.
	found, err := findPorts(portClass, OwnerPort)
	if err != nil || len(found) == 0 {
		return err
	}
	m.owner, err = openDevices(found[:1])
	return err
}

// Serve answers the broker's calls, and the owner's questions, on the channel that Open has opened, until ctx
// or the channel ends.
func (m *Machine) Serve(ctx context.Context, agent link.Agent, o link.ServeOptions, desk owner.Agent) error {
	g, ctx := errgroup.WithContext(ctx)
	switch {
	case m.listener != nil:
		g.Go(func() error { return link.ServeListener(ctx, greeted{m.listener}, agent, o) })
		g.Go(func() error { return owner.Serve(ctx, greeted{m.ownerListener}, desk) })
		return g.Wait()
	case m.ports == nil:
		return errors.New("vm: there is no channel before the TEE is open")
	}
	for _, port := range m.owner {
		g.Go(func() error { return owner.Serve(ctx, serial.NewListener(port), desk) })
	}
	for _, port := range m.ports {
		g.Go(func() error { return link.ServeListener(ctx, serial.NewListener(port), agent, o) })
	}
	return g.Wait()
}

// greeted has connections begin with a greeting, which tells the host that the agent is there.
type greeted struct{ *vsock.Listener }

func (l greeted) Accept() (*greetedConn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &greetedConn{File: conn}, nil
}

// greetedConn waits for the greeting when it is first read, so that a host that does not greet keeps
// nobody else waiting.
type greetedConn struct {
	*os.File
	once  sync.Once
	after io.Reader
	err   error
}

func (c *greetedConn) Read(p []byte) (int, error) {
	c.once.Do(func() { c.after, c.err = serial.NewListener(c.File).Accept() })
	if c.err != nil {
		return 0, c.err
	}
	return c.after.Read(p)
}

// openPorts opens the ports of the link, in the order of their names.
func openPorts() ([]*os.File, error) {
	type names string // of devices, one a line: comparable
	found, err := waitFor("a virtio-serial port "+LinkPort+"0", func() (names, error) {
		devices, err := findPorts(portClass, LinkPort)
		return names(strings.Join(devices, "\n")), err
	})
	if err != nil {
		return nil, err
	}
	return openDevices(strings.Split(string(found), "\n"))
}

// portClass is where the kernel has the names of ports.
const portClass = "/sys/class/virtio-ports"

func openDevices(devices []string) ([]*os.File, error) {
	var ports []*os.File
	for _, device := range devices {
		// The file is one that can be polled, so that deadlines work.
		f, err := os.OpenFile(filepath.Join("/dev", device), os.O_RDWR, 0)
		if err != nil {
			for _, open := range ports {
				open.Close() //nolint:errcheck // the first error counts
			}
			return nil, fmt.Errorf("vm: open a port of the link: %w", err)
		}
		ports = append(ports, f)
	}
	return ports, nil
}

// findPorts returns the devices whose port has a name that begins so, in the order of their names.
func findPorts(class, prefix string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return nil, err
	}
	byName := map[string]string{}
	for _, file := range files {
		name, err := os.ReadFile(file)
		if err != nil {
			continue // it went away
		}
		if text := strings.TrimSpace(string(name)); strings.HasPrefix(text, prefix) {
			byName[text] = filepath.Base(filepath.Dir(file))
		}
	}
	var ordered []string
	for name := range byName {
		ordered = append(ordered, name)
	}
	slices.Sort(ordered)
	for i, name := range ordered {
		ordered[i] = byName[name]
	}
	return ordered, nil
}
