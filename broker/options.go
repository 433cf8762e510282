package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/go-teep/teep/link"
)

// Sentinel errors.
var (
	// ErrNoTEE says that no TEE of the device fits the requirements.
	ErrNoTEE = errors.New("broker: no TEE fits the requirements")
	// ErrNotProvided says that the TAM ended the session and the component is still missing: it
	// does not offer it to this device, or not yet.
	ErrNotProvided = errors.New("broker: the TAM did not provide the component")
	// ErrTransport says that the TAM could not be reached; the agent was told.
	ErrTransport = errors.New("broker: cannot reach the TAM")
	// ErrAgent says that the agent did not answer a call.
	ErrAgent = errors.New("broker: the agent failed")
	// ErrTooLong says that a session went on for too many messages or pieces.
	ErrTooLong = errors.New("broker: session too long")
	// ErrNoSession says that an application's session does not exist.
	ErrNoSession = fmt.Errorf("broker: no such application session: %w", link.ErrNoSession)
)

// Poster sends a message to a TAM URI, or with an empty body asks for the first one, and returns
// the answer; an empty one ends the session. *transport.Client is one. Safe for concurrent use.
type Poster interface {
	Post(ctx context.Context, uri string, body []byte) (reply []byte, err error)
}

// Fetcher opens a payload at an offset in bytes as a stream to its end. *transport.Client is one.
// Safe for concurrent use.
type Fetcher interface {
	Open(ctx context.Context, uri string, offset int64) (io.ReadCloser, error)
}

// TEE is one TEE of the device.
type TEE struct {
	// Name distinguishes it in requests, events and status.
	Name string
	// Properties are what a request may require, such as "type": "sandbox".
	Properties map[string]string
	// Agent is the TEEP Agent inside, usually a [*link.Redialer].
	Agent link.Agent
}

// Options configures a [Broker].
type Options struct {
	// TEEs of the device, preferred first. At least one.
	TEEs    []TEE
	Poster  Poster
	Fetcher Fetcher
	// Appraiser is asked where an agent wants an Attestation Result to present; nil means that there is
	// none to be had. AppraisalTimeout bounds one; 0 means 30 s.
	Appraiser        Appraiser
	AppraisalTimeout time.Duration
	// Supplies are brought to the agents while [Broker.Run] runs.
	Supplies Supplies
	// Needs remembers which app needs which component; nil keeps that in memory.
	Needs *Needs
	// PolicyInterval is the time between policy checks of [Broker.Run]; 0 means none by timer.
	PolicyInterval time.Duration
	// PolicyJitter is the part of the interval, 0 to 1, by which it varies at random, so that a
	// fleet does not ask as one. 0 means a tenth.
	PolicyJitter float64
	// MaxMessages bounds the messages posted in one session; 0 means 64.
	MaxMessages int
	// MaxPieces bounds the pieces of payload delivered in one session; 0 means 1,048,576 (1 TiB).
	MaxPieces int
	// InsecureFileURIs also fetches payloads from file: URIs, that is, whatever file of this host
	// a manifest names. For development.
	InsecureFileURIs bool
	// Events, if not nil, sees what passes. It is called synchronously, possibly from several
	// goroutines, and must not keep or change the bytes.
	Events func(Event)
	// Now, Random ([0,1)) and Sleep are the clock and the dice; nil means real ones.
	Now    func() time.Time
	Random func() float64
	Sleep  func(ctx context.Context, d time.Duration) error
}

func (o *Options) complete() error {
	if len(o.TEEs) == 0 {
		return errors.New("broker: no TEE is configured")
	}
	seen := make(map[string]bool)
	for i, t := range o.TEEs {
		if t.Name == "" || seen[t.Name] {
			return fmt.Errorf("broker: TEE %d needs a name of its own, got %q", i, t.Name)
		}
		if t.Agent == nil {
			return fmt.Errorf("broker: TEE %q has no agent", t.Name)
		}
		seen[t.Name] = true
	}
	if o.Poster == nil || o.Fetcher == nil {
		return errors.New("broker: Poster and Fetcher are required")
	}
	if o.PolicyJitter < 0 || o.PolicyJitter > 1 || o.PolicyInterval < 0 {
		return errors.New("broker: PolicyInterval must not be negative, and PolicyJitter between 0 and 1")
	}
	if o.Needs == nil {
		var err error
		if o.Needs, err = OpenNeeds(""); err != nil {
			return err
		}
	}
	if err := o.Supplies.complete(); err != nil {
		return err
	}
	if o.PolicyJitter == 0 {
		o.PolicyJitter = 0.1
	}
	if o.MaxMessages == 0 {
		o.MaxMessages = 64
	}
	if o.AppraisalTimeout == 0 {
		o.AppraisalTimeout = 30 * time.Second
	}
	if o.MaxPieces == 0 {
		o.MaxPieces = 1 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Sleep == nil {
		o.Sleep = sleepTimer
	}
	return nil
}

func sleepTimer(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// EventKind says what happened.
type EventKind string

// Kinds of events.
const (
	EventConnect   EventKind = "connect"    // an empty POST goes to URI
	EventSend      EventKind = "send"       // Message goes to URI
	EventReceive   EventKind = "receive"    // Message came from URI
	EventFetch     EventKind = "fetch"      // Bytes of the payload at URI, from Offset, go to the agent
	EventNoPayload EventKind = "no-payload" // the payload at URI could not be had: Err
	EventAppraise  EventKind = "appraise"   // a verifier's result on the agent's Evidence goes to the agent
	EventNoResult  EventKind = "no-result"  // the verifier gave no result: Err
	EventSupply    EventKind = "supply"     // what is at URI went to the agent, or Err says why not
	EventTransport EventKind = "transport"  // the TAM at URI could not be reached: Err
	EventDone      EventKind = "done"       // the session is over
	EventFailed    EventKind = "failed"     // the session, or the agent, failed: Err
	EventPolicy    EventKind = "policy"     // a policy check begins
)

// Event is something that a broker did. What passes through a broker is protected by TEEP, and yet
// may identify the device: treat recordings of it accordingly.
type Event struct {
	Time    time.Time
	TEE     string
	Session uint64
	Kind    EventKind
	URI     string
	// Message is the COSE object as it passes, for EventSend and EventReceive.
	Message []byte
	Offset  int64
	Bytes   int
	Err     error
}
