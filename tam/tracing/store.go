package tracing

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// Store follows the calls that messages and requests of operators consist of.
func (t *Tracing) Store(s api.Store) api.Store {
	if t == nil {
		return s
	}
	return &store{s, t}
}

type store struct {
	api.Store
	t *Tracing
}

// answers are those of the contract; all else is the back end's failure.
var answers = []error{tam.ErrNotFound, tam.ErrExists, tam.ErrConflict, tam.ErrConsumed, tam.ErrSequence, context.Canceled}

// ended ends the span of a call.
func ended(span trace.Span, err error) {
	for _, known := range answers {
		if errors.Is(err, known) {
			span.SetAttributes(attribute.String("teep.store.answer", known.Error()))
			err = nil
		}
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// do follows a call without result.
func (s *store) do(ctx context.Context, call string, f func(context.Context) error) error {
	_, err := get(ctx, s, call, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// get follows a call, if it belongs to something that is followed.
func get[T any](ctx context.Context, s *store, call string, f func(context.Context) (T, error)) (T, error) {
	if !followed(ctx) {
		return f(ctx)
	}
	ctx, span := s.t.start(ctx, "store "+call, trace.SpanKindInternal, trace.WithAttributes(attribute.String("teep.store.call", call)))
	v, err := f(ctx)
	ended(span, err)
	return v, err
}

// CommitExchange implements [tam.Exchanges].
func (s *store) CommitExchange(ctx context.Context, x tam.Exchange) error {
	return s.do(ctx, "CommitExchange", func(ctx context.Context) error { return s.Store.CommitExchange(ctx, x) })
}

// The rest of the contract, as far as sessions and operators use it often or change something.

func (s *store) Device(ctx context.Context, id string) (*tam.Device, error) {
	return get(ctx, s, "Device", func(ctx context.Context) (*tam.Device, error) { return s.Store.Device(ctx, id) })
}

func (s *store) DeviceByKey(ctx context.Context, thumbprint []byte) (*tam.Device, error) {
	return get(ctx, s, "DeviceByKey", func(ctx context.Context) (*tam.Device, error) { return s.Store.DeviceByKey(ctx, thumbprint) })
}

func (s *store) ListDevices(ctx context.Context, after string, limit int) ([]tam.Device, error) {
	return get(ctx, s, "ListDevices", func(ctx context.Context) ([]tam.Device, error) { return s.Store.ListDevices(ctx, after, limit) })
}

func (s *store) FindDevices(ctx context.Context, f tam.DeviceFilter, after string, limit int) ([]tam.Device, error) {
	return get(ctx, s, "FindDevices", func(ctx context.Context) ([]tam.Device, error) { return s.Store.FindDevices(ctx, f, after, limit) })
}

func (s *store) DevicesByUEID(ctx context.Context, ueid []byte) ([]tam.Device, error) {
	return get(ctx, s, "DevicesByUEID", func(ctx context.Context) ([]tam.Device, error) { return s.Store.DevicesByUEID(ctx, ueid) })
}

func (s *store) UpdateDevice(ctx context.Context, d *tam.Device) error {
	return s.do(ctx, "UpdateDevice", func(ctx context.Context) error { return s.Store.UpdateDevice(ctx, d) })
}

func (s *store) Events(ctx context.Context, deviceID string, before int64, limit int) ([]tam.Event, error) {
	return get(ctx, s, "Events", func(ctx context.Context) ([]tam.Event, error) { return s.Store.Events(ctx, deviceID, before, limit) })
}

func (s *store) CatalogueRevision(ctx context.Context) (int64, error) {
	return get(ctx, s, "CatalogueRevision", func(ctx context.Context) (int64, error) { return s.Store.CatalogueRevision(ctx) })
}

func (s *store) AddVersion(ctx context.Context, v tam.Version) error {
	return s.do(ctx, "AddVersion", func(ctx context.Context) error { return s.Store.AddVersion(ctx, v) })
}

func (s *store) ListVersions(ctx context.Context, after tam.VersionCursor, limit int) ([]tam.Version, error) {
	return get(ctx, s, "ListVersions", func(ctx context.Context) ([]tam.Version, error) { return s.Store.ListVersions(ctx, after, limit) })
}

func (s *store) WithdrawVersion(ctx context.Context, manifest suit.ComponentID, sequence uint64, reason string, at time.Time) error {
	return s.do(ctx, "WithdrawVersion", func(ctx context.Context) error { return s.Store.WithdrawVersion(ctx, manifest, sequence, reason, at) })
}

func (s *store) Assignments(ctx context.Context) ([]tam.Assignment, error) {
	return get(ctx, s, "Assignments", func(ctx context.Context) ([]tam.Assignment, error) { return s.Store.Assignments(ctx) })
}

func (s *store) PutAssignment(ctx context.Context, a tam.Assignment) error {
	return s.do(ctx, "PutAssignment", func(ctx context.Context) error { return s.Store.PutAssignment(ctx, a) })
}

func (s *store) DeleteAssignment(ctx context.Context, manifest suit.ComponentID) error {
	return s.do(ctx, "DeleteAssignment", func(ctx context.Context) error { return s.Store.DeleteAssignment(ctx, manifest) })
}

func (s *store) SwapAssignment(ctx context.Context, manifest suit.ComponentID, old, new *tam.Assignment, catalogue int64) error {
	return s.do(ctx, "SwapAssignment", func(ctx context.Context) error { return s.Store.SwapAssignment(ctx, manifest, old, new, catalogue) })
}

func (s *store) AddPublisher(ctx context.Context, p tam.Publisher) error {
	return s.do(ctx, "AddPublisher", func(ctx context.Context) error { return s.Store.AddPublisher(ctx, p) })
}

func (s *store) ListPublishers(ctx context.Context, after string, limit int) ([]tam.Publisher, error) {
	return get(ctx, s, "ListPublishers", func(ctx context.Context) ([]tam.Publisher, error) { return s.Store.ListPublishers(ctx, after, limit) })
}

func (s *store) ChangePublisher(ctx context.Context, name string, c tam.PublisherChange) error {
	return s.do(ctx, "ChangePublisher", func(ctx context.Context) error { return s.Store.ChangePublisher(ctx, name, c) })
}

func (s *store) RevokePublisher(ctx context.Context, name string, at time.Time) error {
	return s.do(ctx, "RevokePublisher", func(ctx context.Context) error { return s.Store.RevokePublisher(ctx, name, at) })
}

func (s *store) APITokenByHash(ctx context.Context, hash [32]byte) (*tam.APIToken, error) {
	return get(ctx, s, "APITokenByHash", func(ctx context.Context) (*tam.APIToken, error) { return s.Store.APITokenByHash(ctx, hash) })
}

func (s *store) AddAPIToken(ctx context.Context, t tam.APIToken) error {
	return s.do(ctx, "AddAPIToken", func(ctx context.Context) error { return s.Store.AddAPIToken(ctx, t) })
}

func (s *store) RevokeAPIToken(ctx context.Context, id string, at time.Time) error {
	return s.do(ctx, "RevokeAPIToken", func(ctx context.Context) error { return s.Store.RevokeAPIToken(ctx, id, at) })
}

func (s *store) TokenKeys(ctx context.Context) ([]tam.TokenKey, error) {
	return get(ctx, s, "TokenKeys", func(ctx context.Context) ([]tam.TokenKey, error) { return s.Store.TokenKeys(ctx) })
}

func (s *store) AddTokenKey(ctx context.Context, k tam.TokenKey) error {
	return s.do(ctx, "AddTokenKey", func(ctx context.Context) error { return s.Store.AddTokenKey(ctx, k) })
}

func (s *store) PutDeposit(ctx context.Context, d tam.Deposit) error {
	return s.do(ctx, "PutDeposit", func(ctx context.Context) error { return s.Store.PutDeposit(ctx, d) })
}

func (s *store) RemoveDeposit(ctx context.Context, id string) error {
	return s.do(ctx, "RemoveDeposit", func(ctx context.Context) error { return s.Store.RemoveDeposit(ctx, id) })
}

func (s *store) DepositsFor(ctx context.Context, device string) ([]tam.Deposit, error) {
	return get(ctx, s, "DepositsFor", func(ctx context.Context) ([]tam.Deposit, error) { return s.Store.DepositsFor(ctx, device) })
}

func (s *store) FeedEvents(ctx context.Context, after int64, limit int) ([]tam.FeedEvent, error) {
	return get(ctx, s, "FeedEvents", func(ctx context.Context) ([]tam.FeedEvent, error) { return s.Store.FeedEvents(ctx, after, limit) })
}

func (s *store) AddWebhook(ctx context.Context, w tam.Webhook) error {
	return s.do(ctx, "AddWebhook", func(ctx context.Context) error { return s.Store.AddWebhook(ctx, w) })
}

func (s *store) DeleteWebhook(ctx context.Context, id string) error {
	return s.do(ctx, "DeleteWebhook", func(ctx context.Context) error { return s.Store.DeleteWebhook(ctx, id) })
}

func (s *store) PolicyRecords(ctx context.Context, kind tam.RecordKind, after string, limit int) ([]tam.PolicyRecord, error) {
	return get(ctx, s, "PolicyRecords", func(ctx context.Context) ([]tam.PolicyRecord, error) {
		return s.Store.PolicyRecords(ctx, kind, after, limit)
	})
}

func (s *store) ChangePolicy(ctx context.Context, c tam.PolicyChange) error {
	return s.do(ctx, "ChangePolicy", func(ctx context.Context) error { return s.Store.ChangePolicy(ctx, c) })
}

func (s *store) CountDevices(ctx context.Context) ([]tam.DeviceCount, error) {
	return get(ctx, s, "CountDevices", func(ctx context.Context) ([]tam.DeviceCount, error) { return s.Store.CountDevices(ctx) })
}

func (s *store) CountInstalled(ctx context.Context, after tam.VersionCursor, limit int) ([]tam.InstalledCount, error) {
	return get(ctx, s, "CountInstalled", func(ctx context.Context) ([]tam.InstalledCount, error) {
		return s.Store.CountInstalled(ctx, after, limit)
	})
}

func (s *store) ReserveRequest(ctx context.Context, r tam.RequestRecord, now time.Time) (*tam.RequestRecord, error) {
	return get(ctx, s, "ReserveRequest", func(ctx context.Context) (*tam.RequestRecord, error) { return s.Store.ReserveRequest(ctx, r, now) })
}

func (s *store) CompleteRequest(ctx context.Context, id, answer []byte) error {
	return s.do(ctx, "CompleteRequest", func(ctx context.Context) error { return s.Store.CompleteRequest(ctx, id, answer) })
}

// Blobs follows what is read from and written to a folder or bucket.
func (t *Tracing) Blobs(b tam.Blobs) tam.Blobs {
	if t == nil {
		return b
	}
	return &blobs{b, t}
}

type blobs struct {
	tam.Blobs
	t *Tracing
}

func (b *blobs) Put(ctx context.Context, data []byte) ([32]byte, error) {
	ctx, span := b.t.start(ctx, "blobs Put", trace.SpanKindInternal, trace.WithAttributes(attribute.Int("teep.bytes", len(data))))
	digest, err := b.Blobs.Put(ctx, data)
	ended(span, err)
	return digest, err
}

func (b *blobs) Get(ctx context.Context, digest [32]byte) ([]byte, error) {
	ctx, span := b.t.start(ctx, "blobs Get", trace.SpanKindInternal)
	data, err := b.Blobs.Get(ctx, digest)
	span.SetAttributes(attribute.Int("teep.bytes", len(data)))
	ended(span, err)
	return data, err
}

func (b *blobs) Delete(ctx context.Context, digest [32]byte) error {
	ctx, span := b.t.start(ctx, "blobs Delete", trace.SpanKindInternal)
	err := b.Blobs.Delete(ctx, digest)
	ended(span, err)
	return err
}
