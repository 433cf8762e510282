package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// UploadPayload uploads a payload of size bytes whose SHA-256 is digest. It streams: the payload is not held in
// memory, and only ctx bounds the time.
func (c *Client) UploadPayload(ctx context.Context, payload io.Reader, size int64, digest [32]byte) (*StoredPayload, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.BaseURL, "/")+"/v1/payloads", io.NopCloser(payload))
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	req.ContentLength = size
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("Content-Type", payloadMediaType)
	req.Header.Set(contentDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.client()
	client.Timeout = 0
	res, err := client.Do(req)
	if err != nil {
		return nil, unanswered(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("api: reading the answer: %w", err)
	}
	if res.StatusCode != http.StatusCreated {
		return nil, problemOf(res.StatusCode, data)
	}
	stored := new(StoredPayload)
	if err := json.Unmarshal(data, stored); err != nil {
		return nil, fmt.Errorf("api: the answer is not that of a TAM's operator API: %w", err)
	}
	return stored, nil
}

// PayloadList lists payloads; after is Next of the page before.
func (c *Client) PayloadList(ctx context.Context, after string) (*PayloadList, error) {
	path := "/v1/payloads"
	if after != "" {
		path += "?" + url.Values{queryAfter: {after}}.Encode()
	}
	var p PayloadList
	return &p, c.call(ctx, http.MethodGet, path, nil, &p)
}
