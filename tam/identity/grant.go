// Package identity recognizes the operators of a TAM by what an organization has already: its OpenID
// Connect provider and its client certificates.
//
//	provider, err := identity.NewProvider(identity.ProviderConfig{Issuer: "https://login.example", ClientID: "teep-tam", …})
//	handler, err := api.NewHandler(api.Config{Authenticators: []api.Authenticator{provider, certificates}, …})
//
// Nobody may do anything by being known: a [Grant] says what a value of a claim, or a name in a
// certificate, allows. Who matches no grant is refused.
package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/tam/api"
)

// Grant is what somebody may do.
type Grant struct {
	// Match is the value of a claim, or the name in a certificate, that it is given to.
	Match string
	// Scopes are the roles; at least one.
	Scopes []api.Scope
	// Publisher limits uploads to those that this publisher signed; "" for no limit.
	Publisher string
}

// errSeveralPublishers says that two grants contradict each other.
var errSeveralPublishers = errors.New("identity: grants for several publishers match: give one token for each instead")

// CheckGrants refuses grants that would give nothing, or something that does not exist.
func CheckGrants(grants []Grant) error {
	for i, g := range grants {
		switch {
		case g.Match == "":
			return fmt.Errorf("identity: grant %d matches nothing: say which value it is for", i+1)
		case len(g.Scopes) == 0:
			return fmt.Errorf("identity: grant %d for %q gives nothing: name scopes of %v", i+1, g.Match, api.Scopes())
		}
		for _, s := range g.Scopes {
			if !slices.Contains(api.Scopes(), s) {
				return fmt.Errorf("identity: grant %d for %q: there is no scope %q; the scopes are %v", i+1, g.Match, s, api.Scopes())
			}
		}
	}
	return nil
}

// grant adds up what is given to any of the values; nil when nothing is.
func grant(grants []Grant, values []string) (*api.Caller, error) {
	c := &api.Caller{}
	limits := map[string]bool{}
	for _, g := range grants {
		if !slices.Contains(values, g.Match) {
			continue
		}
		for _, s := range g.Scopes {
			if !slices.Contains(c.Scopes, s) {
				c.Scopes = append(c.Scopes, s)
			}
			if s == api.ScopePublisher || s == api.ScopeAdministrator {
				limits[g.Publisher] = true
			}
		}
	}
	switch {
	case len(c.Scopes) == 0:
		return nil, nil
	case limits[""]: // somebody trusts them with all
	case len(limits) > 1:
		return nil, errSeveralPublishers
	default:
		for name := range limits {
			c.Publisher = name
		}
	}
	return c, nil
}
