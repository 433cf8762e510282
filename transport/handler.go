package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Endpoint is what receives messages: a TAM, or, in the second topology of TEEP over HTTP §1, an
// agent that a TAM connects to. Safe for concurrent use.
type Endpoint interface {
	// ProcessConnect answers an empty POST: a new session is wanted.
	ProcessConnect(ctx context.Context) ([]byte, error)
	// ProcessTeepMessage answers a message. An empty answer ends the exchange.
	ProcessTeepMessage(ctx context.Context, message []byte) ([]byte, error)
}

// HandlerOptions are limits of a handler. The zero value is fit for a public server.
type HandlerOptions struct {
	// MaxRequest is the largest message accepted, in bytes; 0 means 4 MiB.
	MaxRequest int64
	// MaxConcurrent bounds the messages in work; more are answered 503. 0 means 256.
	MaxConcurrent int
	// MaxArriving bounds the messages that are on their way in; a further one cuts off the oldest,
	// which is answered 408. Together they take up to MaxArriving · MaxRequest bytes. 0 means 256.
	MaxArriving int
	// RetryAfter is what a 503 or 429 asks the client to wait, in whole seconds; 0 means 5 s.
	RetryAfter time.Duration
	// Rate bounds the requests of one client address (of an IPv6 /64) per second, with Burst at
	// once; more are answered 429. 0 means 50 and 100; a negative Rate switches the limit off.
	Rate  float64
	Burst int
	// MaxAddresses bounds the memory of the rate limit; the address that was quiet for longest is
	// forgotten. 0 means 65536.
	MaxAddresses int
	// ClientAddress tells whose request it is, for servers behind a proxy; nil means the peer of
	// the connection.
	ClientAddress func(*http.Request) netip.Addr
	// BodyTimeout bounds the time in which a message has to arrive, and in which its answer has
	// to be taken; 0 means 30 s.
	BodyTimeout time.Duration
	// ProcessTimeout bounds the work on one message, where the endpoint minds its context; what takes
	// longer is answered 503. 0 means no bound.
	ProcessTimeout time.Duration
	// Server is the Server header; empty means none.
	Server string
	// Log gets failures of the endpoint; nil means none. What clients do wrong is not logged.
	Log *slog.Logger
	// Observe, if not nil, is called with the status of every response.
	Observe func(r *http.Request, status int, took time.Duration)
	// Now is the clock; nil means the real one.
	Now func() time.Time
}

// NewHandler makes the HTTP face of an endpoint (TEEP/HTTP §6). It serves every path that it is
// mounted on.
func NewHandler(e Endpoint, o HandlerOptions) http.Handler {
	o = o.withDefaults()
	h := &handler{endpoint: e, options: o, slots: make(chan struct{}, o.MaxConcurrent), arriving: newArriving(o.MaxArriving)}
	if o.Rate > 0 {
		h.limits = newAddressLimits(o.Rate, max(o.Burst, 1), o.MaxAddresses)
	}
	return h
}

// Limits are the limits in force, by what they limit, for whoever shows them: in bytes, numbers and seconds. What is
// not limited is left out.
func (o HandlerOptions) Limits() map[string]float64 {
	o = o.withDefaults()
	limits := map[string]float64{
		"message_bytes": float64(o.MaxRequest), "concurrent_messages": float64(o.MaxConcurrent), "arriving_messages": float64(o.MaxArriving),
		"body_seconds": o.BodyTimeout.Seconds(),
	}
	if o.Rate > 0 {
		limits["requests_per_second_and_address"], limits["burst"], limits["addresses"] = o.Rate, float64(max(o.Burst, 1)), float64(o.MaxAddresses)
	}
	if o.ProcessTimeout > 0 {
		limits["process_seconds"] = o.ProcessTimeout.Seconds()
	}
	return limits
}

func (o HandlerOptions) withDefaults() HandlerOptions {
	o.MaxRequest = orDefault(o.MaxRequest, 4<<20)
	o.MaxConcurrent = orDefault(o.MaxConcurrent, 256)
	o.MaxArriving = orDefault(o.MaxArriving, 256)
	o.RetryAfter = orDefault(o.RetryAfter, 5*time.Second)
	o.MaxAddresses = orDefault(o.MaxAddresses, 65536)
	o.BodyTimeout = orDefault(o.BodyTimeout, 30*time.Second)
	if o.Rate == 0 {
		o.Rate, o.Burst = 50, 100
	}
	if o.ClientAddress == nil {
		o.ClientAddress = peerAddress
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

type handler struct {
	endpoint Endpoint
	options  HandlerOptions
	slots    chan struct{}
	arriving *arriving
	limits   *addressLimits
}

func peerAddress(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr()
}

// refusal is a response without TEEP message.
type refusal struct {
	status int
	text   string
	header [2]string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.options.Now()
	status := h.serve(w, r)
	if h.options.Observe != nil {
		h.options.Observe(r, status, h.options.Now().Sub(start))
	}
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) (status int) {
	if h.options.Server != "" {
		w.Header().Set("Server", h.options.Server)
	}
	if refused := h.admit(r); refused != nil {
		return refused.write(w)
	}
	deadline := http.NewResponseController(w)
	// Not every ResponseWriter has deadlines; a server's has.
	deadline.SetReadDeadline(time.Now().Add(h.options.BodyTimeout)) //nolint:errcheck // see above
	leave := h.arriving.enter(func() {
		deadline.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // see above
	})
	body, refused := h.readBody(w, r)
	leave()
	if refused != nil {
		return refused.write(w)
	}
	deadline.SetReadDeadline(time.Time{}) //nolint:errcheck // see above
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return h.later(http.StatusServiceUnavailable, "overloaded").write(w)
	}
	reply, err := h.process(r.Context(), body)
	if err != nil {
		return h.failure(r, err).write(w)
	}
	deadline.SetWriteDeadline(time.Now().Add(h.options.BodyTimeout)) //nolint:errcheck // see above
	return writeReply(w, reply)
}

// admit checks what can be checked without the body.
func (h *handler) admit(r *http.Request) *refusal {
	if h.limits != nil && !h.limits.allow(h.options.ClientAddress(r), h.options.Now()) {
		return h.later(http.StatusTooManyRequests, "too many requests from this address")
	}
	if r.Method != http.MethodPost {
		return &refusal{status: http.StatusMethodNotAllowed, text: "only POST is allowed here", header: [2]string{"Allow", "POST"}}
	}
	if !accepts(r.Header.Values("Accept")) {
		return &refusal{status: http.StatusNotAcceptable, text: "send Accept: " + MediaType}
	}
	contentType := r.Header.Get("Content-Type")
	if contentType != "" && !isMediaType(contentType) || r.Header.Get("Content-Encoding") != "" {
		return wrongMediaType()
	}
	if r.ContentLength > h.options.MaxRequest {
		return h.tooLarge()
	}
	return nil
}

func wrongMediaType() *refusal {
	return &refusal{status: http.StatusUnsupportedMediaType, text: "send Content-Type: " + MediaType, header: [2]string{"Accept-Post", MediaType}}
}

func (h *handler) tooLarge() *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, text: "messages of up to " + strconv.FormatInt(h.options.MaxRequest, 10) + " bytes are accepted"}
}

func (h *handler) later(status int, text string) *refusal {
	seconds := max(int64((h.options.RetryAfter+time.Second-1)/time.Second), 1)
	return &refusal{status: status, text: text, header: [2]string{"Retry-After", strconv.FormatInt(seconds, 10)}}
}

func (h *handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.options.MaxRequest))
	var large *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &large):
		return nil, h.tooLarge()
	case errors.As(err, &network) && network.Timeout():
		return nil, &refusal{status: http.StatusRequestTimeout, text: "the message took too long to arrive", header: [2]string{"Connection", "close"}}
	case err != nil:
		return nil, &refusal{status: http.StatusBadRequest, text: "the message broke off"}
	case len(body) > 0 && r.Header.Get("Content-Type") == "":
		return nil, wrongMediaType()
	}
	return body, nil
}

func (h *handler) process(ctx context.Context, body []byte) ([]byte, error) {
	if h.options.ProcessTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.options.ProcessTimeout)
		defer cancel()
	}
	if len(body) == 0 {
		return h.endpoint.ProcessConnect(ctx)
	}
	return h.endpoint.ProcessTeepMessage(ctx, body)
}

// failure answers that no message buffer could be had (TEEP/HTTP §6.4): 503 for what may be better
// later, which an error says by a method Temporary, 500 for all else. The cause stays here.
func (h *handler) failure(r *http.Request, err error) *refusal {
	if h.options.Log != nil {
		h.options.Log.ErrorContext(r.Context(), "message was not processed", "error", err)
	}
	var t interface{ Temporary() bool }
	if errors.As(err, &t) && t.Temporary() || errors.Is(err, context.DeadlineExceeded) {
		return h.later(http.StatusServiceUnavailable, "temporarily unavailable")
	}
	return &refusal{status: http.StatusInternalServerError, text: "internal error"}
}

func (f *refusal) write(w http.ResponseWriter) int {
	setContentHeaders(w, "text/plain; charset=utf-8")
	if f.header[0] != "" {
		w.Header().Set(f.header[0], f.header[1])
	}
	w.WriteHeader(f.status)
	io.WriteString(w, f.text+"\n") //nolint:errcheck // the status is what counts
	return f.status
}

// setContentHeaders marks the content as nothing that a browser should act on (TEEP/HTTP §4).
func setContentHeaders(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

func writeReply(w http.ResponseWriter, reply []byte) int {
	if len(reply) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	setContentHeaders(w, MediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	w.WriteHeader(http.StatusOK)
	w.Write(reply) //nolint:errcheck // a client that went away asks again
	return http.StatusOK
}

// accepts tells whether an Accept header admits TEEP messages (RFC 9110 §12.5.1): the most specific
// range that fits decides, and q=0 forbids.
func accepts(values []string) bool {
	best, allowed := -1, false
	for _, item := range strings.Split(strings.Join(values, ","), ",") {
		t, params, err := mime.ParseMediaType(strings.TrimSpace(item))
		if err != nil {
			continue
		}
		specific := map[string]int{"*/*": 0, "application/*": 1, MediaType: 2}
		rank, fits := specific[t]
		if !fits || rank < best {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		best, allowed = rank, q > 0
	}
	return allowed
}
