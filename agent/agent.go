package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
)

// Agent is one TEEP Agent in one TEE. It implements link.Agent and is safe for concurrent use.
// Several agents in one process share nothing.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	store   tee.Store
	message cose.Signer // signs TEEP messages
	report  cose.Signer // signs SUIT Reports; another key (TEEP §4.5)
	suite   teep.CipherSuite

	// life ends with Close; running counts the goroutine of an Update.
	life    context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	// mu guards everything below. It is held while the record is replaced, never while a call
	// waits for the world outside or for an application.
	mu       sync.Mutex
	closed   bool
	record   *state.Record // immutable; see change
	gen      uint64
	anchors  *trust.Set // immutable
	crls     [][]byte   // immutable
	sessions map[uint64]*session
	run      *run // the Update in progress, nil if none
	// handed tells which TAMs' finished replies were given to the broker. They are dropped
	// from the record when it is replaced the next time.
	handed map[string]bool
	// round are the TAMs that RequestPolicyCheck named since it last named none, and when.
	round map[string]time.Time
	// leftover is the TAM whose failed Updates left finished blobs behind that its next Update may
	// adopt, and failures how many Updates that were.
	leftover string
	failures int
	apps     map[uint64]*application
	// binary is what an app is bringing with its request; nil if nothing is.
	binary *broughtBinary
	// appraisals counts what verifiers were asked for.
	appraisals uint64
	// unsatisfied tells which TAMs refused a verifier's result, and when.
	unsatisfied map[string]time.Time
	// brokers counts the connections of brokers.
	brokers int
	// opening counts OpenSession calls in progress; they count against the limit too.
	opening int
	// boot keeps, by manifest identifier, the report of the last start of an application.
	boot map[string]*suit.Report
}

var _ link.Agent = (*Agent)(nil)

// New starts the agent: it reads sealed state, provisions the trust anchors at the first start,
// and tidies up what a crash may have left. The TEE stays the caller's to close.
func New(cfg Config) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger, store: cfg.TEE.Store(),
		sessions: map[uint64]*session{}, handed: map[string]bool{}, round: map[string]time.Time{}, apps: map[uint64]*application{},
		boot: map[string]*suit.Report{}, unsatisfied: map[string]time.Time{},
	}
	a.life, a.end = context.WithCancel(context.Background())
	if err := a.loadKeys(); err != nil {
		return nil, err
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	err = a.RenewRevocationLists(a.life, cfg.RevocationLists)
	if errors.Is(err, revocation.ErrOlder) {
		a.log.Warn("revocation lists not taken, the sealed ones stay in force", "error", err)
		err = a.RenewRevocationLists(a.life, nil)
	}
	if err != nil {
		return nil, err
	}
	if err := a.checkPolicy(a.anchors); err != nil {
		return nil, err
	}
	if err := a.tidy(); err != nil {
		return nil, err
	}
	return a, nil
}

// loadKeys gets the TEE's signers and makes sure that each key has one use.
func (a *Agent) loadKeys() error {
	var err error
	if a.message, err = a.cfg.TEE.Keys().Signer(tee.KeyAgent); err != nil {
		return fmt.Errorf("agent: key %q: %w", tee.KeyAgent, err)
	}
	if a.report, err = a.cfg.TEE.Keys().Signer(tee.KeyReport); err != nil {
		return fmt.Errorf("agent: key %q: %w", tee.KeyReport, err)
	}
	if a.message.Public().Equal(a.report.Public()) {
		return errors.New("agent: the TEE has the same key for messages and for SUIT Reports; TEEP §4.5 wants two")
	}
	if a.cfg.InsecureOlderPeers {
		a.log.Warn("insecure: ES256 and EdDSA, which leave the curve open, are accepted from TAMs")
	}
	if len(a.cfg.Certificates) > 0 {
		if a.message, err = cose.NewCertified(a.message, a.cfg.Certificates); err != nil {
			return fmt.Errorf("agent: certificates of the agent's key: %w", err)
		}
	}
	a.suite = teep.CipherSuiteSign1(a.message.Algorithm())
	for _, mandatory := range teep.MandatoryCipherSuites() {
		if a.suite.Equal(mandatory) {
			return nil
		}
	}
	a.log.Warn("the agent's key is of a cipher suite that TAMs need not support", "suite", a.suite.String())
	return nil
}

// load reads the sealed record, or makes the first one.
func (a *Agent) load() error {
	data, gen, err := a.store.LoadRecord()
	if err != nil {
		return fmt.Errorf("agent: sealed state: %w", err)
	}
	a.gen = gen
	if data == nil {
		return a.provision()
	}
	if a.record, err = state.Decode(data); err != nil {
		return fmt.Errorf("agent: sealed state: %w", err)
	}
	if a.anchors, err = trust.ParseCBOR(a.record.Anchors); err != nil {
		return fmt.Errorf("agent: sealed trust anchors: %w", err)
	}
	return a.adoptTrust()
}

// checkPolicy refuses a configuration that cannot do what trust anchors ask for.
func (a *Agent) checkPolicy(anchors *trust.Set) error {
	for _, t := range anchors.TAMs {
		if !t.MustAttest {
			continue
		}
		if len(anchors.Verifiers) == 0 && a.cfg.EvidenceVerifier == nil {
			return fmt.Errorf("agent: TAM %q must attest itself, and the trust anchors name no verifier", t.Name)
		}
	}
	return nil
}

// tidy removes what a crash may have left: application data of components that are gone, and
// blobs that nothing names. Blobs stay while an Update is pending, for it may have fetched them.
func (a *Agent) tidy() error {
	a.removeLeft()
	if a.snapshot().Pending != nil {
		return nil
	}
	if err := a.sweep(); err != nil {
		return fmt.Errorf("agent: sealed state: %w", err)
	}
	return nil
}

// Close stops what is running and closes the application sessions. An Update in progress stays
// pending. The TEE is not closed.
func (a *Agent) Close() error {
	a.mu.Lock()
	a.closed = true
	a.dropBinaryLocked()
	apps := a.takeApps(func(*application) bool { return true })
	a.mu.Unlock()
	a.end()
	a.running.Wait()
	var errs []error
	for _, app := range apps {
		errs = append(errs, app.close())
	}
	return errors.Join(errs...)
}

func (a *Agent) now() time.Time { return a.cfg.Clock() }

// snapshot returns the record in force. It is immutable.
func (a *Agent) snapshot() *state.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record
}

func (a *Agent) trust() *trust.Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.anchors
}

// change replaces the record by an edited copy. When it returns nil, the change is durable.
func (a *Agent) change(edit func(next *state.Record) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changeLocked(edit)
}

func (a *Agent) changeLocked(edit func(next *state.Record) error) error {
	if a.closed {
		return ErrClosed
	}
	next := a.record.Clone()
	if err := edit(next); err != nil {
		return err
	}
	var dropped []string
	for name := range a.handed {
		if t, ok := next.TAMs[name]; ok && t.Reply != nil {
			t.Reply = nil
			next.TAMs[name] = t
			dropped = append(dropped, name)
		}
	}
	if err := a.replaceLocked(next); err != nil {
		return err
	}
	for _, name := range dropped {
		delete(a.handed, name)
	}
	return nil
}

func (a *Agent) replaceLocked(next *state.Record) error {
	data, err := next.Encode()
	if err != nil {
		return err
	}
	if err := a.store.ReplaceRecord(a.gen, data); err != nil {
		a.resync(next, data)
		return fmt.Errorf("agent: sealed state: %w", err)
	}
	a.record, a.gen = next, a.gen+1
	return nil
}

// resync finds out which of two records is in force after a replacement failed: the store may
// have got as far as making it durable. Whichever it is, it is whole.
func (a *Agent) resync(next *state.Record, data []byte) {
	stored, gen, err := a.store.LoadRecord()
	if err == nil && gen == a.gen+1 && bytes.Equal(stored, data) {
		a.record, a.gen = next, gen
	}
}

// sweep removes blobs that the record does not name.
func (a *Agent) sweep() error {
	named := a.snapshot().Blobs()
	return a.store.Sweep(func(sum [32]byte) bool { return named[sum] })
}

// removeLeft removes the sealed data of applications that left. What cannot be removed now is
// tried again at the next start; until then the component cannot be opened.
func (a *Agent) removeLeft() {
	var gone []string
	for key, id := range a.snapshot().Leaving {
		if err := a.store.AppData([]byte(id.Key())).Remove(); err != nil && !errors.Is(err, tee.ErrNotExist) {
			a.log.Error("application data not removed", "component", id.String(), "error", err)
			continue
		}
		gone = append(gone, key)
	}
	if len(gone) == 0 {
		return
	}
	err := a.change(func(next *state.Record) error {
		for _, key := range gone {
			delete(next.Leaving, key)
		}
		return nil
	})
	if err != nil {
		a.log.Error("removal of application data not recorded", "error", err)
	}
}
