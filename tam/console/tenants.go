package console

import (
	"net/http"
	"regexp"

	"github.com/go-teep/teep/tam/api"
)

// tenantsData is where one can go from here.
type tenantsData struct {
	// Served says that the service has tenants at all, Within that this is the console of one.
	Served, Within bool
	Names          []string
	Problem        *api.Problem
	Name           string
}

func (s *console) tenantsData(v *visit) (tenantsData, error) {
	d := tenantsData{Served: s.Tenants != nil, Within: s.Base != ""}
	var err error
	if d.Served && s.Tenants.Names != nil && v.may() {
		d.Names, err = s.Tenants.Names()
	}
	return d, err
}

func (s *console) tenants(v *visit) error {
	d, err := s.tenantsData(v)
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "tenants", "Tenants", d)
	return nil
}

// tenantName is what a path can have as the name of a tenant.
var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// switchTenant leads to another console of the service, where one has to be logged in as well. It does not
// tell whether there is a tenant of the name.
func (s *console) switchTenant(v *visit) error {
	name := v.field("name")
	to := Prefix
	switch {
	case s.Tenants == nil:
		return s.tenants(v)
	case name == "" && v.r.PostFormValue("service") != "":
	case tenantName.MatchString(name):
		to = s.Tenants.Path + name + Prefix
	default:
		d, err := s.tenantsData(v)
		if err != nil {
			return err
		}
		d.Name, d.Problem = name, &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: "That is not the name of a tenant.",
			Next: "Write it as it stands in the address of its console: letters, digits and hyphens."}
		s.render(v, http.StatusUnprocessableEntity, "tenants", "Tenants", d)
		return nil
	}
	http.Redirect(outside(v.w), v.r, to, http.StatusSeeOther)
	return nil
}
