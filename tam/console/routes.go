package console

import (
	"slices"

	"github.com/go-teep/teep/tam/api"
)

// route is one page or action. All of them need a session, and those that change something the
// session's CSRF token too.
type route struct {
	pattern string
	// scopes may use it, beside administrator: those of the routes of the API that it calls, which decides
	// once more.
	scopes []api.Scope
	handle func(*console, *visit) error
}

func readers() []api.Scope  { return []api.Scope{api.ScopeOperator, api.ScopeAuditor} }
func everyone() []api.Scope { return append(readers(), api.ScopePublisher) }

// routes is the whole console. The tests go through it, so that none can be forgotten.
func routes() []route {
	readers, everyone, operators, auditors := readers(), everyone(), []api.Scope{api.ScopeOperator}, []api.Scope{api.ScopeAuditor}
	var administrators []api.Scope
	return []route{
		{"GET " + Prefix + "{$}", everyone, (*console).fleet},
		{"GET " + Prefix + "events", readers, (*console).events},

		{"GET " + Prefix + "devices", readers, (*console).devices},
		{"GET " + Prefix + "devices/{id}", readers, (*console).device},
		{"POST " + Prefix + "devices/{id}", operators, (*console).changeDevice},
		{"POST " + Prefix + "devices/{id}/replace", operators, (*console).replaceDevice},
		{"GET " + Prefix + "devices/{id}/messages/{message}", readers, (*console).message},
		{"GET " + Prefix + "admissions", readers, (*console).admissions},
		{"POST " + Prefix + "admissions", operators, (*console).setAdmission},
		{"GET " + Prefix + "new-admission", operators, (*console).newAdmission},
		{"GET " + Prefix + "admissions/{name}", readers, (*console).admission},

		{"GET " + Prefix + "components", everyone, (*console).components},
		{"GET " + Prefix + "components/{manifest}", everyone, (*console).component},
		{"GET " + Prefix + "components/{manifest}/{sequence}/devices", readers, (*console).holders},
		{"POST " + Prefix + "components/{manifest}/{sequence}/withdraw", operators, (*console).withdraw},
		{"GET " + Prefix + "payloads", everyone, (*console).payloads},
		{"GET " + Prefix + "publishers", everyone, (*console).publishers},
		{"POST " + Prefix + "publishers", administrators, (*console).addPublisher},
		{"GET " + Prefix + "new-publisher", administrators, (*console).newPublisher},
		{"GET " + Prefix + "publishers/{publisher}", everyone, (*console).publisher},
		{"POST " + Prefix + "publishers/{publisher}/keys", administrators, (*console).addKeys},
		{"POST " + Prefix + "publishers/{publisher}/revoke", administrators, (*console).revokePublisher},
		{"GET " + Prefix + "publishers/{publisher}/keys/{key}", everyone, (*console).publisherKey},
		{"POST " + Prefix + "publishers/{publisher}/keys/{key}", administrators, (*console).withdrawKey},
		{"GET " + Prefix + "deposits", everyone, (*console).deposits},
		{"POST " + Prefix + "deposits/{id}/remove", operators, (*console).removeDeposit},

		{"GET " + Prefix + "policies", everyone, (*console).policies},
		{"POST " + Prefix + "policies", operators, (*console).setPolicy},
		{"GET " + Prefix + "new-policy", operators, (*console).newPolicy},
		{"GET " + Prefix + "policies/{manifest}", everyone, (*console).policy},
		{"GET " + Prefix + "groups", readers, (*console).groups},
		{"POST " + Prefix + "groups", operators, (*console).setGroup},
		{"GET " + Prefix + "new-group", operators, (*console).newGroup},
		{"GET " + Prefix + "groups/{name}", readers, (*console).group},
		{"GET " + Prefix + "domains", readers, (*console).domains},
		{"POST " + Prefix + "domains", operators, (*console).setDomain},
		{"GET " + Prefix + "new-domain", operators, (*console).newDomain},
		{"GET " + Prefix + "domains/{name}", readers, (*console).domain},
		{"GET " + Prefix + "rollouts", everyone, (*console).rollouts},
		{"POST " + Prefix + "rollouts", operators, (*console).createRollout},
		{"GET " + Prefix + "new-rollout", operators, (*console).newRollout},
		{"GET " + Prefix + "rollouts/{name}", everyone, (*console).rollout},
		{"POST " + Prefix + "rollouts/{name}", operators, (*console).actOnRollout},
		{"POST " + Prefix + "rollouts/{name}/remove", operators, (*console).removeRollout},
		{"GET " + Prefix + "removals", readers, (*console).removals},
		{"POST " + Prefix + "removals", operators, (*console).setRemoval},
		{"GET " + Prefix + "new-removal", operators, (*console).newRemoval},
		{"GET " + Prefix + "removals/{name}", readers, (*console).removal},

		{"GET " + Prefix + "webhooks", auditors, (*console).webhooks},
		{"POST " + Prefix + "webhooks", administrators, (*console).addWebhook},
		{"POST " + Prefix + "webhooks/{id}/delete", administrators, (*console).deleteWebhook},
		{"GET " + Prefix + "tokens", auditors, (*console).tokens},
		{"POST " + Prefix + "tokens", administrators, (*console).addToken},
		{"POST " + Prefix + "tokens/{id}/revoke", administrators, (*console).revokeToken},
		{"GET " + Prefix + "audit", auditors, (*console).audit},
		{"GET " + Prefix + "tenants", everyone, (*console).tenants},
		{"POST " + Prefix + "tenants", everyone, (*console).switchTenant},
		{"POST " + Prefix + "logout", everyone, (*console).logout},
	}
}

// may tells whether the visitor has one of the scopes; the API decides, this only keeps forms from being
// shown in vain.
func (v *visit) may(scopes ...api.Scope) bool {
	return v.caller != nil && slices.ContainsFunc(append(scopes, api.ScopeAdministrator), v.caller.Has)
}

// section is a part of the navigation.
type section struct {
	Title string
	Links []link
}

// link leads to a page, for those who may see it.
type link struct {
	Path, Title string
	scopes      []api.Scope
	// pages are the names of the templates that belong there.
	pages []string
	// Current is what aria-current says: page, true for a page below it, or empty.
	Current string
}

// sections is where one can go. Who may see what is as the API's routes have it, which decide.
func sections() []section {
	readers, everyone, auditors := readers(), everyone(), []api.Scope{api.ScopeAuditor}
	return []section{
		{"Overview", []link{
			{Path: "", Title: "Fleet", scopes: readers, pages: []string{"fleet"}},
			{Path: "events", Title: "Events", scopes: readers, pages: []string{"events"}},
		}},
		{"Devices", []link{
			{Path: "devices", Title: "Devices", scopes: readers, pages: []string{"devices", "device", "message"}},
			{Path: "admissions", Title: "Admission", scopes: readers, pages: []string{"admissions", "admissionform"}},
		}},
		{"Software", []link{
			{Path: "components", Title: "Components", scopes: everyone, pages: []string{"components", "component", "holders"}},
			{Path: "payloads", Title: "Payloads", scopes: everyone, pages: []string{"payloads"}},
			{Path: "publishers", Title: "Publishers", scopes: everyone, pages: []string{"publishers", "publisher", "publisherkey", "publisherform"}},
			{Path: "deposits", Title: "Keys and data", scopes: everyone, pages: []string{"deposits"}},
		}},
		{"Desired state", []link{
			{Path: "policies", Title: "Policies", scopes: everyone, pages: []string{"policies", "policyform"}},
			{Path: "groups", Title: "Groups", scopes: readers, pages: []string{"groups", "groupform"}},
			{Path: "domains", Title: "Domains", scopes: readers, pages: []string{"domains", "domainform"}},
			{Path: "rollouts", Title: "Rollouts", scopes: everyone, pages: []string{"rollouts", "rollout", "rolloutform"}},
			{Path: "removals", Title: "Removals", scopes: readers, pages: []string{"removals", "removalform"}},
		}},
		{"Administration", []link{
			{Path: "webhooks", Title: "Webhooks", scopes: auditors, pages: []string{"webhooks", "webhooksecret"}},
			{Path: "tokens", Title: "Tokens", scopes: auditors, pages: []string{"tokens", "tokensecret"}},
			{Path: "audit", Title: "Audit", scopes: auditors, pages: []string{"audit"}},
			{Path: tenantsPath, Title: "Switch tenant", scopes: everyone, pages: []string{"tenants"}},
		}},
	}
}

// tenantsPath is where one goes to other tenants.
const tenantsPath = "tenants"

// navigation is what the visitor may see, with where they are. tenants says that there are others to go to.
func (v *visit) navigation(page string, tenants bool) []section {
	var shown []section
	for _, s := range sections() {
		var links []link
		for _, l := range s.Links {
			if !v.may(l.scopes...) || l.Path == tenantsPath && !tenants {
				continue
			}
			for i, p := range l.pages {
				switch {
				case p != page:
				case i == 0:
					l.Current = "page"
				default:
					l.Current = "true"
				}
			}
			links = append(links, l)
		}
		if len(links) > 0 {
			shown = append(shown, section{s.Title, links})
		}
	}
	return shown
}
