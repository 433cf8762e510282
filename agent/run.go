package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/tee"
)

// run is the processing of one Update, on a goroutine of its own.
type run struct {
	agent    *Agent
	tam      *trust.TAM
	signer   cose.Signer // of the answer
	update   *teep.Update
	id       []byte
	exchange *exchange
	fetches  atomic.Uint64
	ctx      context.Context
	cancel   context.CancelCauseFunc
	// ended is closed when the goroutine is gone.
	ended chan struct{}
	// session is where its asks belong; Agent.mu guards it.
	session uint64
}

func newRun(a *Agent, m *received, session uint64, u *teep.Update, id []byte) *run {
	r := &run{agent: a, tam: m.tam, signer: m.signer, session: session, update: u, id: id, exchange: newExchange(), ended: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancelCause(a.life)
	return r
}

// nextFetch numbers the payloads that are fetched. It differs from fetch to fetch, so that a late
// chunk of one is not taken for a piece of another.
func (r *run) nextFetch() uint64 { return r.fetches.Add(1) }

// process is the goroutine. If it is told to stop, the Update stays pending, or has been replaced
// by another one; nothing is answered.
func (r *run) process() {
	a := r.agent
	defer a.running.Done()
	defer close(r.ended)
	defer r.cancel(nil)
	reply, failed := r.apply()
	var last *link.Ask
	if r.ctx.Err() == nil {
		last = r.finish(reply, failed)
	}
	// Blobs are swept while no other Update can begin: its first ones have no name yet.
	if last != nil && !failed {
		if err := a.sweep(); err != nil {
			a.log.Error("blobs without use not removed", "error", err)
		}
	}
	a.mu.Lock()
	a.run = nil
	if failed || last == nil {
		a.leftover = r.tam.Name
		a.failures++
	}
	a.mu.Unlock()
	r.exchange.finish(last)
}

// apply does the work: unlink first, and if that went well, install (TEEP §7.2.2).
func (r *run) apply() (reply teep.Message, failed bool) {
	device := &platform{agent: r.agent, tam: r.tam, run: r}
	p, err := r.agent.newProcessor(device)
	if err != nil {
		r.agent.log.Error("SUIT processor", "error", err)
		return teep.AsErrorMessage(err), true
	}
	defer func() { r.agent.noteIssuers(device.authority.Shown()) }()
	var o outcome
	for _, id := range r.update.UnneededManifests {
		report, err := r.unlink(p, suit.ComponentID(id))
		if o.add(suit.ComponentID(id).String(), report, err); err != nil {
			return r.conclude(o), true
		}
	}
	for _, group := range together(inOrder(r.update.Manifests, device.authority), r.agent.snapshot()) {
		r.install(p, group, &o)
		if r.ctx.Err() != nil {
			return nil, true
		}
	}
	return r.conclude(o), len(o.failures) > 0
}

// install installs manifests in one step, all or none, and adds what became of each.
func (r *run) install(p *processor.Processor, group []candidate, o *outcome) {
	options := processor.UpdateOptions{Nonce: r.update.Token, Available: r.update.Manifests}
	if len(group) == 1 {
		options.ManifestID = group[0].fallback
	}
	envelopes := make([][]byte, len(group))
	for i, c := range group {
		envelopes[i] = c.envelope
	}
	reports, failure := p.UpdateAll(r.ctx, envelopes, options)
	for i, c := range group {
		err := failure
		if failure != nil && len(group) > 1 && reports[i].Failure.Code == processor.CodeRolledBack {
			err = processor.ErrRolledBack
		}
		o.add(c.name, reports[i], err)
		r.log(c.name, err)
	}
	if failure != nil && len(group) > 1 {
		r.agent.log.Warn("manifests that belong together were undone", "tam", r.tam.Name, "error", failure)
	}
}

func (r *run) log(name string, err error) {
	if err != nil {
		r.agent.log.Warn("manifest failed", "tam", r.tam.Name, "manifest", name, "error", err)
		return
	}
	r.agent.log.Info("manifest installed", "tam", r.tam.Name, "manifest", name)
}

// unlink uninstalls one manifest. One that is not there is as the TAM wants it: an Update whose
// answer was lost may come a second time.
func (r *run) unlink(p *processor.Processor, id suit.ComponentID) (*suit.Report, error) {
	m, ok := r.agent.snapshot().Manifests[id.Key()]
	switch {
	case !ok:
		return nil, nil
	case m.Owner != r.tam.Name:
		return nil, fmt.Errorf("manifest %s %w", id, errNotOwner)
	}
	report, err := p.Uninstall(r.ctx, id, processor.Options{Nonce: r.update.Token})
	if err != nil {
		r.agent.log.Warn("manifest not unlinked", "tam", r.tam.Name, "manifest", id.String(), "error", err)
		return report, err
	}
	r.agent.log.Info("manifest unlinked", "tam", r.tam.Name, "manifest", id.String())
	return report, nil
}

// maxReply bounds the reply that the record keeps, in bytes; SUIT Reports that make it larger are
// left out.
const maxReply = 256 << 10

// finish makes the end of the Update durable together with its answer, so that the answer is
// sent even if the agent is killed now.
func (r *run) finish(reply teep.Message, failed bool) *link.Ask {
	data, err := r.protect(reply)
	if err == nil {
		err = r.record(data, failed)
	}
	switch {
	case err == nil:
		return &link.Ask{Message: data}
	case errors.Is(err, ErrClosed):
		return nil
	}
	// It stays pending, and ends another time. To promise now that it is done would be a promise
	// that a crash could break.
	r.agent.log.Error("end of an Update not recorded", "tam", r.tam.Name, "error", err)
	e := teep.AsErrorMessage(err)
	e.Token = r.update.Token
	if data, err = r.protect(e); err != nil {
		return nil
	}
	return &link.Ask{Message: data}
}

func (r *run) protect(reply teep.Message) ([]byte, error) {
	data, err := teep.Protect(r.agent.cfg.Rand, reply, r.signer)
	if err != nil || len(data) <= maxReply {
		return data, err
	}
	r.agent.log.Warn("SUIT Reports left out of an answer that is too large", "tam", r.tam.Name, "bytes", len(data))
	switch m := reply.(type) {
	case *teep.Success:
		m.SUITReports = nil
	case *teep.Error:
		m.SUITReports = nil
	}
	return teep.Protect(r.agent.cfg.Rand, reply, r.signer)
}

func (r *run) record(reply []byte, failed bool) error {
	a := r.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	// The reply that was handed out before is not this one.
	delete(a.handed, r.tam.Name)
	return a.changeLocked(func(next *state.Record) error {
		next.Pending = nil
		if failed {
			forgetBinaries(next, r.tam.Name)
		}
		t := next.TAMs[r.tam.Name]
		t.Name, t.Reply = r.tam.Name, reply
		keep := t.Updates[max(0, len(t.Updates)+1-rememberedUpdates):]
		t.Updates = append(slices.Clone(keep), r.id)
		next.TAMs[r.tam.Name] = t
		return nil
	})
}

// outcome collects what became of each manifest.
type outcome struct {
	reports  []*suit.Report
	total    int
	failures []string
}

func (o *outcome) add(name string, report *suit.Report, err error) {
	o.total++
	if report != nil {
		o.reports = append(o.reports, report)
	}
	if err != nil {
		o.failures = append(o.failures, name+": "+explain(err))
	}
}

// conclude makes the Success or Error message of the outcome, with the SUIT Reports of all
// manifests (TEEP §4.5, §4.6).
func (r *run) conclude(o outcome) teep.Message {
	profile := r.agent.suitProfiles()[0]
	if q := r.agent.snapshot().TAMs[r.tam.Name].Query; q != nil {
		profile = profileOf(q.Profile)
	}
	reports, err := r.agent.protectReports(o.reports, r.tam, profile)
	if err != nil {
		r.agent.log.Error("SUIT Reports left out of the answer", "error", err)
	}
	if len(o.failures) == 0 {
		return &teep.Success{Token: r.update.Token, SUITReports: reports}
	}
	text := o.failures[0]
	if o.total > 1 {
		text = fmt.Sprintf("%d of %d failed: %s", len(o.failures), o.total, text)
	}
	return &teep.Error{
		Token: r.update.Token, Code: teep.ErrManifestProcessingFailed, Message: teep.NetUnicode(text), SUITReports: reports,
	}
}

// explain says in a few words why a manifest failed. Only errors whose words are known to tell
// nothing about the inside of the TEE speak for themselves; of others the TAM gets the reason of
// the SUIT report, and the log the rest.
func explain(err error) string {
	known := []error{
		errNotOwner, errNotGranted, errUnreachable, ErrLimit, processor.ErrDowngrade, processor.ErrReferenced, processor.ErrLimit,
		processor.ErrUnverified, processor.ErrRolledBack, tee.ErrQuota, suit.ErrManifestDigest, suit.ErrNoAuthentication, suit.ErrUnauthorized,
	}
	for _, k := range known {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	var f *processor.Failure
	if !errors.As(err, &f) {
		return "internal error"
	}
	if f.Section == 0 {
		return f.Reason.String()
	}
	return fmt.Sprintf("%s in %s, %s", f.Reason, f.Section, f.Command)
}
