package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Log reads what a store recorded. Its methods are safe for concurrent use.
type Log interface {
	// AuditEntries lists entries by Seq, ascending, beginning after the entry `after`.
	AuditEntries(ctx context.Context, after int64, limit int) ([]Entry, error)
	// AuditHead returns the end of the chain; the zero Head while there is no entry.
	AuditHead(ctx context.Context) (Head, error)
}

// Recorder takes entries of changes that are not made in the store, such as those of key files. Whoever makes one
// records it first: a change without an entry is worse than an entry without a change.
type Recorder interface {
	// AddAuditEntry appends an entry on behalf of the context's actor.
	AddAuditEntry(ctx context.Context, action Action, target, detail string) error
}

const exportPage = 500

// Export writes the entries after `after` up to the present end of the chain, one JSON object a line. It holds
// one page of them in memory. What was done to the log is for [Verify] to find, with the head of the store as noted
// entry: an export of a log that was tampered with is what an investigation needs.
func Export(ctx context.Context, log Log, after int64, w io.Writer) error {
	end, err := log.AuditHead(ctx)
	if err != nil {
		return err
	}
	for after < end.Seq {
		page, err := log.AuditEntries(ctx, after, exportPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("audit: the chain's end is entry %d, and nothing follows entry %d: the log was cut", end.Seq, after)
		}
		for _, e := range page {
			line, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("audit: entry %d: %w", e.Seq, err)
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return err
			}
			after = e.Seq
		}
	}
	return nil
}
