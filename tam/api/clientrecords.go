package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-teep/teep/tam/policy"
)

// Records with their entity tags, for those who show one to a person and save what they made of it: what
// somebody else did meanwhile is not overwritten. A tag of "" says that there must be no record of the name.

// Group returns a group, and its entity tag.
func (c *Client) Group(ctx context.Context, name string) (*policy.Group, string, error) {
	return get[policy.Group](ctx, c, "/v1/groups/", name)
}

// SetGroupIf creates or replaces a group that still has the tag.
func (c *Client) SetGroupIf(ctx context.Context, g policy.Group, tag string) error {
	return setIf(ctx, c, "/v1/groups/", g.Name, g, tag)
}

// DeleteGroupIf removes a group that still has the tag.
func (c *Client) DeleteGroupIf(ctx context.Context, name, tag string) error {
	return c.sendIf(ctx, onlyIf(tag), http.MethodDelete, "/v1/groups/"+url.PathEscape(name), "", nil, nil)
}

// Domain returns a security domain, and its entity tag.
func (c *Client) Domain(ctx context.Context, name string) (*policy.Domain, string, error) {
	return get[policy.Domain](ctx, c, "/v1/domains/", name)
}

// SetDomainIf creates or replaces a security domain that still has the tag.
func (c *Client) SetDomainIf(ctx context.Context, d policy.Domain, tag string) error {
	return setIf(ctx, c, "/v1/domains/", d.Name, d, tag)
}

// DeleteDomainIf dissolves a security domain that still has the tag.
func (c *Client) DeleteDomainIf(ctx context.Context, name, tag string) error {
	return c.sendIf(ctx, onlyIf(tag), http.MethodDelete, "/v1/domains/"+url.PathEscape(name), "", nil, nil)
}

// Removal returns an emergency removal, and its entity tag.
func (c *Client) Removal(ctx context.Context, name string) (*policy.Removal, string, error) {
	return get[policy.Removal](ctx, c, "/v1/removals/", name)
}

// SetRemovalIf orders or changes an emergency removal that still has the tag.
func (c *Client) SetRemovalIf(ctx context.Context, r policy.Removal, tag string) error {
	return setIf(ctx, c, "/v1/removals/", r.Name, r, tag)
}

// DeleteRemovalIf lifts an emergency removal that still has the tag.
func (c *Client) DeleteRemovalIf(ctx context.Context, name, tag string) error {
	return c.sendIf(ctx, onlyIf(tag), http.MethodDelete, "/v1/removals/"+url.PathEscape(name), "", nil, nil)
}

// Admission returns a rule that accepts new devices, and its entity tag.
func (c *Client) Admission(ctx context.Context, name string) (*policy.Admission, string, error) {
	return get[policy.Admission](ctx, c, "/v1/admissions/", name)
}

// SetAdmissionIf creates or replaces a rule that still has the tag.
func (c *Client) SetAdmissionIf(ctx context.Context, a policy.Admission, tag string) error {
	return setIf(ctx, c, "/v1/admissions/", a.Name, a, tag)
}

// DeleteAdmissionIf removes a rule that still has the tag.
func (c *Client) DeleteAdmissionIf(ctx context.Context, name, tag string) error {
	return c.sendIf(ctx, onlyIf(tag), http.MethodDelete, "/v1/admissions/"+url.PathEscape(name), "", nil, nil)
}

// Policy returns what devices should have of a manifest, and its entity tag.
func (c *Client) Policy(ctx context.Context, manifest string) (*Policy, string, error) {
	return get[Policy](ctx, c, "/v1/policy/", manifest)
}

// SetPolicyIf says what devices should have of a manifest whose policy still has the tag.
func (c *Client) SetPolicyIf(ctx context.Context, manifest string, p NewPolicy, tag string) error {
	return setIf(ctx, c, "/v1/policy/", manifest, p, tag)
}

// DeletePolicyIf returns a manifest to the default, if its policy still has the tag.
func (c *Client) DeletePolicyIf(ctx context.Context, manifest, tag string) error {
	return c.sendIf(ctx, onlyIf(tag), http.MethodDelete, "/v1/policy/"+url.PathEscape(manifest), "", nil, nil)
}

func get[T any](ctx context.Context, c *Client, path, name string) (*T, string, error) {
	v := new(T)
	header, err := c.exchange(ctx, nil, http.MethodGet, path+url.PathEscape(name), "", nil, v)
	if err != nil {
		return nil, "", err
	}
	return v, header.Get("ETag"), nil
}

func setIf(ctx context.Context, c *Client, path, name string, v any, tag string) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("api: encoding a request: %w", err)
	}
	return c.sendIf(ctx, onlyIf(tag), http.MethodPut, path+url.PathEscape(name), "application/json", body, nil)
}

// onlyIf is the condition that a record still has the tag, or is not there for "".
func onlyIf(tag string) map[string]string {
	if tag == "" {
		return map[string]string{"If-None-Match": "*"}
	}
	return map[string]string{"If-Match": tag}
}
