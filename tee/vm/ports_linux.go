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
		m.listener, err = vsock.Listen(vsock.Port)
		return err
	}
	m.ports, err = openPorts()
	return err
}

// Serve answers the broker's calls, on the channel that Open has opened, until ctx or the channel ends.
func (m *Machine) Serve(ctx context.Context, agent link.Agent, o link.ServeOptions) error {
	if m.listener != nil {
		return link.ServeListener(ctx, greeted{m.listener}, agent, o)
	}
	if m.ports == nil {
		return errors.New("vm: there is no channel before the TEE is open")
	}
	g, ctx := errgroup.WithContext(ctx)
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
		devices, err := findPorts("/sys/class/virtio-ports")
		return names(strings.Join(devices, "\n")), err
	})
	if err != nil {
		return nil, err
	}
	var ports []*os.File
	for _, device := range strings.Split(string(found), "\n") {
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

// findPorts returns the devices whose port has a name of the link.
func findPorts(class string) ([]string, error) {
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
		if text := strings.TrimSpace(string(name)); strings.HasPrefix(text, LinkPort) {
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
