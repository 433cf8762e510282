package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

var (
	_ tam.Feed     = (*Store)(nil)
	_ tam.Webhooks = (*Store)(nil)
)

// FeedEvents implements [tam.Feed]. There is one writer at a time, which numbers the events: their numbers
// are in the order in which they became visible.
func (s *Store) FeedEvents(ctx context.Context, after int64, limit int) ([]tam.FeedEvent, error) {
	return s.feed(ctx, `id > $1 ORDER BY id`, after, limit)
}

// FeedBefore implements [tam.Feed].
func (s *Store) FeedBefore(ctx context.Context, before int64, limit int) ([]tam.FeedEvent, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	return s.feed(ctx, `id < $1 ORDER BY id DESC`, before, limit)
}

func (s *Store) feed(ctx context.Context, which string, position int64, limit int) ([]tam.FeedEvent, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT id, device_id, at, kind, detail, rollout FROM events WHERE `+which+` LIMIT $2`, position, limit)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.FeedEvent
	for rows.Next() {
		var e tam.FeedEvent
		var at int64
		if err := rows.Scan(&e.Position, &e.DeviceID, &at, &e.Kind, &e.Detail, &e.Rollout); err != nil {
			return nil, wrap(err)
		}
		e.ID, e.At = e.Position, fromMillis(at)
		list = append(list, e)
	}
	return list, wrap(rows.Err())
}

// FeedHead implements [tam.Feed].
func (s *Store) FeedHead(ctx context.Context) (n int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM events`).Scan(&n)
	return n, wrap(err)
}

// webhookData is what of a webhook does not change.
func webhookData(w tam.Webhook) (string, error) {
	w.WebhookProgress = tam.WebhookProgress{}
	data, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("sqlite: webhook: %w", err)
	}
	return string(data), nil
}

const webhookColumns = `data, position, failures, next, fault`

func scanWebhook(row scanner) (*tam.Webhook, error) {
	var w tam.Webhook
	var data string
	var p tam.WebhookProgress
	var next int64
	if err := row.Scan(&data, &p.Position, &p.Failures, &next, &p.LastError); err != nil {
		return nil, wrap(err)
	}
	if err := json.Unmarshal([]byte(data), &w); err != nil {
		return nil, fmt.Errorf("sqlite: webhook: %w", err)
	}
	p.Next = fromMillis(next)
	w.WebhookProgress = p
	return &w, nil
}

// AddWebhook implements [tam.Webhooks].
func (s *Store) AddWebhook(ctx context.Context, w tam.Webhook) error {
	data, err := webhookData(w)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO webhooks (id, data, position, failures, next, fault, claimed)
			VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT DO NOTHING`, w.ID, data, w.Position, w.Failures, millis(w.Next), w.LastError)
		if err := oneRow(res, err, tam.ErrExists); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionWebhookCreate, w.ID, w.Describe())
	})
}

// ListWebhooks implements [tam.Webhooks].
func (s *Store) ListWebhooks(ctx context.Context, after string, limit int) ([]tam.Webhook, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT `+webhookColumns+` FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var list []tam.Webhook
	for rows.Next() {
		w, err := scanWebhook(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, *w)
	}
	return list, wrap(rows.Err())
}

// DeleteWebhook implements [tam.Webhooks].
func (s *Store) DeleteWebhook(ctx context.Context, id string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		w, err := scanWebhook(tx.QueryRowContext(ctx, `DELETE FROM webhooks WHERE id = $1 RETURNING `+webhookColumns, id))
		if err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionWebhookDelete, id, w.Describe())
	})
}

// ClaimWebhook implements [tam.Webhooks].
func (s *Store) ClaimWebhook(ctx context.Context, id string, now, until time.Time) (w *tam.Webhook, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		w, err = scanWebhook(tx.QueryRowContext(ctx, `UPDATE webhooks SET claimed = $3
			WHERE id = $1 AND next <= $2 AND claimed <= $2 RETURNING `+webhookColumns, id, millis(now), millis(until)))
		return s.goneOrTaken(ctx, tx, id, err)
	})
	return w, err
}

// SettleWebhook implements [tam.Webhooks].
func (s *Store) SettleWebhook(ctx context.Context, id string, until time.Time, p tam.WebhookProgress) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := scanWebhook(tx.QueryRowContext(ctx, `UPDATE webhooks SET position = $3, failures = $4, next = $5, fault = $6, claimed = 0
			WHERE id = $1 AND claimed = $2 RETURNING `+webhookColumns, id, millis(until), p.Position, p.Failures, millis(p.Next), p.LastError))
		return s.goneOrTaken(ctx, tx, id, err)
	})
}

// goneOrTaken tells why no row was changed.
func (s *Store) goneOrTaken(ctx context.Context, tx *sql.Tx, id string, err error) error {
	if !errors.Is(err, tam.ErrNotFound) {
		return err
	}
	var one int
	if err := tx.QueryRowContext(ctx, `SELECT 1 FROM webhooks WHERE id = $1`, id).Scan(&one); err != nil {
		return wrap(err)
	}
	return tam.ErrConflict
}
