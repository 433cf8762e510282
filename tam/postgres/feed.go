package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

var (
	_ tam.Feed     = (*Store)(nil)
	_ tam.Webhooks = (*Store)(nil)
)

// feedBatch is how many events get their place at a time.
const feedBatch = 2000

// place gives events that have none their place in the feed, and tells whether more may be waiting. Whoever
// does it has the head's row locked, so that places rise in the order in which they become visible.
func (s *Store) place(ctx context.Context) (more bool, err error) {
	var waiting bool
	if err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM events WHERE feed IS NULL)`).Scan(&waiting); err != nil || !waiting {
		return false, wrap(err)
	}
	err = s.write(ctx, func(tx pgx.Tx) error {
		var head int64
		if err := tx.QueryRow(ctx, `SELECT position FROM feed_head WHERE one = 1 FOR UPDATE`).Scan(&head); err != nil {
			return wrap(err)
		}
		tag, err := tx.Exec(ctx, `UPDATE events SET feed = $1::bigint + w.n FROM (
				SELECT device_id, id, row_number() OVER (ORDER BY at, device_id, id) AS n
				FROM (SELECT device_id, id, at FROM events WHERE feed IS NULL ORDER BY at, device_id, id LIMIT $2) AS next
			) AS w WHERE events.device_id = w.device_id AND events.id = w.id`, head, feedBatch)
		if err != nil {
			return wrap(err)
		}
		more = tag.RowsAffected() == feedBatch
		_, err = tx.Exec(ctx, `UPDATE feed_head SET position = coalesce((SELECT max(feed) FROM events WHERE feed > $1), $1) WHERE one = 1`, head)
		return wrap(err)
	})
	return more, err
}

// FeedEvents implements [tam.Feed].
func (s *Store) FeedEvents(ctx context.Context, after int64, limit int) ([]tam.FeedEvent, error) {
	if _, err := s.place(ctx); err != nil {
		return nil, err
	}
	return s.feed(ctx, `feed > $1 AND feed > 0 ORDER BY feed`, after, limit)
}

// FeedBefore implements [tam.Feed].
func (s *Store) FeedBefore(ctx context.Context, before int64, limit int) ([]tam.FeedEvent, error) {
	// All of those that wait are newer than what has a place.
	if _, err := s.FeedHead(ctx); err != nil {
		return nil, err
	}
	if before == 0 {
		before = math.MaxInt64
	}
	return s.feed(ctx, `feed < $1 AND feed > 0 ORDER BY feed DESC`, before, limit)
}

func (s *Store) feed(ctx context.Context, which string, position int64, limit int) ([]tam.FeedEvent, error) {
	rows := s.pool.Query(ctx, `SELECT feed, id, device_id, at, kind, detail, rollout FROM events WHERE `+which+` LIMIT $2`, position, limit)
	return collect(rows, func(row pgx.Row) (*tam.FeedEvent, error) {
		var e tam.FeedEvent
		var at int64
		var kind string
		var detail []byte
		if err := row.Scan(&e.Position, &e.ID, &e.DeviceID, &at, &kind, &detail, &e.Rollout); err != nil {
			return nil, wrap(err)
		}
		e.At, e.Kind, e.Detail = fromMillis(at), tam.EventKind(kind), string(detail)
		return &e, nil
	})
}

// FeedHead implements [tam.Feed].
func (s *Store) FeedHead(ctx context.Context) (n int64, err error) {
	for more := true; more; {
		if more, err = s.place(ctx); err != nil {
			return 0, err
		}
	}
	err = s.pool.QueryRow(ctx, `SELECT position FROM feed_head WHERE one = 1`).Scan(&n)
	return n, wrap(err)
}

const webhookColumns = `data, position, failures, next, fault`

func scanWebhook(row pgx.Row) (*tam.Webhook, error) {
	var w tam.Webhook
	var data string
	var p tam.WebhookProgress
	var next int64
	if err := row.Scan(&data, &p.Position, &p.Failures, &next, &p.LastError); err != nil {
		return nil, wrap(err)
	}
	if err := json.Unmarshal([]byte(data), &w); err != nil {
		return nil, fmt.Errorf("postgres: webhook: %w", err)
	}
	p.Next = fromMillis(next)
	w.WebhookProgress = p
	return &w, nil
}

// AddWebhook implements [tam.Webhooks].
func (s *Store) AddWebhook(ctx context.Context, w tam.Webhook) error {
	fixed := w
	fixed.WebhookProgress = tam.WebhookProgress{}
	data, err := toJSON(fixed)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO webhooks (id, data, position, failures, next, fault, claimed)
			VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT DO NOTHING`, w.ID, data, w.Position, w.Failures, millis(w.Next), w.LastError)
		if err := oneRow(tag, err, tam.ErrExists); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionWebhookCreate, w.ID, w.Describe())
	})
}

// ListWebhooks implements [tam.Webhooks].
func (s *Store) ListWebhooks(ctx context.Context, after string, limit int) ([]tam.Webhook, error) {
	rows := s.pool.Query(ctx, `SELECT `+webhookColumns+` FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	return collect(rows, scanWebhook)
}

// DeleteWebhook implements [tam.Webhooks].
func (s *Store) DeleteWebhook(ctx context.Context, id string) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		w, err := scanWebhook(tx.QueryRow(ctx, `DELETE FROM webhooks WHERE id = $1 RETURNING `+webhookColumns, id))
		if err != nil {
			return err
		}
		return s.record(ctx, tx, audit.ActionWebhookDelete, id, w.Describe())
	})
}

// ClaimWebhook implements [tam.Webhooks].
func (s *Store) ClaimWebhook(ctx context.Context, id string, now, until time.Time) (w *tam.Webhook, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		w, err = scanWebhook(tx.QueryRow(ctx, `UPDATE webhooks SET claimed = $3
			WHERE id = $1 AND next <= $2 AND claimed <= $2 RETURNING `+webhookColumns, id, millis(now), millis(until)))
		return goneOrTaken(ctx, tx, id, err)
	})
	return w, err
}

// SettleWebhook implements [tam.Webhooks].
func (s *Store) SettleWebhook(ctx context.Context, id string, until time.Time, p tam.WebhookProgress) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		_, err := scanWebhook(tx.QueryRow(ctx, `UPDATE webhooks SET position = $3, failures = $4, next = $5, fault = $6, claimed = 0
			WHERE id = $1 AND claimed = $2 RETURNING `+webhookColumns, id, millis(until), p.Position, p.Failures, millis(p.Next), p.LastError))
		return goneOrTaken(ctx, tx, id, err)
	})
}

// goneOrTaken tells why no row was changed.
func goneOrTaken(ctx context.Context, tx pgx.Tx, id string, err error) error {
	if !errors.Is(err, tam.ErrNotFound) {
		return err
	}
	var one int
	if err := tx.QueryRow(ctx, `SELECT 1 FROM webhooks WHERE id = $1`, id).Scan(&one); err != nil {
		return wrap(err)
	}
	return tam.ErrConflict
}
