package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls the operator API of a TAM. Its methods are safe for concurrent use. What the TAM
// refuses is a [*Problem], whose text says what to do.
type Client struct {
	// BaseURL is that of the API, without /v1.
	BaseURL string
	// Token is the bearer token. It is sent to BaseURL only: redirects are not followed.
	Token string
	// HTTP defaults to a client with a timeout of a minute.
	HTTP *http.Client
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// Health asks whether the TAM works. It needs no token.
func (c *Client) Health(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/v1/healthz", nil, nil)
}

// Publish uploads an envelope.
func (c *Client) Publish(ctx context.Context, envelope []byte) (*Version, error) {
	var v Version
	return &v, c.send(ctx, http.MethodPost, "/v1/components", EnvelopeMediaType, envelope, &v)
}

// Versions lists published versions; after is Next of the page before, "" for the first.
func (c *Client) Versions(ctx context.Context, after string) (*Page[Version], error) {
	return list[Version](ctx, c, "/v1/components", after)
}

// VersionsOf lists the published versions of a manifest, by sequence number.
func (c *Client) VersionsOf(ctx context.Context, manifest, after string) (*Page[Version], error) {
	return listOf[Version](ctx, c, "/v1/components", manifest, after)
}

// Withdraw withdraws a version, for good.
func (c *Client) Withdraw(ctx context.Context, manifest string, sequence uint64, reason string) error {
	path := "/v1/components/" + url.PathEscape(manifest) + "/" + strconv.FormatUint(sequence, 10) + "/withdraw"
	return c.call(ctx, http.MethodPost, path, Withdrawal{reason}, nil)
}

// Devices lists devices.
func (c *Client) Devices(ctx context.Context, after string) (*Page[Device], error) {
	return list[Device](ctx, c, "/v1/devices", after)
}

// Device returns one device.
func (c *Client) Device(ctx context.Context, id string) (*Device, error) {
	var d Device
	return &d, c.call(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(id), nil, &d)
}

// ChangeDevice changes a device's status.
func (c *Client) ChangeDevice(ctx context.Context, id string, change DeviceChange) (*Device, error) {
	var d Device
	return &d, c.call(ctx, http.MethodPatch, "/v1/devices/"+url.PathEscape(id), change, &d)
}

// Events lists a device's history, newest first.
func (c *Client) Events(ctx context.Context, id, after string) (*Page[Event], error) {
	return list[Event](ctx, c, "/v1/devices/"+url.PathEscape(id)+"/events", after)
}

// Messages lists the recorded messages of a device's sessions, newest first.
func (c *Client) Messages(ctx context.Context, id, after string) (*Page[Message], error) {
	return list[Message](ctx, c, "/v1/devices/"+url.PathEscape(id)+"/messages", after)
}

// Message returns one recorded message, opened and explained.
func (c *Client) Message(ctx context.Context, id string, message int64) (*DecodedMessage, error) {
	var m DecodedMessage
	return &m, c.call(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(id)+"/messages/"+strconv.FormatInt(message, 10), nil, &m)
}

// Reports lists the SUIT Reports in a device's recorded messages, newest first.
func (c *Client) Reports(ctx context.Context, id, after string) (*Page[Report], error) {
	return list[Report](ctx, c, "/v1/devices/"+url.PathEscape(id)+"/reports", after)
}

// SentManifests lists the SUIT envelopes that were sent to a device and that the TAM still has: the newest ones of the
// TAM's own, then those in recorded messages, newest first.
func (c *Client) SentManifests(ctx context.Context, id, after string) (*Page[SentManifest], error) {
	return list[SentManifest](ctx, c, "/v1/devices/"+url.PathEscape(id)+"/manifests", after)
}

// Policies lists the desired state.
func (c *Client) Policies(ctx context.Context, after string) (*Page[Policy], error) {
	return list[Policy](ctx, c, "/v1/policy", after)
}

// SetPolicy says what devices should have of a manifest.
func (c *Client) SetPolicy(ctx context.Context, manifest string, p NewPolicy) (*Policy, error) {
	var set Policy
	return &set, c.call(ctx, http.MethodPut, "/v1/policy/"+url.PathEscape(manifest), p, &set)
}

// DeletePolicy returns a manifest to the default, which is to be available.
func (c *Client) DeletePolicy(ctx context.Context, manifest string) error {
	return c.call(ctx, http.MethodDelete, "/v1/policy/"+url.PathEscape(manifest), nil, nil)
}

// AddPublisher adds a publisher.
func (c *Client) AddPublisher(ctx context.Context, p NewPublisher) (*Publisher, error) {
	var added Publisher
	return &added, c.call(ctx, http.MethodPost, "/v1/publishers", p, &added)
}

// Publishers lists publishers.
func (c *Client) Publishers(ctx context.Context, after string) (*Page[Publisher], error) {
	return list[Publisher](ctx, c, "/v1/publishers", after)
}

// RevokePublisher revokes a publisher, for good.
func (c *Client) RevokePublisher(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/v1/publishers/"+url.PathEscape(name)+"/revoke", nil, nil)
}

// AddToken makes a token; its Secret is in this answer only.
func (c *Client) AddToken(ctx context.Context, t NewToken) (*Token, error) {
	var added Token
	return &added, c.call(ctx, http.MethodPost, "/v1/tokens", t, &added)
}

// Tokens lists tokens.
func (c *Client) Tokens(ctx context.Context, after string) (*Page[Token], error) {
	return list[Token](ctx, c, "/v1/tokens", after)
}

// RevokeToken revokes a token, for good.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/tokens/"+url.PathEscape(id)+"/revoke", nil, nil)
}

func list[T any](ctx context.Context, c *Client, path, after string) (*Page[T], error) {
	return listWhere[T](ctx, c, path, url.Values{}, after)
}

func listWhere[T any](ctx context.Context, c *Client, path string, q url.Values, after string) (*Page[T], error) {
	if after != "" {
		q.Set(queryAfter, after)
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var p Page[T]
	return &p, c.call(ctx, http.MethodGet, path, nil, &p)
}

// listOf is list of what belongs to a manifest; "" is all.
func listOf[T any](ctx context.Context, c *Client, path, manifest, after string) (*Page[T], error) {
	q := url.Values{}
	if manifest != "" {
		q.Set(queryManifest, manifest)
	}
	return listWhere[T](ctx, c, path, q, after)
}

// Collect fetches a list page by page, from `after` on, to its end or until there are limit items (0: all).
func Collect[T any](limit int, after string, page func(after string) (*Page[T], error)) ([]T, error) {
	all := []T{}
	for {
		p, err := page(after)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if limit > 0 && len(all) >= limit {
			return all[:limit], nil
		}
		if after = p.Next; after == "" {
			return all, nil
		}
	}
}

// call sends in as JSON, if it is not nil, and decodes the answer into out, if that is not nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	if in == nil {
		return c.send(ctx, method, path, "", nil, out)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("api: encoding a request: %w", err)
	}
	return c.send(ctx, method, path, "application/json", body, out)
}

func (c *Client) send(ctx context.Context, method, path, mediaType string, body []byte, out any) error {
	return c.sendIf(ctx, nil, method, path, mediaType, body, out)
}

// sendIf sends a request with further headers: its condition.
func (c *Client) sendIf(ctx context.Context, condition map[string]string, method, path, mediaType string, body []byte, out any) error {
	_, err := c.exchange(ctx, condition, method, path, mediaType, body, out)
	return err
}

// exchange is sendIf for those who want the answer's headers too.
func (c *Client) exchange(ctx context.Context, condition map[string]string, method, path, mediaType string, body []byte, out any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.BaseURL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	for name, value := range condition {
		req.Header.Set(name, value)
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	res, err := c.client().Do(req)
	if err != nil {
		return nil, unanswered(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("api: reading the answer: %w", err)
	case len(data) > maxAnswer:
		return nil, errors.New("api: the answer is too large")
	case res.StatusCode < 200 || res.StatusCode > 299:
		return nil, problemOf(res.StatusCode, data)
	case out == nil, res.StatusCode == http.StatusNoContent:
		return res.Header, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("api: the answer is not that of a TAM's operator API: %w", err)
	}
	return res.Header, nil
}

// unanswered says what to look at where a request had no answer.
func unanswered(err error) error {
	var authority x509.UnknownAuthorityError
	if errors.As(err, &authority) {
		return fmt.Errorf("api: %w (where the TAM's certificate is of a private authority, name that with --tam-ca or TEEP_TAM_CA)", err)
	}
	return fmt.Errorf("api: %w (is the TAM running, and is the URL that of its operator API?)", err)
}

func problemOf(status int, data []byte) error {
	p := &Problem{}
	if err := json.Unmarshal(data, p); err != nil || p.Detail == "" {
		p = &Problem{Code: "http", Detail: "The server answered " + http.StatusText(status) + ".",
			Next: "Check that the URL is that of a TAM's operator API, and that it begins with https:// where that has TLS."}
	}
	p.Status = status
	return p
}

func (c *Client) client() *http.Client {
	base := c.HTTP
	if base == nil {
		base = &http.Client{Timeout: time.Minute}
	}
	copied := *base
	// A redirect would take the token elsewhere.
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied
}

// Raw makes any request with JSON in (nil: none) and out (nil: none).
func (c *Client) Raw(ctx context.Context, method, path string, in json.RawMessage) (json.RawMessage, error) {
	var out json.RawMessage
	mediaType := ""
	if in != nil {
		mediaType = "application/json"
	}
	err := c.send(ctx, method, path, mediaType, in, rawAnswer{&out})
	return out, err
}

// rawAnswer takes any JSON, and nothing.
type rawAnswer struct{ into *json.RawMessage }

// UnmarshalJSON implements json.Unmarshaler.
func (r rawAnswer) UnmarshalJSON(data []byte) error {
	*r.into = append((*r.into)[:0], data...)
	return nil
}
