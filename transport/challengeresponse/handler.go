package challengeresponse

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Verifier appraises Evidence that holds the nonce of a session, and signs a result. Safe for
// concurrent use.
type Verifier interface {
	// Types lists the media types of Evidence that are taken.
	Types() []string
	// Appraise returns an error if there is no result for the Evidence; its text goes to the log, not
	// to who sent it.
	Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (Result, error)
}

// HandlerOptions are limits of a handler. The zero value is fit for a public server.
type HandlerOptions struct {
	// MaxSessions bounds the sessions at a time, which are kept in memory; more are answered 503.
	// 0 means 4096.
	MaxSessions int
	// Lifetime is how long a session lives; 0 means 2 minutes.
	Lifetime time.Duration
	// MaxEvidence is the largest Evidence in bytes; 0 means 1 MiB.
	MaxEvidence int64
	// MaxConcurrent bounds the appraisals in work; more are answered 503. 0 means 16.
	MaxConcurrent int
	// Timeout bounds one appraisal and the time in which its Evidence has to arrive; 0 means 30 s.
	Timeout time.Duration
	// Log gets what was appraised and refused; nil discards it.
	Log *slog.Logger
	// Now and Rand are the clock and the source of nonces and names of sessions; nil means real ones.
	Now  func() time.Time
	Rand io.Reader
}

// retryAfter is what a 503 asks the client to wait, in seconds.
const retryAfter = "2"

// NewHandler makes the HTTP face of a verifier. It is to be mounted at the root, or behind http.StripPrefix.
func NewHandler(v Verifier, o HandlerOptions) http.Handler {
	if o.MaxSessions == 0 {
		o.MaxSessions = 4096
	}
	if o.Lifetime == 0 {
		o.Lifetime = 2 * time.Minute
	}
	if o.MaxEvidence == 0 {
		o.MaxEvidence = 1 << 20
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 16
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	h := &handler{verifier: v, options: o, sessions: map[string]*session{}, slots: make(chan struct{}, o.MaxConcurrent)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /"+prefix+"/newSession", h.begin)
	mux.HandleFunc("POST /"+prefix+"/session/{id}", h.evidence)
	mux.HandleFunc("GET /"+prefix+"/session/{id}", h.show)
	mux.HandleFunc("DELETE /"+prefix+"/session/{id}", h.end)
	return mux
}

type handler struct {
	verifier Verifier
	options  HandlerOptions
	slots    chan struct{}

	mu sync.Mutex
	// sessions are replaced, never changed: who has one may read it.
	sessions map[string]*session
	order    []string // oldest first
}

// problem answers in the form of RFC 9457.
func problem(w http.ResponseWriter, status int, text string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// Who is gone needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": text})
}

func answer(w http.ResponseWriter, status int, s *session) {
	w.Header().Set("Content-Type", SessionType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(s) // who is gone needs no answer
}

// nonceOf is the nonce that a new session is for: the client's own, or one of the size that it wants.
func (h *handler) nonceOf(r *http.Request) ([]byte, error) {
	q := r.URL.Query()
	text, size := q.Get("nonce"), q.Get("nonceSize")
	if (text == "") == (size == "") {
		return nil, errors.New("say either nonce, in base64url, or nonceSize")
	}
	if text != "" {
		nonce, err := decode(text)
		if err != nil || len(nonce) < minNonce || len(nonce) > maxNonce {
			return nil, fmt.Errorf("nonce is not base64url of %d to %d bytes", minNonce, maxNonce)
		}
		return nonce, nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < minNonce || n > maxNonce {
		return nil, fmt.Errorf("nonceSize is not %d to %d", minNonce, maxNonce)
	}
	nonce := make([]byte, n)
	_, err = io.ReadFull(h.options.Rand, nonce)
	return nonce, err
}

func (h *handler) begin(w http.ResponseWriter, r *http.Request) {
	nonce, err := h.nonceOf(r)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	var name [16]byte
	if _, err := io.ReadFull(h.options.Rand, name[:]); err != nil {
		problem(w, http.StatusInternalServerError, "no randomness")
		return
	}
	id := base64.RawURLEncoding.EncodeToString(name[:])
	expiry := h.options.Now().Add(h.options.Lifetime).UTC().Truncate(time.Second)
	s := &session{Nonce: nonce, Expiry: &expiry, Accept: h.verifier.Types(), Status: statusWaiting}
	if !h.add(id, s) {
		problem(w, http.StatusServiceUnavailable, "too many sessions")
		return
	}
	w.Header().Set("Location", "session/"+id)
	answer(w, http.StatusCreated, s)
}

// add makes room of sessions that are over.
func (h *handler) add(id string, s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.options.Now()
	for len(h.order) > 0 {
		oldest, ok := h.sessions[h.order[0]]
		if ok && now.Before(*oldest.Expiry) {
			break
		}
		delete(h.sessions, h.order[0])
		h.order = h.order[1:]
	}
	if len(h.order) >= h.options.MaxSessions {
		return false
	}
	h.sessions[id] = s
	h.order = append(h.order, id)
	return true
}

// find returns a session that lives.
func (h *handler) find(id string) (*session, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.sessions[id]
	if !ok || !h.options.Now().Before(*s.Expiry) {
		return nil, false
	}
	return s, true
}

// take makes a session that waits one that is in work: Evidence comes once.
func (h *handler) take(id string, waiting *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[id] != waiting || waiting.Status != statusWaiting {
		return false
	}
	working := *waiting
	working.Status = statusProcessing
	h.sessions[id] = &working
	return true
}

func (h *handler) put(id string, s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.sessions[id]; ok {
		h.sessions[id] = s
	}
}

func (h *handler) evidence(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s, ok := h.find(id)
	if !ok {
		problem(w, http.StatusNotFound, "no such session: it is over, or never was")
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		problem(w, http.StatusServiceUnavailable, "too many appraisals in work")
		return
	}
	// Not every ResponseWriter has deadlines; a server's has.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.options.Timeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.options.MaxEvidence))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("Evidence has at most %d bytes", h.options.MaxEvidence))
		return
	case err != nil || len(body) == 0:
		problem(w, http.StatusBadRequest, "the Evidence did not arrive")
		return
	}
	mediaType := strings.TrimSpace(r.Header.Get("Content-Type"))
	if mediaType == "" {
		problem(w, http.StatusUnsupportedMediaType, "Content-Type is to be the media type of the Evidence")
		return
	}
	if !h.take(id, s) {
		problem(w, http.StatusConflict, "a session is for one piece of Evidence; begin another one")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.options.Timeout)
	defer cancel()
	done := *s
	result, err := h.verifier.Appraise(ctx, mediaType, body, s.Nonce)
	if err != nil {
		h.options.Log.Warn("no result", "type", mediaType, "bytes", len(body), "err", err)
		done.Status = statusFailed
	} else {
		done.setResult(result)
	}
	h.put(id, &done)
	answer(w, http.StatusOK, &done)
}

func (h *handler) show(w http.ResponseWriter, r *http.Request) {
	s, ok := h.find(r.PathValue("id"))
	if !ok {
		problem(w, http.StatusNotFound, "no such session: it is over, or never was")
		return
	}
	answer(w, http.StatusOK, s)
}

func (h *handler) end(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	h.mu.Lock()
	delete(h.sessions, id)
	h.order = slices.DeleteFunc(h.order, func(o string) bool { return o == id })
	h.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}
