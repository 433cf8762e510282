package api

import (
	"net/http"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// route is one operation of the API. The multiplexer, the authorization and the OpenAPI document are all
// made of it, so that none of them can tell another story.
type route struct {
	pattern string // of http.ServeMux
	summary string
	// scopes may use it, beside administrator. public routes need no token.
	scopes []Scope
	public bool
	// maxBody bounds the request; 0 means that there is none.
	maxBody int64
	// in and out are values of the types of the bodies; nil: none. inMedia and outMedia are their media
	// types where they are not JSON; then in and out are nil.
	in, out           any
	inMedia, outMedia string
	// streamed bodies do not fit into memory: there is no idempotency key for them, and doing it again
	// changes nothing.
	streamed bool
	// long is for what may go on for longer than any work should; it bounds its own steps.
	long bool
	// status is that of success; 0 means 200.
	status int
	// query names the query parameters.
	query []string
	// conditional routes evaluate If-Match and If-None-Match. The others refuse them: a condition
	// that is not looked at must not pass for one that held.
	conditional bool
	handle      func(*handler, http.ResponseWriter, *http.Request) error
}

// The query parameters.
const (
	queryAfter       = "after"
	queryLimit       = "limit"
	queryArchived    = "archived"
	queryStatus      = "status"
	queryAttestation = "attestation"
	queryMatch       = "match"
	queryUEID        = "ueid"
	queryOrder       = "order"
	queryManifest    = "manifest"
)

// routes is the whole API. The tests go through it, so that none can be forgotten.
func (c Config) routes() []route {
	operators := []Scope{ScopeOperator}
	readers := []Scope{ScopeOperator, ScopeAuditor}
	everyone := []Scope{ScopeOperator, ScopeAuditor, ScopePublisher}
	auditors := []Scope{ScopeAuditor}
	pages, byManifest := []string{queryAfter, queryLimit}, []string{queryAfter, queryLimit, queryManifest}
	return append([]route{
		{pattern: "GET /v1/livez", summary: "Whether the process runs", public: true, out: Health{}, handle: (*handler).live},
		{pattern: "GET /v1/readyz", summary: "Whether requests can be served: the store answers", public: true, out: Health{}, handle: (*handler).health},
		{pattern: "GET /v1/healthz", summary: "The same as readyz", public: true, out: Health{}, handle: (*handler).health},
		{pattern: "GET /v1/openapi.json", summary: "This document", public: true, outMedia: "application/json", handle: (*handler).openAPI},

		{pattern: "POST /v1/components", summary: "Publish a SUIT envelope", scopes: []Scope{ScopePublisher}, maxBody: c.MaxEnvelope,
			inMedia: EnvelopeMediaType, out: Version{}, status: http.StatusCreated, handle: (*handler).publish},
		{pattern: "POST /v1/payloads", summary: "Upload a payload that lies beside its envelope", scopes: []Scope{ScopePublisher}, maxBody: c.MaxPayload,
			inMedia: payloadMediaType, streamed: true, long: true, out: StoredPayload{}, status: http.StatusCreated, handle: (*handler).uploadPayload},
		{pattern: "GET /v1/payloads", summary: "Payloads that lie beside their envelopes, the space that they take, and whether a version needs them", scopes: everyone,
			query: pages, out: PayloadList{}, handle: (*handler).listPayloads},
		{pattern: "GET /v1/components", summary: "Published versions", scopes: everyone, query: byManifest, out: Page[Version]{}, handle: (*handler).listVersions},
		{pattern: "POST /v1/components/{manifest}/{sequence}/withdraw", summary: "Withdraw a version, for good", scopes: operators, maxBody: maxJSON,
			in: Withdrawal{}, status: http.StatusNoContent, handle: (*handler).withdraw},

		{pattern: "GET /v1/overview", summary: "The fleet in numbers", scopes: readers, out: Overview{}, handle: (*handler).overview},
		{pattern: "GET /v1/devices", summary: "Devices", scopes: readers, query: []string{queryAfter, queryLimit, queryStatus, queryAttestation, queryMatch, queryUEID},
			out: Page[Device]{}, handle: (*handler).listDevices},
		{pattern: "GET /v1/devices/{id}", summary: "A device", scopes: readers, out: Device{}, conditional: true, handle: (*handler).device},
		{pattern: "PATCH /v1/devices/{id}", summary: "Accept, block, retire or label a device", scopes: operators, maxBody: maxJSON,
			in: DeviceChange{}, out: Device{}, conditional: true, handle: (*handler).changeDevice},
		{pattern: "GET /v1/devices/{id}/events", summary: "A device's history, newest first", scopes: readers, query: pages, out: Page[Event]{}, handle: (*handler).events},
		{pattern: "GET /v1/devices/{id}/messages", summary: "The recorded messages of a device's sessions, newest first", scopes: readers, query: pages, out: Page[Message]{}, handle: (*handler).messages},
		{pattern: "GET /v1/devices/{id}/messages/{message}", summary: "A recorded message, opened and explained", scopes: readers, out: DecodedMessage{}, handle: (*handler).message},
		{pattern: "GET /v1/devices/{id}/reports", summary: "The SUIT Reports in a device's recorded messages, newest first; pages may be short, and next leads on", scopes: readers, query: pages, out: Page[Report]{}, handle: (*handler).reports},
		{pattern: "GET /v1/devices/{id}/manifests", summary: "The SUIT envelopes that were sent to a device: the newest ones of the TAM's own, then those in recorded messages, newest first; pages may be short, and next leads on", scopes: readers, query: pages, out: Page[SentManifest]{}, handle: (*handler).sentManifests},

		{pattern: "GET /v1/policy", summary: "What devices should have", scopes: everyone, query: pages, out: Page[Policy]{}, handle: (*handler).listPolicy},
		{pattern: "GET /v1/policy/{manifest}", summary: "What devices should have of one manifest", scopes: everyone, out: Policy{}, conditional: true, handle: (*handler).getPolicy},
		{pattern: "PUT /v1/policy/{manifest}", summary: "Say what devices should have of one manifest", scopes: operators, maxBody: maxJSON,
			in: NewPolicy{}, out: Policy{}, conditional: true, handle: (*handler).putPolicy},
		{pattern: "DELETE /v1/policy/{manifest}", summary: "Return a manifest to the default, which is to be available", scopes: operators,
			status: http.StatusNoContent, conditional: true, handle: (*handler).deletePolicy},

		{pattern: "GET /v1/distribution", summary: "To whom content keys and data are encrypted", scopes: everyone, out: Distribution{}, handle: (*handler).distribution},
		{pattern: "POST /v1/content-keys", summary: "Deposit the key to an encrypted payload, which the TAM wraps for each device", scopes: []Scope{ScopePublisher},
			maxBody: maxDeposit, in: ContentKey{}, out: Deposit{}, status: http.StatusCreated, handle: (*handler).depositKey},
		{pattern: "POST /v1/personalization", summary: "Deposit data, which the TAM encrypts to each device", scopes: operators, maxBody: maxDeposit,
			in: Personalization{}, out: Page[Deposit]{}, status: http.StatusCreated, handle: (*handler).depositData},
		{pattern: "GET /v1/deposits", summary: "What was deposited, without its content", scopes: everyone, query: pages, out: Page[Deposit]{}, handle: (*handler).listDeposits},
		{pattern: "DELETE /v1/deposits/{id}", summary: "Remove a deposit", scopes: operators, status: http.StatusNoContent, handle: (*handler).removeDeposit},

		{pattern: "POST /v1/publishers", summary: "Trust a publisher", maxBody: maxJSON, in: NewPublisher{}, out: Publisher{}, status: http.StatusCreated, handle: (*handler).addPublisher},
		{pattern: "GET /v1/publishers", summary: "Publishers", scopes: everyone, query: pages, out: Page[Publisher]{}, handle: (*handler).listPublishers},
		{pattern: "POST /v1/publishers/{name}/revoke", summary: "Trust a publisher no longer, for good", status: http.StatusNoContent, handle: (*handler).revokePublisher},

		{pattern: "POST /v1/tokens", summary: "Make a token for this API", maxBody: maxJSON, in: NewToken{}, out: Token{}, status: http.StatusCreated, handle: (*handler).addToken},
		{pattern: "GET /v1/tokens", summary: "Tokens, without their secrets", scopes: auditors, query: pages, out: Page[Token]{}, handle: (*handler).listTokens},
		{pattern: "POST /v1/tokens/{id}/revoke", summary: "Revoke a token, for good", status: http.StatusNoContent, handle: (*handler).revokeToken},

		{pattern: "GET /v1/events", summary: "What happened with all devices and rollouts, oldest first", scopes: readers, query: []string{queryAfter, queryLimit, queryOrder}, out: Page[FeedEvent]{}, handle: (*handler).listFeed},
		{pattern: "GET /v1/events/stream", summary: "What happens from now on, or after the event in Last-Event-ID, as it happens", scopes: readers,
			query: []string{queryAfter}, outMedia: streamMediaType, long: true, handle: (*handler).streamFeed},
		{pattern: "POST /v1/webhooks", summary: "Have events posted to a URL", maxBody: maxJSON, in: NewWebhook{}, out: Webhook{}, status: http.StatusCreated, handle: (*handler).addWebhook},
		{pattern: "GET /v1/webhooks", summary: "Webhooks, without their secrets", scopes: auditors, query: pages, out: Page[Webhook]{}, handle: (*handler).listWebhooks},
		{pattern: "DELETE /v1/webhooks/{id}", summary: "Post events to a URL no longer", status: http.StatusNoContent, handle: (*handler).deleteWebhook},

		{pattern: "GET /v1/audit", summary: "Who changed what, oldest first", scopes: auditors, query: pages, out: Page[audit.Entry]{}, handle: (*handler).listAudit},
		{pattern: "GET /v1/audit/head", summary: "The end of the audit log, to keep elsewhere", scopes: auditors, out: audit.Head{}, handle: (*handler).auditHead},
		{pattern: "GET /v1/audit/export", summary: "The audit log, one entry a line, for teep audit verify", scopes: auditors, query: []string{queryAfter},
			outMedia: auditMediaType, long: true, handle: (*handler).exportAudit},
	}, c.policyRoutes()...)
}

// Store is what the API needs of a store.
type Store interface {
	tam.Store
	tam.Assigning
	tam.Overview
	tam.Idempotency
	tam.Feed
	tam.Webhooks
	tam.Recordings
	audit.Log
}
