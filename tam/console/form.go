package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-teep/teep/tam/api"
)

// form is what all forms have that save a record.
type form struct {
	// New says that there is no record yet, so that its name can be chosen.
	New bool
	// Tag is the entity tag of the record that the form shows.
	Tag string
	// MayChange says whether the visitor may save it.
	MayChange bool
	// Refused is why it was not saved.
	Refused   *api.Problem
	Previewed previewed
}

// formOf reads what a form sends back of itself.
func (v *visit) formOf(scopes ...api.Scope) form {
	return form{New: v.r.PostFormValue("new") != "", Tag: v.r.PostFormValue("tag"), MayChange: v.may(scopes...)}
}

// again shows a form once more, as it was filled in, when the API refused what is in it; any other error
// is returned.
func (s *console) again(v *visit, err error, refused **api.Problem, name, title string, data any) error {
	var p *api.Problem
	if !errors.As(err, &p) || !slices.Contains(correctable, p.Status) {
		return err
	}
	*refused = p
	s.render(v, p.Status, name, title, data)
	return nil
}

// correctable are the answers to forms that can be sent again, written otherwise.
var correctable = []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity}

// need refuses a page that is there for those only who have one of the scopes.
func (v *visit) need(scopes ...api.Scope) error {
	if v.may(scopes...) {
		return nil
	}
	return &api.Problem{Status: http.StatusForbidden, Code: "scope", Detail: "You may not do this: it needs other scopes than yours.",
		Next: "Ask the TAM's administrator for them."}
}

// field is what somebody wrote into a line of a form.
func (v *visit) field(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }

// area is what somebody wrote into a field of several lines.
func (v *visit) area(name string) string {
	return strings.ReplaceAll(v.r.PostFormValue(name), "\r\n", "\n")
}

// refusedWith takes a problem of that status out of an error: what is left is another one.
func refusedWith(err error, status int) (*api.Problem, error) {
	var p *api.Problem
	if errors.As(err, &p) && p.Status == status {
		return p, nil
	}
	return nil, err
}
