package api

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/inspect"
	"github.com/go-teep/teep/tam"
)

// Message is a recorded message of a session with a device.
type Message struct {
	ID        int64         `json:"id,string"`
	At        time.Time     `json:"at"`
	Direction tam.Direction `json:"direction"` // received or sent, seen from the TAM
	// Asked is when the QueryRequest was issued that the message answers.
	Asked *time.Time `json:"asked,omitempty"`
	Size  int        `json:"size"` // bytes
}

// DecodedMessage is a recorded message, opened and explained as by 'teep inspect'.
type DecodedMessage struct {
	Message Message `json:"message"`
	// Kept says whether the message itself was recorded; too large ones are not.
	Kept bool `json:"kept"`
	// Summary is a line on what the message is, Notation its annotated diagnostic notation.
	Summary  string           `json:"summary"`
	Notation string           `json:"notation"`
	Parts    []MessagePart    `json:"parts"`
	Findings []MessageFinding `json:"findings"`
	// Data is the message itself, in base64.
	Data string `json:"data,omitempty"`
}

// MessagePart is a structure inside a message: Evidence, a manifest, a report.
type MessagePart struct {
	Path    string `json:"path"`
	Kind    string `json:"kind"`
	Summary string `json:"summary"`
	Bytes   int    `json:"bytes"`
	// Notation is that of a part that is encrypted in the message and could be opened here.
	Notation string `json:"notation,omitempty"`
}

// MessageFinding is something to know about a message.
type MessageFinding struct {
	Severity string `json:"severity"` // error, warning or note
	Path     string `json:"path"`
	Section  string `json:"section"`
	Text     string `json:"text"`
}

func viewMessage(m *tam.Recorded) Message {
	return Message{ID: m.ID, At: m.At.UTC(), Direction: m.Direction, Asked: timePointer(m.Asked), Size: m.Size}
}

func (h *handler) messages(w http.ResponseWriter, r *http.Request) error {
	before, limit, err := descending(r)
	if err != nil {
		return err
	}
	if _, err := h.Store.Device(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	list, err := h.Store.RecordedMessages(r.Context(), r.PathValue("id"), before, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewMessage, func(m *tam.Recorded) string {
		return strconv.FormatInt(m.ID, 10)
	}))
}

func (h *handler) message(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseInt(r.PathValue("message"), 10, 64)
	if err != nil {
		return badRequest("message", "That is no number of a message.", "Use an id of the list of messages, as it was given.")
	}
	d, err := h.Store.Device(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	m, err := h.Store.RecordedMessage(r.Context(), d.ID, id)
	if err != nil {
		return err
	}
	view, err := h.decode(d, m)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, view)
}

// decode explains a message with the keys that are at hand: the device's own for signatures, those of the
// TAM for what was encrypted to it.
func (h *handler) decode(d *tam.Device, m *tam.Recorded) (*DecodedMessage, error) {
	view := &DecodedMessage{Message: viewMessage(m), Kept: len(m.Data) > 0, Data: base64.StdEncoding.EncodeToString(m.Data), Parts: []MessagePart{}, Findings: []MessageFinding{}}
	if !view.Kept {
		view.Summary = "too large to be recorded"
		return view, nil
	}
	o := inspect.Options{Now: m.At}
	if h.Keys != nil {
		o.DecryptKeys, o.Keys = h.Keys()
		o.Keys = slices.Clone(o.Keys)
	}
	if key, err := cose.ParseKey(d.AgentKey); err == nil {
		o.Keys = append(o.Keys, key)
	}
	report, err := inspect.Inspect(m.Data, o)
	if err != nil {
		return nil, err
	}
	view.Summary, view.Notation = report.Summary, report.Notation
	for _, p := range report.Parts {
		view.Parts = append(view.Parts, MessagePart{p.Path, string(p.Kind), p.Summary, p.Bytes, p.Notation})
	}
	for _, f := range report.Findings {
		view.Findings = append(view.Findings, MessageFinding{string(f.Severity), f.Path, f.Section, f.Problem})
	}
	return view, nil
}
