package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-teep/teep/suit"
)

// readJSON decodes a request body strictly: of the right type, with known members only, and
// nothing behind it.
func readJSON(r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &Problem{Status: http.StatusUnsupportedMediaType, Code: "media-type",
			Detail: "The request body is not application/json.", Next: "Set Content-Type: application/json."}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonFault(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return jsonFault(errors.New("something follows the object"))
	}
	return nil
}

func jsonFault(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	return badRequest("json", fmt.Sprintf("The request body is not as it should be: %v.", err), "Compare it with the documentation of this route.")
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// page reads ?after= and ?limit=.
func page(q url.Values) (after string, limit int, err error) {
	limit = defaultPage
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxPage {
			return "", 0, badRequest("limit", "limit is not a number from 1 to 1000.", "Leave it out for 100.")
		}
	}
	return q.Get("after"), limit, nil
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is the value for ?after= of the next page; empty on the last one.
	Next string `json:"next,omitempty"`
}

// newPage converts records, of which one more than limit was asked for.
func newPage[R, T any](records []R, limit int, view func(*R) T, cursor func(*R) string) Page[T] {
	p := Page[T]{Items: []T{}}
	for i := range records {
		if i == limit {
			p.Next = cursor(&records[i-1])
			break
		}
		p.Items = append(p.Items, view(&records[i]))
	}
	return p
}

func parseID(s string) (suit.ComponentID, error) {
	id, err := suit.ParseComponentID(s)
	if err != nil || len(id) == 0 {
		return nil, badRequest("component-identifier", fmt.Sprintf("%q is not a component identifier.", s),
			"Write its segments as 'text' or h'hex', joined by slashes; in a path, percent-encode the whole.")
	}
	return id, nil
}

// printable refuses names that people could not read, or would read as another one, and that not every
// store can hold.
func printable(what, s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError }) {
		return badRequest(what, "The "+what+" has characters that are not visible.", "Use letters, digits, spaces and punctuation.")
	}
	return nil
}

func stringIDs(ids []suit.ComponentID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}

// timePointer leaves out times that are not set.
func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
