package metrics

import (
	"context"
	"time"

	"github.com/go-teep/teep/tam"
)

// countField keeps once an hour how many devices have each version. Every replica tries; the first one counts.
func (m *Metrics) countField(ctx context.Context) {
	hour := m.clock().UTC().Truncate(time.Hour)
	m.mu.Lock()
	due := hour.After(m.fieldCounted)
	m.mu.Unlock()
	if !due {
		return
	}
	known, err := m.store.FieldSince(ctx, hour, tam.VersionCursor{}, 1)
	if err == nil && len(known) == 0 {
		var counts []tam.InstalledCount
		if counts, err = tam.CountAllInstalled(ctx, m.store); err == nil && len(counts) > 0 {
			err = m.store.AddField(ctx, hour, counts)
		}
	}
	if err != nil {
		m.log.WarnContext(ctx, "versions in the field were not counted; tried again soon", "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fieldCounted = hour
}
