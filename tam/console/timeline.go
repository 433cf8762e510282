package console

import (
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// moment is one entry of a timeline: an event or a message.
type moment struct {
	At      time.Time
	Event   *api.Event
	Message *api.Message
	// Summary says what the message is, where it was looked into.
	Summary string
}

// timeline merges events with the messages around them, oldest first. Messages are kept for a shorter
// time than events; those that are older than the last event of this page belong to the next one.
func timeline(events []api.Event, messages []api.Message, next string) []moment {
	var all []moment
	for i := range messages {
		m := &messages[i]
		if len(events) > 0 && m.At.Before(events[len(events)-1].At.Add(-time.Second)) && next != "" {
			continue
		}
		all = append(all, moment{At: m.At, Message: m})
	}
	for i := range events {
		all = append(all, moment{At: events[i].At, Event: &events[i]})
	}
	slices.Reverse(all)
	slices.SortStableFunc(all, compareMoments)
	return all
}

// compareMoments puts first what came first. The store keeps events by the millisecond and messages by the
// microsecond; in one millisecond, what came in comes before what it led to, and that before the answer.
func compareMoments(a, b moment) int {
	if c := a.At.Truncate(time.Millisecond).Compare(b.At.Truncate(time.Millisecond)); c != 0 {
		return c
	}
	return a.rank() - b.rank()
}

func (m moment) rank() int {
	switch {
	case m.Event != nil:
		return 1
	case m.Message.Direction == tam.DirectionSent:
		return 2
	}
	return 0
}

// summarized is how many messages of a timeline are looked into.
const summarized = 30

// summarize says what the newest messages are.
func (v *visit) summarize(device string, story []moment) {
	left := summarized
	for i := len(story) - 1; i >= 0 && left > 0; i-- {
		if story[i].Message == nil {
			continue
		}
		left--
		// One that went away meanwhile, or cannot be read, is listed all the same.
		if m, err := v.api.Message(v.r.Context(), device, story[i].Message.ID); err == nil {
			story[i].Summary = strings.TrimPrefix(m.Summary, "COSE_Sign1: TEEP message ")
			if !m.Kept {
				story[i].Summary = "a message, " + m.Summary
			}
		}
	}
}

// chapter is a session of a device, or something that happened outside of one.
type chapter struct {
	Session bool
	Begins  time.Time
	Moments []moment
	// Outcome is what the session came to: a kind of event.
	Outcome tam.EventKind
}

// sessionPause is after how long what happens belongs to no session any more.
const sessionPause = 30 * time.Minute

// chapters parts a timeline into sessions, newest first. A session begins with the device's answer to a
// QueryRequest, or with its appraisal where the message is not kept any more.
func chapters(story []moment) []chapter {
	var all []chapter
	for _, m := range story {
		var current *chapter
		if len(all) > 0 {
			current = &all[len(all)-1]
			if last := current.Moments[len(current.Moments)-1]; m.At.Sub(last.At) > sessionPause {
				current = nil
			}
		}
		switch appraised := m.appraised(); {
		case current == nil, m.begins(), appraised && (!current.Session || current.Outcome != ""):
			all = append(all, chapter{Session: m.begins() || appraised, Begins: m.At, Moments: []moment{m}})
		default:
			current.Moments = append(current.Moments, m)
		}
		if m.Event != nil && m.Event.Kind != tam.EventStatus {
			all[len(all)-1].Outcome = m.Event.Kind
		}
	}
	slices.Reverse(all)
	return all
}

// begins tells whether the moment is a device's answer to a QueryRequest.
func (m moment) begins() bool { return m.Message != nil && m.Message.Asked != nil }

func (m moment) appraised() bool {
	return m.Event != nil && (m.Event.Kind == tam.EventAttested || m.Event.Kind == tam.EventAttestationFailed)
}
