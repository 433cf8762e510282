package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-teep/teep/tam/policy"
)

// MatchingDevices lists devices for which a condition holds. A page may be short, or empty, and still have
// a Next.
func (c *Client) MatchingDevices(ctx context.Context, match, after string) (*Page[Device], error) {
	return c.ListDevices(ctx, DeviceQuery{Match: match, After: after})
}

// TEEs lists the devices with an attested UEID, given in hexadecimal.
func (c *Client) TEEs(ctx context.Context, ueid string) (*Page[Device], error) {
	var p Page[Device]
	return &p, c.call(ctx, http.MethodGet, "/v1/devices?"+url.Values{queryUEID: {ueid}}.Encode(), nil, &p)
}

// ReplaceDevice lets a device take the place of another record of it.
func (c *Client) ReplaceDevice(ctx context.Context, id, old string) (*Device, error) {
	var d Device
	return &d, c.call(ctx, http.MethodPost, "/v1/devices/"+url.PathEscape(id)+"/replace", Replacement{old}, &d)
}

// DevicePolicy says what a device should have, and why.
func (c *Client) DevicePolicy(ctx context.Context, id string) (*DevicePolicy, error) {
	var p DevicePolicy
	return &p, c.call(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(id)+"/policy", nil, &p)
}

// DevicesWith lists the devices that have a version.
func (c *Client) DevicesWith(ctx context.Context, manifest string, sequence uint64, after string) (*Page[Device], error) {
	return list[Device](ctx, c, "/v1/components/"+url.PathEscape(manifest)+"/"+strconv.FormatUint(sequence, 10)+"/devices", after)
}

// Installed counts the devices that have each version, of one manifest or, with "", of all.
func (c *Client) Installed(ctx context.Context, manifest, after string) (*Page[InstalledCount], error) {
	return listOf[InstalledCount](ctx, c, "/v1/installed", manifest, after)
}

// Field counts the devices that had each version in the last seven days, by the hour.
func (c *Client) Field(ctx context.Context, after string) (*Page[FieldCount], error) {
	return listWhere[FieldCount](ctx, c, "/v1/installed/history", url.Values{queryLimit: {strconv.Itoa(maxPage)}}, after)
}

// AddKeys adds keys and certificates, in PEM, to a publisher.
func (c *Client) AddKeys(ctx context.Context, publisher string, k NewKeys) (*Publisher, error) {
	var p Publisher
	return &p, c.call(ctx, http.MethodPost, "/v1/publishers/"+url.PathEscape(publisher)+"/keys", k, &p)
}

// SignedBy lists what a key, named by its thumbprint in hexadecimal, signed.
func (c *Client) SignedBy(ctx context.Context, publisher, key, after string) (*Page[SignedVersion], error) {
	return list[SignedVersion](ctx, c, "/v1/publishers/"+url.PathEscape(publisher)+"/keys/"+url.PathEscape(key)+"/versions", after)
}

// WithdrawKey trusts a key no longer, and lists what it signed; [Client.SignedBy] leads on from its Next.
func (c *Client) WithdrawKey(ctx context.Context, publisher, key string, w KeyWithdrawal) (*Page[SignedVersion], error) {
	var p Page[SignedVersion]
	return &p, c.call(ctx, http.MethodPost, "/v1/publishers/"+url.PathEscape(publisher)+"/keys/"+url.PathEscape(key)+"/withdraw", w, &p)
}

// RevocationLists are those of a publisher's signers, and what they revoke.
func (c *Client) RevocationLists(ctx context.Context, publisher string) (*RevocationLists, error) {
	var l RevocationLists
	return &l, c.call(ctx, http.MethodGet, "/v1/publishers/"+url.PathEscape(publisher)+"/revocation-lists", nil, &l)
}

// RenewRevocationLists puts newer ones in force.
func (c *Client) RenewRevocationLists(ctx context.Context, publisher string, n NewRevocationLists) (*RevocationLists, error) {
	var l RevocationLists
	return &l, c.call(ctx, http.MethodPost, "/v1/publishers/"+url.PathEscape(publisher)+"/revocation-lists", n, &l)
}

// Groups lists groups.
func (c *Client) Groups(ctx context.Context, after string) (*Page[policy.Group], error) {
	return list[policy.Group](ctx, c, "/v1/groups", after)
}

// SetGroup creates or replaces a group.
func (c *Client) SetGroup(ctx context.Context, g policy.Group) (*policy.Group, error) {
	return set(ctx, c, "/v1/groups/", g.Name, g)
}

// DeleteGroup removes a group.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	return c.remove(ctx, "/v1/groups/", name)
}

// Domains lists security domains.
func (c *Client) Domains(ctx context.Context, after string) (*Page[policy.Domain], error) {
	return list[policy.Domain](ctx, c, "/v1/domains", after)
}

// SetDomain creates or replaces a security domain.
func (c *Client) SetDomain(ctx context.Context, d policy.Domain) (*policy.Domain, error) {
	return set(ctx, c, "/v1/domains/", d.Name, d)
}

// DeleteDomain dissolves a security domain.
func (c *Client) DeleteDomain(ctx context.Context, name string) error {
	return c.remove(ctx, "/v1/domains/", name)
}

// Removals lists emergency removals.
func (c *Client) Removals(ctx context.Context, after string) (*Page[policy.Removal], error) {
	return list[policy.Removal](ctx, c, "/v1/removals", after)
}

// SetRemoval orders an emergency removal.
func (c *Client) SetRemoval(ctx context.Context, r policy.Removal) (*policy.Removal, error) {
	return set(ctx, c, "/v1/removals/", r.Name, r)
}

// DeleteRemoval lifts an emergency removal.
func (c *Client) DeleteRemoval(ctx context.Context, name string) error {
	return c.remove(ctx, "/v1/removals/", name)
}

// Admissions lists the rules that accept new devices.
func (c *Client) Admissions(ctx context.Context, after string) (*Page[policy.Admission], error) {
	return list[policy.Admission](ctx, c, "/v1/admissions", after)
}

// SetAdmission creates or replaces a rule that accepts new devices.
func (c *Client) SetAdmission(ctx context.Context, a policy.Admission) (*policy.Admission, error) {
	return set(ctx, c, "/v1/admissions/", a.Name, a)
}

// DeleteAdmission removes a rule.
func (c *Client) DeleteAdmission(ctx context.Context, name string) error {
	return c.remove(ctx, "/v1/admissions/", name)
}

// Rollouts lists rollouts.
func (c *Client) Rollouts(ctx context.Context, after string) (*Page[Rollout], error) {
	return list[Rollout](ctx, c, "/v1/rollouts", after)
}

// ArchivedRollouts lists rollouts that are off the list.
func (c *Client) ArchivedRollouts(ctx context.Context, after string) (*Page[Rollout], error) {
	q := url.Values{queryArchived: {"true"}}
	if after != "" {
		q.Set(queryAfter, after)
	}
	var p Page[Rollout]
	return &p, c.call(ctx, http.MethodGet, "/v1/rollouts?"+q.Encode(), nil, &p)
}

// DeleteRollout removes a rollout that ended and makes no difference any more.
func (c *Client) DeleteRollout(ctx context.Context, name string) error {
	return c.remove(ctx, "/v1/rollouts/", name)
}

// Rollout returns a rollout with what it reached.
func (c *Client) Rollout(ctx context.Context, name string) (*Rollout, error) {
	var r Rollout
	return &r, c.call(ctx, http.MethodGet, "/v1/rollouts/"+url.PathEscape(name), nil, &r)
}

// CreateRollout proposes or schedules a rollout.
func (c *Client) CreateRollout(ctx context.Context, n NewRollout) (*Rollout, error) {
	var r Rollout
	return &r, c.call(ctx, http.MethodPost, "/v1/rollouts", n, &r)
}

// ActOnRollout does something with a rollout; reason is for an abort.
func (c *Client) ActOnRollout(ctx context.Context, name string, a policy.Action, reason string) (*Rollout, error) {
	var body any
	if a == policy.ActionAbort {
		body = Withdrawal{reason}
	}
	var r Rollout
	return &r, c.call(ctx, http.MethodPost, "/v1/rollouts/"+url.PathEscape(name)+"/"+url.PathEscape(string(a)), body, &r)
}

// Preview says what a change would do, before it is made.
func (c *Client) Preview(ctx context.Context, p Proposal) (*Preview, error) {
	var found Preview
	return &found, c.call(ctx, http.MethodPost, "/v1/preview", p, &found)
}

func set[T any](ctx context.Context, c *Client, path, name string, v T) (*T, error) {
	saved := new(T)
	return saved, c.call(ctx, http.MethodPut, path+url.PathEscape(name), v, saved)
}

func (c *Client) remove(ctx context.Context, path, name string) error {
	return c.call(ctx, http.MethodDelete, path+url.PathEscape(name), nil, nil)
}
