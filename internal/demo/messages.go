package demo

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/inspect"
)

// messages reads the trace that the broker writes: each TEEP message as it passed.
type messages struct {
	path   string
	offset int64
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

// next returns what passed since the last call. The messages' signatures were checked by who
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
	dec := json.NewDecoder(f)
	for {
		var line struct {
			Kind    string `json:"kind"`
			URI     string `json:"uri"`
			Message string `json:"message"`
		}
		if err := dec.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
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
	m.offset += dec.InputOffset()
	return all, nil
}

func decode(data []byte) (teep.Message, error) {
	payload, err := cose.UnverifiedPayload(data)
	if err != nil {
		return nil, err
	}
	return teep.Decode(payload)
}

// passed returns the new messages of the broker, and prints them if the story is verbose.
func (s *story) passed() ([]message, error) {
	all, err := s.messages.next()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if err := s.show(m.data, m.toTAM); err != nil {
			return nil, err
		}
	}
	return all, nil
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
