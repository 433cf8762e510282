package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-teep/teep/tam/api"
)

// tokensData is the list of tokens, with the form for a new one as it was filled in.
type tokensData struct {
	Tokens    []tokenRow
	Next      string
	MayChange bool

	Name, Publisher, Owner string
	Scopes, Lifetime       []choice
	Refused                *api.Problem
}

// tokenRow is a token, and whether it still counts.
type tokenRow struct {
	api.Token
	State string
	Own   bool // the visitor is logged in with it
}

func (s *console) tokens(v *visit) error {
	data, err := s.tokenList(v, nil, defaultLifetime)
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "tokens", "API tokens", data)
	return nil
}

// defaultLifetime is the one that is offered first, in days.
const defaultLifetime = 30

func (s *console) tokenList(v *visit, scopes []api.Scope, days int) (*tokensData, error) {
	page, err := v.api.Tokens(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return nil, err
	}
	data := &tokensData{Next: page.Next, MayChange: v.may(api.ScopeAdministrator)}
	for _, t := range page.Items {
		row := tokenRow{Token: t, State: "valid", Own: t.ID == v.caller.ID}
		switch {
		case t.Revoked != nil:
			row.State = "revoked"
		case !s.Clock().Before(t.Expires):
			row.State = "expired"
		}
		data.Tokens = append(data.Tokens, row)
	}
	for _, scope := range api.Scopes() {
		data.Scopes = append(data.Scopes, choice{string(scope), mayDo(scope), slices.Contains(scopes, scope)})
	}
	for _, n := range []int{1, 7, 30, 90, 366} {
		data.Lifetime = append(data.Lifetime, choice{strconv.Itoa(n), count(n, "day", "days"), n == days})
	}
	return data, nil
}

// mayDo says what a scope allows.
func mayDo(s api.Scope) string {
	switch s {
	case api.ScopeAdministrator:
		return "everything, publishers and tokens included"
	case api.ScopeOperator:
		return "devices, policies, rollouts and removals"
	case api.ScopePublisher:
		return "uploads of what it is limited to, and a look at what is published"
	case api.ScopeAuditor:
		return "reading, the audit log included"
	}
	return ""
}

func (s *console) addToken(v *visit) error {
	n := api.NewToken{Name: v.field("name"), Publisher: v.field("publisher"), Owner: v.field("owner")}
	for _, scope := range v.r.PostForm["scope"] {
		n.Scopes = append(n.Scopes, api.Scope(scope))
	}
	days, err := strconv.Atoi(v.field("days"))
	if err != nil {
		err = &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: fmt.Sprintf("%q is no number of days.", v.field("days")), Next: "Choose how long the token is good."}
	}
	n.Lifetime = api.Duration(time.Duration(days) * 24 * time.Hour)
	var made *api.Token
	if err == nil {
		made, err = v.api.AddToken(v.r.Context(), n)
	}
	if err == nil {
		s.render(v, http.StatusCreated, "tokensecret", "The new token", made)
		return nil
	}
	data, listErr := s.tokenList(v, n.Scopes, days)
	if listErr != nil {
		return listErr
	}
	data.Name, data.Publisher, data.Owner = n.Name, n.Publisher, n.Owner
	return s.again(v, err, &data.Refused, "tokens", "API tokens", data)
}

func (s *console) revokeToken(v *visit) error {
	if err := v.api.RevokeToken(v.r.Context(), v.r.PathValue("id")); err != nil {
		return err
	}
	return v.back("tokens")
}
