package console

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

const (
	eventsPage = 50
	// eventsLookedAt bounds how many events a page looks at for those of one kind.
	eventsLookedAt = 2000
)

// eventsData is a page of what happened with all devices, newest first.
type eventsData struct {
	Events []api.FeedEvent
	Kind   tam.EventKind
	Kinds  []choice
	// Newest says that the page begins with the newest event, and so keeps itself up to date.
	Newest bool
	// Next leads to earlier events; From is the position before which this page begins.
	Next string
	// News is what a screen reader is told when it changed.
	News string
}

// eventKinds are the kinds of event, to choose from.
func eventKinds(chosen ...tam.EventKind) []choice {
	var list []choice
	for _, k := range tam.EventKinds() {
		list = append(list, choice{string(k), string(k), slices.Contains(chosen, k)})
	}
	return list
}

func (s *console) events(v *visit) error {
	kind, after := tam.EventKind(v.r.URL.Query().Get("kind")), v.r.URL.Query().Get("after")
	data := eventsData{Kind: kind, Kinds: eventKinds(kind), Newest: after == ""}
	for looked := 0; len(data.Events) < eventsPage && looked < eventsLookedAt; {
		limit := eventsPage
		if kind != "" {
			limit = 1000
		}
		page, err := v.api.NewestEvents(v.r.Context(), after, limit)
		if err != nil {
			return err
		}
		looked += len(page.Items)
		for _, e := range page.Items {
			if kind == "" || e.Kind == kind {
				data.Events = append(data.Events, e)
			}
			if after = strconv.FormatInt(e.Position, 10); len(data.Events) == eventsPage {
				break
			}
		}
		data.Next = after
		if page.Next == "" && (len(page.Items) == 0 || after == strconv.FormatInt(page.Items[len(page.Items)-1].Position, 10)) {
			data.Next = ""
			break
		}
	}
	if len(data.Events) > 0 {
		e := data.Events[0]
		about := "device " + short(e.Device)
		if e.Rollout != "" {
			about = "rollout " + visible(e.Rollout)
		}
		data.News = "Newest: " + string(e.Kind) + ", " + about + ", " + e.At.UTC().Format("15:04:05")
	}
	s.render(v, http.StatusOK, "events", "Events", data)
	return nil
}
