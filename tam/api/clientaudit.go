package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.BaseURL, "/")+"/v1/audit/export", nil)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	client := c.client()
	client.Timeout = 0 // it is as long as the log; ctx bounds it
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("api: %w (is the TAM running, and is the URL that of its operator API?)", err)
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
