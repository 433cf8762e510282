package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/tam"
)

// Report is a SUIT Report that came in a recorded message of a device.
type Report struct {
	// Message is the one that it came in, Index its place in there.
	Message int64     `json:"message,string"`
	Index   int       `json:"index"`
	At      time.Time `json:"at"`
	// Digest is that of the manifest, URI its reference URI.
	Digest string `json:"digest,omitempty"`
	URI    string `json:"uri,omitempty"`
	// Manifest and Procedure say what ran on which manifest; reports of other agents may not say.
	Manifest  string `json:"manifest,omitempty"`
	Procedure string `json:"procedure,omitempty"`
	// Reason is ok, or why it failed, and Place where.
	Reason string `json:"reason,omitempty"`
	Place  string `json:"place,omitempty"`
	// Problem says why a report could not be opened; the rest is empty then.
	Problem string `json:"problem,omitempty"`
	// Data is the report itself, without protection, in base64.
	Data string `json:"data,omitempty"`
}

// reports opens what devices report about the manifests that they run. Messages that were recorded had a
// signature that held.
func (h *handler) reports(w http.ResponseWriter, r *http.Request) error {
	return recorded(h, w, r, tam.DirectionReceived, nil, func(m *tam.Recorded) []Report {
		var all []Report
		for n, data := range reportsIn(m.Data) {
			all = append(all, h.viewReport(m, n, data))
		}
		return all
	})
}

// recorded answers with what is in the recorded messages of one direction, newest first. The pages are those of the
// messages. What stands in the device's record goes first; nil: nothing does.
func recorded[T any](h *handler, w http.ResponseWriter, r *http.Request, direction tam.Direction, inRecord func(*tam.Device) []T, in func(*tam.Recorded) []T) error {
	before, limit, err := descending(r)
	if err != nil {
		return err
	}
	d, err := h.Store.Device(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	list, err := h.Store.RecordedMessages(r.Context(), d.ID, before, limit+1)
	if err != nil {
		return err
	}
	page := Page[T]{Items: []T{}}
	if inRecord != nil && before == 0 {
		page.Items = append(page.Items, inRecord(d)...)
	}
	for i := range list {
		if i == limit {
			page.Next = strconv.FormatInt(list[i-1].ID, 10)
			break
		}
		if list[i].Direction != direction || list[i].Size > tam.MaxRecorded {
			continue
		}
		m, err := h.Store.RecordedMessage(r.Context(), d.ID, list[i].ID)
		if err != nil {
			return err
		}
		page.Items = append(page.Items, in(m)...)
	}
	return writeJSON(w, http.StatusOK, page)
}

// reportsIn finds the protected reports of a message, which may be of any kind.
func reportsIn(message []byte) [][]byte {
	payload, err := cose.UnverifiedPayload(message)
	if err != nil {
		return nil
	}
	m, err := teep.Decode(payload)
	if err != nil {
		return nil
	}
	switch m := m.(type) {
	case *teep.QueryResponse:
		return m.SUITReports
	case *teep.Success:
		return m.SUITReports
	case *teep.Error:
		return m.SUITReports
	}
	return nil
}

func (h *handler) viewReport(m *tam.Recorded, n int, data []byte) Report {
	view := Report{Message: m.ID, Index: n, At: m.At.UTC()}
	var keys cose.DecryptKeys
	if h.Keys != nil {
		keys, _ = h.Keys()
	}
	report, err := tam.OpenReport(data, keys)
	var plain []byte
	if err == nil {
		plain, err = report.Encode()
	}
	if err != nil {
		view.Problem = err.Error()
		return view
	}
	view.Digest, view.URI, view.Reason = report.Reference.Digest.String(), report.Reference.URI, suit.ReasonOK.String()
	if id, proc, ok := processor.Told(report); ok {
		view.Manifest, view.Procedure = id.String(), proc.String()
	}
	if f := report.Failure; f != nil {
		view.Reason = f.Reason.String()
		if f.Record.Section != 0 {
			view.Place = f.Record.Section.String() + " at byte " + strconv.FormatUint(f.Record.Offset, 10)
		}
	}
	view.Data = base64.StdEncoding.EncodeToString(plain)
	return view
}
