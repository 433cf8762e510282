package api

import (
	"net/http"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// policyRoutes are the routes about which devices should have what, and how fast that reaches them.
func (c Config) policyRoutes() []route {
	operators := []Scope{ScopeOperator}
	readers := []Scope{ScopeOperator, ScopeAuditor}
	everyone := []Scope{ScopeOperator, ScopeAuditor, ScopePublisher}
	pages := []string{queryAfter, queryLimit}
	list := []route{
		{pattern: "POST /v1/devices/{id}/replace", summary: "Let a device take the place of another record of it, under an older agent key", scopes: operators, maxBody: maxJSON,
			in: Replacement{}, out: Device{}, handle: (*handler).replaceDevice},
		{pattern: "GET /v1/devices/{id}/policy", summary: "What a device should have, and who says so", scopes: readers, out: DevicePolicy{}, handle: (*handler).devicePolicy},
		{pattern: "GET /v1/components/{manifest}/{sequence}/devices", summary: "Devices that have a version", scopes: readers, query: pages,
			out: Page[Device]{}, handle: (*handler).devicesWith},
		{pattern: "GET /v1/installed", summary: "How many devices have each version", scopes: readers, query: []string{queryAfter, queryLimit, queryManifest},
			out: Page[InstalledCount]{}, handle: (*handler).installed},
		{pattern: "GET /v1/installed/history", summary: "How many devices had each version in the last seven days, by the hour", scopes: readers,
			query: pages, out: Page[FieldCount]{}, handle: (*handler).field},

		{pattern: "POST /v1/publishers/{name}/keys", summary: "Trust further keys or certificates of a publisher", maxBody: maxJSON,
			in: NewKeys{}, out: Publisher{}, handle: (*handler).addKeys},
		{pattern: "GET /v1/publishers/{name}/keys/{key}/versions", summary: "What a key signed, and how many devices have it; pages may be short, and next leads on", scopes: everyone,
			query: pages, out: Page[SignedVersion]{}, handle: (*handler).signedBy},
		{pattern: "POST /v1/publishers/{name}/keys/{key}/withdraw", summary: "Trust a key or certificate no longer, for good", maxBody: maxJSON,
			in: KeyWithdrawal{}, out: Page[SignedVersion]{}, handle: (*handler).withdrawKey},
		{pattern: "GET /v1/publishers/{name}/revocation-lists", summary: "Certificate revocation lists of a publisher's signers, what they revoke, and how many devices have it",
			scopes: everyone, out: RevocationLists{}, handle: (*handler).revocationLists},
		{pattern: "POST /v1/publishers/{name}/revocation-lists", summary: "Put newer certificate revocation lists of a publisher's signers in force", maxBody: maxRevocationLists,
			in: NewRevocationLists{}, out: RevocationLists{}, handle: (*handler).renewRevocationLists},

		{pattern: "GET /v1/rollouts", summary: "Rollouts, with what they reached", scopes: everyone, query: []string{queryAfter, queryLimit, queryArchived}, out: Page[Rollout]{}, handle: (*handler).listRollouts},
		{pattern: "POST /v1/rollouts", summary: "Bring a version to devices in stages", scopes: operators, maxBody: maxJSON,
			in: NewRollout{}, out: Rollout{}, status: http.StatusCreated, handle: (*handler).createRollout},
		{pattern: "GET /v1/rollouts/{name}", summary: "A rollout, with what it reached", scopes: everyone, out: Rollout{}, conditional: true, handle: (*handler).rollout},
		{pattern: "DELETE /v1/rollouts/{name}", summary: "Remove a rollout that ended and makes no difference any more, for good", scopes: operators,
			status: http.StatusNoContent, conditional: true, handle: (*handler).deleteRollout},
		{pattern: "POST /v1/rollouts/{name}/abort", summary: "End a rollout: no further device gets the version", scopes: operators, maxBody: maxJSON,
			in: Withdrawal{}, out: Rollout{}, conditional: true, handle: (*handler).abortRollout},

		{pattern: "POST /v1/preview", summary: "What a change would do to which devices, before it is made", scopes: operators, maxBody: maxJSON,
			in: Proposal{}, out: Preview{}, handle: (*handler).preview},
	}
	list = append(list, appraisalPolicyRoutes()...)
	for action, summary := range map[policy.Action]string{
		policy.ActionApprove: "Approve a rollout that somebody else proposed",
		policy.ActionPause:   "Give the version to no further device until it is resumed",
		policy.ActionResume:  "Go on with a rollout that was paused",
		policy.ActionAdvance: "Open the next stage without waiting for its gates",
		policy.ActionArchive: "Take a rollout that ended off the list; it keeps its effect",
	} {
		list = append(list, route{pattern: "POST /v1/rollouts/{name}/" + string(action), summary: summary, scopes: operators, out: Rollout{}, conditional: true,
			handle: func(h *handler, w http.ResponseWriter, r *http.Request) error {
				return h.actOnRollout(w, r, action, "")
			}})
	}
	list = append(list, recordRoutes("groups", "Groups of devices, and what they should have", records[policy.Group]{
		kind: tam.KindGroup, name: func(g *policy.Group) *string { return &g.Name },
		set: func(h *handler, r *http.Request, g policy.Group, expect int64) (int64, error) {
			return h.TAM.SetGroup(r.Context(), g, expect)
		},
		remove: func(h *handler, r *http.Request, name string, expect int64) error {
			return h.TAM.DeleteGroup(r.Context(), name, expect)
		},
	})...)
	list = append(list, recordRoutes("domains", "Security domains: manifests of one publisher that are installed and removed together", records[policy.Domain]{
		kind: tam.KindDomain, name: func(d *policy.Domain) *string { return &d.Name },
		set: func(h *handler, r *http.Request, d policy.Domain, expect int64) (int64, error) {
			return h.TAM.SetDomain(r.Context(), d, expect)
		},
		remove: func(h *handler, r *http.Request, name string, expect int64) error {
			return h.TAM.DeleteDomain(r.Context(), name, expect)
		},
	})...)
	list = append(list, recordRoutes("removals", "Emergency removals, which override everything else", records[policy.Removal]{
		kind: tam.KindRemoval, name: func(x *policy.Removal) *string { return &x.Name },
		set: func(h *handler, r *http.Request, x policy.Removal, expect int64) (int64, error) {
			return h.TAM.SetRemoval(r.Context(), x, personOf(r), expect)
		},
		remove: func(h *handler, r *http.Request, name string, expect int64) error {
			return h.TAM.DeleteRemoval(r.Context(), name, expect)
		},
	})...)
	return append(list, recordRoutes("admissions", "Rules that accept new devices", records[policy.Admission]{
		kind: tam.KindAdmission, name: func(a *policy.Admission) *string { return &a.Name },
		set: func(h *handler, r *http.Request, a policy.Admission, expect int64) (int64, error) {
			return h.TAM.SetAdmission(r.Context(), a, expect)
		},
		remove: func(h *handler, r *http.Request, name string, expect int64) error {
			return h.TAM.DeleteAdmission(r.Context(), name, expect)
		},
	})...)
}
