package console

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// groupsData is the list of groups.
type groupsData struct {
	Groups    []policy.Group
	Next      string
	MayChange bool
}

func (s *console) groups(v *visit) error {
	page, err := v.api.Groups(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "groups", "Groups", groupsData{page.Items, page.Next, v.may(api.ScopeOperator)})
	return nil
}

// groupForm is a group as somebody writes it.
type groupForm struct {
	Name, Match, Priority, Components string
	// New says that the name can be chosen.
	New            bool
	ComponentsHint string
	Previewed      previewed
}

func (s *console) newGroup(v *visit) error {
	s.render(v, http.StatusOK, "groupform", "New group", groupForm{New: true, Priority: "0", ComponentsHint: componentsHint})
	return nil
}

func (s *console) group(v *visit) error {
	name := v.r.PathValue("name")
	for after := ""; ; {
		page, err := v.api.Groups(v.r.Context(), after)
		if err != nil {
			return err
		}
		for _, g := range page.Items {
			if g.Name == name {
				s.render(v, http.StatusOK, "groupform", "Group "+visible(name), groupForm{
					Name: g.Name, Match: g.Match, Priority: strconv.Itoa(g.Priority), Components: formatComponents(g.Components),
					ComponentsHint: componentsHint,
				})
				return nil
			}
		}
		if after = page.Next; after == "" {
			return &api.Problem{Status: http.StatusNotFound, Detail: "There is no group of that name.", Next: "See the list of groups."}
		}
	}
}

func (s *console) setGroup(v *visit) error {
	form := groupForm{
		Name: strings.TrimSpace(v.r.PostFormValue("name")), Match: strings.TrimSpace(v.r.PostFormValue("match")),
		Priority:   strings.TrimSpace(v.r.PostFormValue("priority")),
		Components: strings.ReplaceAll(v.r.PostFormValue("components"), "\r\n", "\n"),
		New:        v.r.PostFormValue("new") != "", ComponentsHint: componentsHint,
	}
	if v.r.PostFormValue("delete") != "" {
		if err := v.api.DeleteGroup(v.r.Context(), form.Name); err != nil {
			return err
		}
		return v.back("groups")
	}
	g, err := form.group()
	if v.wantsPreview() {
		if g.Name == "" {
			g.Name = "preview"
		}
		if form.Previewed, err = v.preview(api.Proposal{Group: &g}, err); err != nil {
			return err
		}
		s.render(v, http.StatusOK, "groupform", "Group "+visible(form.Name), form)
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := v.api.SetGroup(v.r.Context(), g); err != nil {
		return err
	}
	return v.back("groups")
}

func (f *groupForm) group() (policy.Group, error) {
	g := policy.Group{Name: f.Name, Match: f.Match}
	var err error
	if f.Priority != "" {
		if g.Priority, err = strconv.Atoi(f.Priority); err != nil {
			return g, &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: "The priority is not a number.", Next: "Write a whole number; the highest counts."}
		}
	}
	g.Components, err = parseComponents(f.Components)
	return g, err
}
