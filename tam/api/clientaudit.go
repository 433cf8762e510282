package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-teep/teep/tam/audit"
)

// Overview returns the fleet in numbers.
func (c *Client) Overview(ctx context.Context) (*Overview, error) {
	var o Overview
	return &o, c.call(ctx, http.MethodGet, "/v1/overview", nil, &o)
}

// Audit lists the audit log, oldest first.
func (c *Client) Audit(ctx context.Context, after string) (*Page[audit.Entry], error) {
	return list[audit.Entry](ctx, c, "/v1/audit", after)
}

// AuditHead returns the end of the audit log.
func (c *Client) AuditHead(ctx context.Context) (*audit.Head, error) {
	var h audit.Head
	return &h, c.call(ctx, http.MethodGet, "/v1/audit/head", nil, &h)
}

// ExportAudit writes the whole audit log to w, one entry a line. A log that broke off is an error, and
// what was written then is not all.
func (c *Client) ExportAudit(ctx context.Context, w io.Writer) error {
	return c.ExportAuditFrom(ctx, 0, w)
}

// ExportAuditFrom is ExportAudit for what follows the entry `after`.
func (c *Client) ExportAuditFrom(ctx context.Context, after int64, w io.Writer) error {
	path := "/v1/audit/export?" + url.Values{queryAfter: {strconv.FormatInt(after, 10)}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.BaseURL, "/")+path, nil)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.client()
	client.Timeout = 0 // it is as long as the log; ctx bounds it
	res, err := client.Do(req)
	if err != nil {
		return unanswered(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("api: reading the answer: %w", err)
		}
		return problemOf(res.StatusCode, data)
	}
	if _, err := io.Copy(w, res.Body); err != nil {
		return fmt.Errorf("api: the audit log broke off: %w", err)
	}
	return nil
}

// DeviceQuery chooses devices. Empty fields choose all.
type DeviceQuery struct {
	Status, Attestation string
	// UEID lists the TEEs of one device; it is hexadecimal, and goes with none of the others.
	UEID string
	// Match is a condition in CEL; pages may then be short, or empty, and still have a Next.
	Match string
	// After is Next of the page before; Limit is 1 to 1000, or 0 for as many as the API thinks right.
	After string
	Limit int
}

// ListDevices lists the devices that a query chooses.
func (c *Client) ListDevices(ctx context.Context, query DeviceQuery) (*Page[Device], error) {
	q := url.Values{}
	for name, value := range map[string]string{
		queryStatus: query.Status, queryAttestation: query.Attestation, queryMatch: query.Match, queryUEID: query.UEID, queryAfter: query.After,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if query.Limit != 0 {
		q.Set(queryLimit, strconv.Itoa(query.Limit))
	}
	var p Page[Device]
	return &p, c.call(ctx, http.MethodGet, "/v1/devices?"+q.Encode(), nil, &p)
}

// FindDevices lists devices by status and attestation; either may be empty for all.
func (c *Client) FindDevices(ctx context.Context, status, attestation, after string, limit int) (*Page[Device], error) {
	return c.ListDevices(ctx, DeviceQuery{Status: status, Attestation: attestation, After: after, Limit: limit})
}

// ChangeDeviceAt changes a device's status if its record still has the given revision.
func (c *Client) ChangeDeviceAt(ctx context.Context, id string, revision int64, change DeviceChange) (*Device, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return nil, fmt.Errorf("api: encoding a request: %w", err)
	}
	var d Device
	condition := map[string]string{"If-Match": strconv.Quote(strconv.FormatInt(revision, 10))}
	return &d, c.sendIf(ctx, condition, http.MethodPatch, "/v1/devices/"+url.PathEscape(id), "application/json", body, &d)
}

// AuditFrom lists at most limit entries of the audit log, oldest first, after the entry `after`.
func (c *Client) AuditFrom(ctx context.Context, after int64, limit int) (*Page[audit.Entry], error) {
	q := url.Values{queryAfter: {strconv.FormatInt(after, 10)}, queryLimit: {strconv.Itoa(limit)}}
	var p Page[audit.Entry]
	return &p, c.call(ctx, http.MethodGet, "/v1/audit?"+q.Encode(), nil, &p)
}
