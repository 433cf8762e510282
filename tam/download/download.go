// Package download serves a TAM's payloads to brokers, and to the CDN that may stand in front of it:
//
//	mux.Handle("/payloads/", http.StripPrefix("/payloads/", download.NewHandler(download.Config{Payloads: payloads})))
//
// A payload is named by its SHA-256, so it never changes under its name. That is its strong entity tag, and
// caches may keep it for good; ranges let a download go on where it broke (RFC 9110 §13, §14). Nobody has to
// say who they are: what is secret in a payload its publisher encrypts.
package download

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
)

// Config says what is served, and how much at once.
type Config struct {
	// Payloads is required.
	Payloads tam.Payloads
	// Concurrent bounds the downloads under way; more are answered 503 with Retry-After. 0 means 512.
	Concurrent int
	// StallTimeout ends a download whose receiver takes nothing for so long. 0 means 30 seconds.
	StallTimeout time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

const (
	// forGood is for what never changes; a year is the longest that caches heed (RFC 9111 §1.2.2).
	forGood = "public, max-age=31536000, immutable"
	// busyRetry is what a refusal asks to wait, in seconds.
	busyRetry = 5
)

type handler struct {
	Config
	slots chan struct{}
}

// NewHandler makes a handler for paths that are the name of a payload.
func NewHandler(c Config) http.Handler {
	if c.Concurrent == 0 {
		c.Concurrent = 512
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &handler{c, make(chan struct{}, c.Concurrent)}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What is refused now may be there later: no cache keeps a refusal.
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "payloads are read with GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	digest, ok := tam.ParsePayloadName(r.URL.Path)
	if !ok {
		http.Error(w, "no payload has this name: it is a SHA-256 in lower-case hexadecimal", http.StatusNotFound)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		unavailable(w)
		return
	}
	p, err := h.Payloads.Open(r.Context(), digest)
	if errors.Is(err, tam.ErrNotFound) {
		http.Error(w, "there is no such payload", http.StatusNotFound)
		return
	}
	if err != nil {
		h.Logger.ErrorContext(r.Context(), "payload cannot be opened", "payload", hex.EncodeToString(digest[:]), "err", err)
		unavailable(w)
		return
	}
	defer p.Close() //nolint:errcheck // was only read
	h.serve(w, r, p, digest)
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(busyRetry))
	http.Error(w, "the payload cannot be served now: try again", http.StatusServiceUnavailable)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, p tam.Payload, digest [32]byte) {
	w.Header().Set("ETag", strconv.Quote(hex.EncodeToString(digest[:])))
	// RFC 9530: of the whole, also where a range is sent.
	w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":")
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", forGood)
	http.ServeContent(&stallWriter{w, http.NewResponseController(w), h.StallTimeout}, withRange(r), "", time.Time{}, p)
}

// maxRanges bounds the parts of an answer, each of which may be a request to an object store.
const maxRanges = 16

// withRange is the request with the Range that counts, for [http.ServeContent], which refuses what has to be ignored
// (RFC 9110 §14.2): a unit that is not understood, whose name is in any case of letters (§14.1), and a range of
// anything but GET. Too many ranges may be ignored too.
func withRange(r *http.Request) *http.Request {
	given := r.Header.Get("Range")
	if given == "" {
		return r
	}
	r = r.Clone(r.Context())
	unit, ranges, _ := strings.Cut(given, "=")
	if r.Method != http.MethodGet || !strings.EqualFold(unit, "bytes") || strings.Count(ranges, ",") >= maxRanges {
		r.Header.Del("Range")
	} else {
		r.Header.Set("Range", "bytes="+ranges)
	}
	return r
}

// stallWriter gives each write its own deadline: a download may take long, and a receiver may not sleep.
// It has nothing but the methods of a ResponseWriter, so that all bytes pass through Write.
type stallWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// WriteHeader keeps caches from keeping a refusal: it depends on the request.
func (w *stallWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *stallWriter) Write(p []byte) (int, error) {
	// Writers without deadlines are those of tests. The server clears the deadline after the answer.
	if err := w.control.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}
