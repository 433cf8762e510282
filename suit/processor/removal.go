package processor

import (
	"fmt"

	"github.com/go-teep/teep/suit"
)

// What is done to remove a manifest that nobody needs any more is told like the course of things: as properties
// of the component that the manifest is, in the list of records, where it happened.
//
//	{
//	  system-component-id          => the manifest-component-id,
//	  ? suit-parameter-image-digest => digest of that manifest, where the removal begins,
//	  suit-parameter-invoke-args   => a word, as text in a byte string,
//	  ? suit-parameter-content     => bstr .cbor SUIT_Record,
//	}
//
// The record, where a removal begins, is that of the unlink that gave up the last reference; without one the
// manifest was given up when the procedure ended. Inside of a removal, records stand for commands of the manifest
// that is removed, and lead from there.
const (
	removalBegins    = "unneeded"
	removalRecord    = "unneeded-record"
	removalEnds      = "unneeded-done"
	removalAbandoned = "unneeded-abandoned" // ends it, too: as courseAbandoned
	// removalAlone is a removal in which nothing ran: its section ran before, as a dependency's, or must not
	// run, because its signer is not trusted any more.
	removalAlone = "unneeded-removed"
)

// Unneeded is a manifest that was removed because nobody needs it any more.
type Unneeded struct {
	ID     suit.ComponentID
	Digest suit.Digest
	// At is the index in the trail before which it began.
	At int
	// Executed tells that its suit-uninstall section ran for that, and Expanded that the trail has the commands: the
	// manifest of that digest was among those that Explain was given.
	Executed, Expanded bool
}

// removed tells that a manifest was removed in which nothing ran.
func (rep *reporter) removed(record ManifestRecord, cause *suit.Record) {
	rep.event(record.ID, &record.Digest, removalAlone, cause)
}

// beginRemoval and endRemoval tell what runs between them apart from the rest. A removal that failed is not
// told to end.
func (rep *reporter) beginRemoval(record ManifestRecord, cause *suit.Record) {
	rep.event(record.ID, &record.Digest, removalBegins, cause)
	rep.aside = append(rep.aside, record.ID)
}

func (rep *reporter) endRemoval(abandoned bool, err error) {
	word, last := removalEnds, len(rep.aside)-1
	if abandoned {
		word = removalAbandoned
	}
	if err == nil {
		rep.event(rep.aside[last], nil, word, nil)
	}
	rep.aside = rep.aside[:last]
}

func (rep *reporter) event(id suit.ComponentID, digest *suit.Digest, word string, record *suit.Record) {
	if !rep.room() {
		rep.cut = true
		return
	}
	rep.shown++
	rep.entries = append(rep.entries, entry{ReportEntry: removalEntry(id, digest, word, record), event: true})
}

// entryOf is the record of a command, of the root or of what is being removed.
func (rep *reporter) entryOf(r *suit.Record) suit.ReportEntry {
	if n := len(rep.aside); n > 0 {
		return removalEntry(rep.aside[n-1], nil, removalRecord, r)
	}
	return suit.ReportEntry{Record: r}
}

func removalEntry(id suit.ComponentID, digest *suit.Digest, word string, record *suit.Record) suit.ReportEntry {
	var p suit.Parameters
	if digest != nil {
		p.SetDigest(*digest)
	}
	if record != nil {
		content, _ := record.MarshalCBOR() // never fails
		p.SetContent(content)
	}
	p.SetInvokeArgs([]byte(word))
	return suit.ReportEntry{Claims: &suit.SystemPropertyClaims{Component: id, Parameters: p}}
}

// removalEvent is such an entry, read.
type removalEvent struct {
	word   string
	id     suit.ComponentID
	digest suit.Digest
	record *suit.Record // nil if there is none
}

// readRemoval is the reverse of removalEntry; nil for an entry of another kind.
func readRemoval(e suit.ReportEntry) (*removalEvent, error) {
	if e.Claims == nil {
		return nil, nil
	}
	args, _ := e.Claims.Parameters.InvokeArgs()
	event := &removalEvent{word: string(args), id: e.Claims.Component}
	switch event.word {
	case removalBegins, removalRecord, removalEnds, removalAbandoned, removalAlone:
	default:
		return nil, nil
	}
	event.digest, _ = e.Claims.Parameters.Digest()
	if content, ok := e.Claims.Parameters.Content(); ok {
		event.record = &suit.Record{}
		if err := event.record.UnmarshalCBOR(content); err != nil {
			return nil, fmt.Errorf("%w: %s of %s: %w", ErrMismatch, event.word, event.id, err)
		}
	}
	return event, nil
}

// removal is what a report says of one manifest that was removed.
type removal struct {
	Unneeded
	// cause is the unlink, relative to the manifest that it stands in; nil if the procedure ended. It comes after so
	// many records of that manifest.
	cause *suit.Record
	after int
	// what ran in it. It failed unless it ended.
	stretch
	ended bool
}

// removals are those that began and did not end yet, each in the middle of the one before it.
type removals []*removal

// take adds an event of the report to what is open, or to the stretch that is.
func (open *removals) take(s *stretch, e *removalEvent, cut bool) error {
	if cut {
		return errAfterCut
	}
	var last *removal
	// What is told of one closes those within it that did not end: they failed.
	for e.word != removalBegins && e.word != removalAlone && len(*open) > 1 && !(*open)[len(*open)-1].ID.Equal(e.id) {
		*open = (*open)[:len(*open)-1]
	}
	if n := len(*open); n > 0 {
		last = (*open)[n-1]
		s = &last.stretch
	}
	switch e.word {
	case removalBegins, removalAlone:
		executed := e.word == removalBegins
		r := &removal{Unneeded: Unneeded{ID: e.id, Digest: e.digest, Executed: executed}, cause: e.record, after: len(s.records),
			stretch: stretch{proc: ProcedureUninstall}, ended: !executed}
		s.removals = append(s.removals, r)
		if executed {
			*open = append(*open, r)
		}
		return nil
	}
	switch {
	case last == nil || !last.ID.Equal(e.id):
		return fmt.Errorf("%w: %q of %s, which was not being removed", ErrMismatch, e.word, e.id)
	case e.word == removalRecord && e.record == nil:
		return fmt.Errorf("%w: a record of %s is missing", ErrMismatch, e.id)
	case e.word == removalRecord:
		last.records = append(last.records, e.record)
	default:
		last.ended, last.abandoned = true, e.word == removalAbandoned
		*open = (*open)[:len(*open)-1]
	}
	return nil
}

// unlinks follows what was removed because of an unlink.
func (r *replay) unlinks(k *call) error {
	for len(r.removals) > 0 {
		next := r.removals[0]
		if next.cause == nil || !at(next.cause, k) || next.after != r.used {
			return nil
		}
		if err := r.remove(next); err != nil {
			return err
		}
	}
	return nil
}

// rest follows what was removed when the procedure ended.
func (r *replay) rest() error {
	for len(r.removals) > 0 && r.removals[0].cause == nil && r.removals[0].after == r.used {
		if err := r.remove(r.removals[0]); err != nil {
			return err
		}
	}
	return nil
}

// remove follows one removal, if its manifest is at hand. One that did not end is followed to where it failed, and
// what the failure did to the manifest that caused it is in the records of that.
func (r *replay) remove(o *removal) error {
	r.removals = r.removals[1:]
	at := len(r.ex.Unneeded)
	o.At = len(r.ex.Steps)
	r.ex.Unneeded = append(r.ex.Unneeded, o.Unneeded)
	n, err := r.unneeded(o)
	if err != nil || !o.Executed {
		return err
	}
	if n == nil {
		return r.without(o)
	}
	r.ex.Unneeded[at].Expanded = true
	inner := *r
	inner.stretch, inner.used, inner.failure, inner.cut = &o.stretch, 0, nil, r.cut && !o.ended
	switch {
	case !o.ended && !r.cut && r.failure == nil:
		return fmt.Errorf("%w: the removal of %s did not end", ErrMismatch, o.ID)
	case o.abandoned:
		inner.failure = inner.brokenOff()
	case !o.ended && r.failure != nil:
		inner.failure = inner.brokenOff()
		inner.failure.Reason, inner.failure.Code = r.failure.Reason, r.failure.Code
	}
	if !o.ended && !inner.cut && r.failure != nil && r.failure.Code == CodeSevered && len(o.records) == 0 {
		return nil // the device did not have the section
	}
	return r.within(&inner, n)
}

// within follows the suit-uninstall section of what is removed, in the place of what is followed now.
func (r *replay) within(inner *replay, n *node) error {
	outer, params, trail := *r, r.x.params, r.x.trail
	*r = *inner
	r.x.params = map[string]suit.Parameters{}
	r.x.trail = func(s Step) { s.Aside = true; trail(s) }
	err := r.x.section(n, suit.LabelUninstall)
	if r.lost == nil {
		err = r.verdict(err)
	}
	lost := r.lost
	*r = outer
	r.x.params, r.x.trail = params, trail
	if lost == nil && err != nil {
		lost = err
	}
	if r.lost = lost; lost != nil {
		return r.lose()
	}
	return nil
}

// without goes over a removal whose manifest is not at hand. What was removed because of it is told all the same.
func (r *replay) without(o *removal) error {
	for _, nested := range o.removals {
		nested.At = len(r.ex.Steps)
		r.ex.Unneeded = append(r.ex.Unneeded, nested.Unneeded)
		if err := r.without(nested); err != nil {
			return err
		}
	}
	return nil
}

// unneeded finds the manifest of a removal; nil if it is not at hand.
func (r *replay) unneeded(o *removal) (*node, error) {
	for _, e := range r.dependencies {
		if !o.Executed || !e.Digest.Equal(o.Digest) {
			continue
		}
		m, err := replayable(e)
		if err != nil {
			return nil, err
		}
		// Where it is recorded is its identifier, after the prefix of whoever depended on it.
		var prefix suit.ComponentID
		if own := len(m.ComponentID); own > 0 && own < len(o.ID) {
			prefix = o.ID[:len(o.ID)-own]
		}
		n, err := newNode(nil, m, o.ID, prefix)
		if err != nil {
			return nil, err
		}
		n.digest = e.Digest
		return n, nil
	}
	return nil, nil
}
