package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/go-teep/teep/broker"
)

// traced is one line of a trace: what the broker did, and the message as it passed.
type traced struct {
	Time    time.Time        `json:"time"`
	TEE     string           `json:"tee"`
	Session uint64           `json:"session"`
	Kind    broker.EventKind `json:"kind"`
	URI     string           `json:"uri,omitempty"`
	Message string           `json:"message,omitempty"` // hexadecimal
	Offset  int64            `json:"offset,omitempty"`
	Bytes   int              `json:"bytes,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// trace writes every event as one line of JSON. Messages may identify the device; that is why
// tracing is off unless asked for.
func trace(w io.Writer, log *slog.Logger) func(broker.Event) {
	var mu sync.Mutex
	return func(e broker.Event) {
		line := traced{Time: e.Time, TEE: e.TEE, Session: e.Session, Kind: e.Kind, URI: e.URI,
			Message: hex.EncodeToString(e.Message), Offset: e.Offset, Bytes: e.Bytes}
		if e.Err != nil {
			line.Error = e.Err.Error()
		}
		data, err := json.Marshal(line)
		if err == nil {
			mu.Lock()
			_, err = w.Write(append(data, '\n'))
			mu.Unlock()
		}
		if err != nil {
			log.Warn("trace line lost", "err", err)
		}
	}
}

// logged tells events in the log, without messages.
func logged(log *slog.Logger) func(broker.Event) {
	return func(e broker.Event) {
		attrs := []any{"tee", e.TEE, "session", e.Session}
		if e.URI != "" {
			attrs = append(attrs, "uri", e.URI)
		}
		if len(e.Message) > 0 {
			attrs = append(attrs, "bytes", len(e.Message))
		}
		if e.Bytes > 0 {
			attrs = append(attrs, "offset", e.Offset, "bytes", e.Bytes)
		}
		if e.Err != nil {
			log.Warn(string(e.Kind), append(attrs, "err", e.Err)...)
			return
		}
		level := slog.LevelDebug
		if e.Kind == broker.EventConnect || e.Kind == broker.EventSupply || e.Kind == broker.EventDone {
			level = slog.LevelInfo
		}
		log.Log(context.Background(), level, string(e.Kind), attrs...)
	}
}
