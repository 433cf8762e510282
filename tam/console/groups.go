package console

import (
	"net/http"
	"strconv"

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
	form
	Name, Match, Priority, Components string
	ComponentsHint                    string
}

func (s *console) newGroup(v *visit) error {
	s.render(v, http.StatusOK, "groupform", "New group", groupForm{form: form{New: true, MayChange: true}, Priority: "0", ComponentsHint: componentsHint})
	return nil
}

func (s *console) group(v *visit) error {
	g, tag, err := v.api.Group(v.r.Context(), v.r.PathValue("name"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "groupform", "Group "+visible(g.Name), groupForm{
		form: form{Tag: tag, MayChange: v.may(api.ScopeOperator)},
		Name: g.Name, Match: g.Match, Priority: strconv.Itoa(g.Priority), Components: formatComponents(g.Components), ComponentsHint: componentsHint,
	})
	return nil
}

func (s *console) setGroup(v *visit) error {
	f := groupForm{
		form: v.formOf(api.ScopeOperator),
		Name: v.field("name"), Match: v.field("match"), Priority: v.field("priority"), Components: v.area("components"), ComponentsHint: componentsHint,
	}
	if v.r.PostFormValue("delete") != "" {
		if err := v.api.DeleteGroupIf(v.r.Context(), f.Name, f.Tag); err != nil {
			return err
		}
		return v.back("groups")
	}
	title := "Group " + visible(f.Name)
	if f.New {
		title = "New group"
	}
	g, err := f.group()
	if v.wantsPreview() {
		if g.Name == "" {
			g.Name = "preview"
		}
		if f.Previewed, err = v.preview(api.Proposal{Group: &g}, err); err != nil {
			return err
		}
		s.render(v, http.StatusOK, "groupform", title, f)
		return nil
	}
	if err == nil {
		err = v.api.SetGroupIf(v.r.Context(), g, f.Tag)
	}
	if err != nil {
		return s.again(v, err, &f.Refused, "groupform", title, &f)
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
