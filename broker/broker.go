package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/link"
)

// Broker serves apps and relays for the agents of one device. Safe for concurrent use.
type Broker struct {
	options  Options
	tees     []*managedTEE
	supplies []*supply

	mu       sync.Mutex
	sessions map[uint64]appSession
	next     uint64
}

// managedTEE is a TEE and its turn: an agent works on one TEEP session at a time, so that what one
// changes is what the next one finds.
type managedTEE struct {
	TEE
	turn chan struct{}

	mu   sync.Mutex
	last Status
}

// appSession is a session with a Trusted Application, under the broker's own number.
type appSession struct {
	tee *managedTEE
	app uint64
}

// New makes a broker.
func New(o Options) (*Broker, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	b := &Broker{options: o, supplies: o.Supplies.all(), sessions: make(map[uint64]appSession)}
	for _, t := range o.TEEs {
		b.tees = append(b.tees, &managedTEE{TEE: t, turn: make(chan struct{}, 1)})
	}
	return b, nil
}

// Requirements are what a TEE must be: its Name, if given, and each of its Properties that is named.
type Requirements struct {
	TEE        string
	Properties map[string]string
}

func (r Requirements) fit(t TEE) bool {
	if r.TEE != "" && r.TEE != t.Name {
		return false
	}
	for name, value := range r.Properties {
		if have, ok := t.Properties[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// pick returns the TEEs that fit, preferred first, or ErrNoTEE.
func (b *Broker) pick(r Requirements) ([]*managedTEE, error) {
	var fitting []*managedTEE
	for _, t := range b.tees {
		if r.fit(t.TEE) {
			fitting = append(fitting, t)
		}
	}
	if len(fitting) == 0 {
		return nil, ErrNoTEE
	}
	return fitting, nil
}

func (t *managedTEE) take(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *managedTEE) tryTake() bool {
	select {
	case t.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t *managedTEE) give() { <-t.turn }

// Request is an app's notification that it depends on a component (TEEP/HTTP §5.1).
type Request struct {
	Component link.ComponentID
	// App says who asks; see [Needs]. "" is an app like any other.
	App string
	// TAMURI is a hint; the agent's configuration decides.
	TAMURI string
	// MinSequence is the smallest acceptable manifest sequence number; 0 for any.
	MinSequence  uint64
	Requirements Requirements
	// Binary is the component's binary, if the app has it: that of the version whose manifest has
	// sequence number MinSequence, which then must be given. The TAM need not send it again.
	Binary []byte
}

// Progress tells how far a request has come.
type Progress struct {
	// TEE is where the component is being installed.
	TEE string
	// Kind is what happens: EventConnect, EventSend, EventReceive, EventFetch or EventAppraise.
	Kind EventKind
	URI  string
	// Bytes of payload fetched so far in this session.
	Bytes int64
}

// Request has a component installed in the most preferred TEE that fits, and returns when it is:
// at once if it was already, else after a session with the TAM that the agent names. progress may be
// nil; it is called from the goroutine of the call.
func (b *Broker) Request(ctx context.Context, r Request, progress func(Progress)) error {
	fitting, err := b.pick(r.Requirements)
	if err != nil {
		return err
	}
	t := fitting[0]
	if err := b.options.Needs.add(t.Name, r.Component, r.App); err != nil {
		return err
	}
	request := link.Request{Component: r.Component, TAMURI: r.TAMURI, MinSequence: r.MinSequence, HasBinary: r.Binary != nil}
	if !t.tryTake() {
		// Another session is under way, perhaps for long. Who needs what is there already need
		// not wait for it; the agent forgets an Ask that is not followed up.
		if ask, err := t.Agent.RequestTA(ctx, request); err == nil && ask.None() {
			return nil
		}
		if err := t.take(ctx); err != nil {
			return err
		}
	}
	defer t.give()
	ask, err := t.Agent.RequestTA(ctx, request)
	if err != nil {
		return b.agentFailed(t, 0, err)
	}
	if ask.None() {
		return nil
	}
	if err := b.session(ctx, t, ask, r.Binary, progress); err != nil {
		return err
	}
	// The session's end does not tell whether it did what it was for: the TAM may have had
	// nothing to send. The agent knows.
	request.HasBinary = false
	ask, err = t.Agent.RequestTA(ctx, request)
	if err != nil {
		return b.agentFailed(t, 0, err)
	}
	if !ask.None() {
		return ErrNotProvided
	}
	return nil
}

// Unrequest is the notification of the app "" that it no longer depends on a component; see
// [Broker.UnrequestFor].
func (b *Broker) Unrequest(ctx context.Context, component link.ComponentID, r Requirements) error {
	return b.UnrequestFor(ctx, "", component, r)
}

// UnrequestFor is an app's notification that it no longer depends on a component (TEEP/HTTP §5.2). It
// concerns every TEE that fits. An agent is told when no other app needs the component there; one
// that does not have it does nothing.
func (b *Broker) UnrequestFor(ctx context.Context, app string, component link.ComponentID, r Requirements) error {
	fitting, err := b.pick(r)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range fitting {
		errs = append(errs, b.unrequest(ctx, t, app, component))
	}
	return errors.Join(errs...)
}

func (b *Broker) unrequest(ctx context.Context, t *managedTEE, app string, component link.ComponentID) error {
	if err := t.take(ctx); err != nil {
		return err
	}
	defer t.give()
	needed, err := b.options.Needs.remove(t.Name, component, app)
	if err != nil || needed {
		return err
	}
	ask, err := t.Agent.UnrequestTA(ctx, component)
	if err != nil {
		return b.agentFailed(t, 0, err)
	}
	return b.session(ctx, t, ask, nil, nil)
}

// maxPolicySessions bounds the TAMs that one policy check talks to, should an agent never say that
// it is done.
const maxPolicySessions = 64

// PolicyCheck lets every agent talk to its TAMs, one after the other, until it has no more to ask
// for (TEEP/HTTP §5.5). A TAM that fails does not keep the others from being asked. It returns how many
// sessions that were: with none, no agent found it time to ask a TAM (TEEP §7.2).
func (b *Broker) PolicyCheck(ctx context.Context) (sessions int, err error) {
	errs := make([]error, len(b.tees))
	var asked atomic.Int64
	var all sync.WaitGroup
	for i, t := range b.tees {
		all.Add(1)
		go func() {
			defer all.Done()
			var n int
			n, errs[i] = b.policyCheck(ctx, t)
			asked.Add(int64(n))
		}()
	}
	all.Wait()
	return int(asked.Load()), errors.Join(errs...)
}

func (b *Broker) policyCheck(ctx context.Context, t *managedTEE) (sessions int, err error) {
	if err := t.take(ctx); err != nil {
		return 0, err
	}
	defer t.give()
	b.emit(Event{TEE: t.Name, Kind: EventPolicy})
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.last.PolicyCheck, t.last.PolicyError = b.options.Now(), ""
		if err != nil {
			t.last.PolicyError = err.Error()
		}
	}()
	var errs []error
	for sessions < maxPolicySessions {
		ask, err := t.Agent.RequestPolicyCheck(ctx)
		if err != nil {
			return sessions, errors.Join(append(errs, b.agentFailed(t, 0, err))...)
		}
		if ask.None() {
			return sessions, errors.Join(errs...)
		}
		sessions++
		if err := b.session(ctx, t, ask, nil, nil); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return sessions, errors.Join(errs...)
		}
	}
	return sessions, errors.Join(append(errs, fmt.Errorf("%w: the agent of TEE %q asked for more than %d TAMs", ErrTooLong, t.Name, maxPolicySessions))...)
}

// Run makes policy checks until ctx ends: soon after the start, since something may have been left
// over by then, at PolicyInterval with its jitter, and when an agent's connection was lost and is
// back. Failures are told as events and tried again at the next time. Agents are kept supplied too.
func (b *Broker) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Add(1)
	go func() {
		defer watching.Done()
		b.keepSupplied(ctx)
	}()
	if b.options.PolicyInterval == 0 && len(b.supplies) == 0 {
		<-ctx.Done()
		return nil
	}
	for _, t := range b.tees {
		if w, ok := t.Agent.(watcher); ok {
			watching.Add(1)
			go func() {
				defer watching.Done()
				b.watch(ctx, t, w)
			}()
		}
	}
	if b.options.PolicyInterval == 0 {
		<-ctx.Done()
		return nil
	}
	wait := time.Duration(b.options.Random() * float64(firstCheck))
	for b.options.Sleep(ctx, wait) == nil {
		b.PolicyCheck(ctx) //nolint:errcheck // told as events, and in the status
		spread := b.options.PolicyJitter * float64(b.options.PolicyInterval)
		wait = b.options.PolicyInterval + time.Duration((2*b.options.Random()-1)*spread)
	}
	return nil
}

const (
	// firstCheck is within what time after the start policy is checked first.
	firstCheck = 2 * time.Second
	// redialMin and redialMax bound the wait for an agent that is away; it doubles.
	redialMin, redialMax = 500 * time.Millisecond, time.Minute
)

// watcher is an agent whose connection can be waited for; [*link.Redialer] is one.
type watcher interface {
	Watch(ctx context.Context) error
	Check(ctx context.Context) error
}

// watch checks policy when an agent is back that was away: it may have been killed in the middle of an
// Update.
func (b *Broker) watch(ctx context.Context, t *managedTEE, w watcher) {
	for ctx.Err() == nil {
		if w.Watch(ctx) == nil || ctx.Err() != nil {
			return
		}
		for wait := redialMin; ; wait = min(2*wait, redialMax) {
			if b.options.Sleep(ctx, wait) != nil {
				return
			}
			if w.Check(ctx) == nil {
				break
			}
		}
		b.bringAgain(t)
		if b.options.PolicyInterval > 0 {
			b.policyCheck(ctx, t) //nolint:errcheck // told as events, and in the status
		}
	}
}

// Status is what a broker knows of a TEE.
type Status struct {
	TEE        string
	Properties map[string]string
	// Busy says that a session with a TAM is under way.
	Busy bool
	// Reachable says whether the agent's connection stands, where that can be told.
	Reachable bool
	// PolicyCheck is when the last policy check ended; zero if none did.
	PolicyCheck time.Time
	// PolicyError is what it failed with; "" if it did not.
	PolicyError string
}

// Status tells the state of every TEE.
func (b *Broker) Status(ctx context.Context) []Status {
	all := make([]Status, len(b.tees))
	for i, t := range b.tees {
		t.mu.Lock()
		all[i] = t.last
		t.mu.Unlock()
		all[i].TEE, all[i].Properties = t.Name, t.Properties
		all[i].Busy = len(t.turn) > 0
		all[i].Reachable = true
		if c, ok := t.Agent.(interface{ Check(context.Context) error }); ok {
			all[i].Reachable = c.Check(ctx) == nil
		}
	}
	return all
}

func (b *Broker) emit(e Event) {
	if b.options.Events != nil {
		e.Time = b.options.Now()
		b.options.Events(e)
	}
}

// agentFailed reports a call that brought no message buffer back (TEEP/HTTP §5.6).
func (b *Broker) agentFailed(t *managedTEE, session uint64, err error) error {
	err = fmt.Errorf("%w: TEE %q: %w", ErrAgent, t.Name, err)
	b.emit(Event{TEE: t.Name, Session: session, Kind: EventFailed, Err: err})
	return err
}
