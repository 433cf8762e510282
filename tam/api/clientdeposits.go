package api

import (
	"context"
	"net/http"
	"net/url"
)

// Distribution says to whom deposits are encrypted.
func (c *Client) Distribution(ctx context.Context) (*Distribution, error) {
	var d Distribution
	return &d, c.call(ctx, http.MethodGet, "/v1/distribution", nil, &d)
}

// DepositContentKey gives the TAM the key to an encrypted payload.
func (c *Client) DepositContentKey(ctx context.Context, k ContentKey) (*Deposit, error) {
	var d Deposit
	return &d, c.call(ctx, http.MethodPost, "/v1/content-keys", k, &d)
}

// DepositData gives the TAM data for devices.
func (c *Client) DepositData(ctx context.Context, p Personalization) (*Page[Deposit], error) {
	var list Page[Deposit]
	return &list, c.call(ctx, http.MethodPost, "/v1/personalization", p, &list)
}

// Deposits lists deposits.
func (c *Client) Deposits(ctx context.Context, after string) (*Page[Deposit], error) {
	return list[Deposit](ctx, c, "/v1/deposits", after)
}

// RemoveDeposit removes a deposit: devices lose the data, and get the version no longer.
func (c *Client) RemoveDeposit(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/deposits/"+url.PathEscape(id), nil, nil)
}
