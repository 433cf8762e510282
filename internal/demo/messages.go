package demo

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/inspect"
)

// messages reads the trace that the broker writes: each TEEP message as it passed.
type messages struct {
	path string

	mu     sync.Mutex // guards what follows: watch and the story both read
	offset int64
	unseen []message
	// connected is where the broker last connected to.
	connected string
}

func newMessages(path string) *messages { return &messages{path: path} }

// message is one that passed the broker.
type message struct {
	toTAM   bool
	data    []byte
	decoded teep.Message
}

// next returns what passed since the last call; mu is held. The messages' signatures were checked by who
// received them; here they are only read.
func (m *messages) next() ([]message, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(m.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var all []message
	whole := m.offset
	dec := json.NewDecoder(f)
	for {
		var line struct {
			Kind    string `json:"kind"`
			URI     string `json:"uri"`
			Message string `json:"message"`
		}
		if err := dec.Decode(&line); err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
		whole = m.offset + dec.InputOffset()
		if line.Kind == "connect" {
			m.connected = line.URI
		}
		if line.Message == "" {
			continue
		}
		data, err := hex.DecodeString(line.Message)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
		decoded, err := decode(data)
		if err != nil {
			return nil, err
		}
		all = append(all, message{toTAM: line.Kind == "send", data: data, decoded: decoded})
	}
	m.offset = whole
	return all, nil
}

func decode(data []byte) (teep.Message, error) {
	payload, err := cose.UnverifiedPayload(data)
	if err != nil {
		return nil, err
	}
	return teep.Decode(payload)
}

// drain reads what passed the broker since it was last called, and prints it if the story is verbose.
func (s *story) drain() error {
	s.messages.mu.Lock()
	defer s.messages.mu.Unlock()
	all, err := s.messages.next()
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := s.show(m.data, m.toTAM); err != nil {
			return err
		}
	}
	s.messages.unseen = append(s.messages.unseen, all...)
	return nil
}

// passed returns the messages that passed the broker since it was last called.
func (s *story) passed() ([]message, error) {
	if err := s.drain(); err != nil {
		return nil, err
	}
	s.messages.mu.Lock()
	defer s.messages.mu.Unlock()
	all := s.messages.unseen
	s.messages.unseen = nil
	return all, nil
}

// watch prints messages as they pass, until the returned function is called.
func (s *story) watch() (stop func()) {
	if !s.Verbose {
		return func() {}
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			// A line that is only half written is read whole the next time, and an error that
			// stays is met by passed.
			_ = s.drain()
		}
	}()
	return func() { close(end); <-done }
}

// show prints a message if the story is verbose.
func (s *story) show(data []byte, toTAM bool) error {
	if !s.Verbose {
		return nil
	}
	text, err := inspect.Notation(data)
	if err != nil {
		return err
	}
	from, to := "TAM", "agent"
	if toTAM {
		from, to = to, from
	}
	_, err = fmt.Fprintf(s.Out, "\n--- %s to %s, %d bytes\n%s\n\n", from, to, len(data), text)
	return err
}

// find returns the last message of type M among those that passed.
func find[M teep.Message](all []message) (M, []byte, bool) {
	for i := len(all) - 1; i >= 0; i-- {
		if m, ok := all[i].decoded.(M); ok {
			return m, all[i].data, true
		}
	}
	var none M
	return none, nil, false
}
