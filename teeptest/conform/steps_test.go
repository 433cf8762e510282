package conform

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/teeptest"
)

// journal is a log that several goroutines write to.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// since returns what was written after that many bytes, and how many there are now.
func (j *journal) since(mark int) (string, int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()[mark:], j.b.Len()
}

// TestTheStepThatFailedIsLogged: TAM and agent say in their logs at which step of TEEP §4.1.2 a message
// failed, whatever is wrong with it.
func TestTheStepThatFailedIsLogged(t *testing.T) {
	log := &journal{}
	w := teeptest.New(t, teeptest.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	device, err := NewDevice(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	known, err := device.Collateral(w.Clock.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	w.Endorse(known)
	before, err := newTAMRun(TAM{
		URI: w.URI, Keys: []*cose.Key{w.ESP256.Public(), w.Ed25519.Public()}, Device: device, Now: w.Clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer before.client.CloseIdleConnections()
	if err := before.introduce(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent, err := newAgentRun(Agent{Link: w.Device.Link, Keys: []*cose.Key{w.ESP256, w.Ed25519}, Decryption: w.Encryption})
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, mark := log.since(0)
	for _, d := range damages {
		step := 5                                      // what is wrong with the fields of a message has a section of its own
		fmt.Sscanf(d.section, "§4.1.2 step %d", &step) //nolint:errcheck // see above
		t.Run(d.id, func(t *testing.T) {
			q, _, err := before.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			m, err := before.response(t.Context(), q, device.Agent)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := teep.EncodeUnchecked(m)
			if err != nil {
				t.Fatal(err)
			}
			msg, err := d.make(payload, before.signer)
			if err != nil {
				t.Fatal(err)
			}
			_, mark = log.since(0)
			if _, err := before.send(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			said, next := log.since(mark)
			if !strings.Contains(said, fmt.Sprintf("validation step %d: ", step)) {
				t.Errorf("the TAM does not name step %d: %s", step, said)
			}
			if msg, err = agent.damaged(d); err != nil {
				t.Fatal(err)
			}
			if _, err := agent.send(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			if said, mark = log.since(next); !strings.Contains(said, fmt.Sprintf(" step=%d ", step)) {
				t.Errorf("the agent does not name step %d: %s", step, said)
			}
		})
	}
}
