package api

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
)

const (
	// idempotencyHeader is that of draft-ietf-httpapi-idempotency-key-header.
	idempotencyHeader = "Idempotency-Key"
	// replayedHeader says that an answer is that of an earlier request.
	replayedHeader = "Idempotency-Replayed"
	// idempotencyLifetime is how long an answer is remembered.
	idempotencyLifetime = 24 * time.Hour
)

// remembered is an answer as it is stored, encrypted.
type remembered struct {
	Status      int    `json:"status"`
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

// once executes a POST at most once per key that the caller chose. The answer is kept encrypted under a
// key that only the caller's token leads to, because it may hold a secret: a new token.
//
// An answer of 5xx is not remembered: the request had no effect, or it is not known, and repeating it is
// what the caller should do.
func (h *handler) once(w http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request) error) error {
	key := r.Header.Get(idempotencyHeader)
	if len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return badRequest("idempotency-key", "The idempotency key is not 1 to 255 printable ASCII characters.", "Use a random UUID.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return err
		}
		return badRequest("body", "The request body broke off.", "Send it again.")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	id := sha256.Sum256([]byte(caller(r.Context()).ID + "\x00" + key))
	fingerprint := fingerprintOf(r, body)
	now := h.Clock()
	found, err := h.Store.ReserveRequest(r.Context(), tam.RequestRecord{
		ID: id[:], Fingerprint: fingerprint, Expires: now.Add(idempotencyLifetime),
	}, now)
	if err != nil {
		return err
	}
	if found != nil {
		return h.replay(w, r, found, fingerprint)
	}
	return h.answerOnce(w, r, id[:], next)
}

func fingerprintOf(r *http.Request, body []byte) []byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %q %q\n", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"))
	hash.Write(body)
	return hash.Sum(nil)
}

func (h *handler) replay(w http.ResponseWriter, r *http.Request, found *tam.RequestRecord, fingerprint []byte) error {
	switch {
	case !bytes.Equal(found.Fingerprint, fingerprint):
		return &Problem{Status: http.StatusUnprocessableEntity, Code: "idempotency-key-reused",
			Detail: "Another request was made with this idempotency key.", Next: "Use a new key for every request, and the same only to repeat it."}
	case found.Answer == nil:
		return &Problem{Status: http.StatusConflict, Code: "idempotency-in-progress",
			Detail: "The request with this idempotency key is under way, or broke off.", Next: "Look whether it took effect; if it did not within a minute, repeat it with a new key."}
	}
	answer, err := h.unseal(r, found)
	if err != nil {
		return err
	}
	w.Header().Set(replayedHeader, "true")
	if answer.ContentType != "" {
		w.Header().Set("Content-Type", answer.ContentType)
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // see Problem.write
	return nil
}

// answerOnce executes the request and remembers the answer.
func (h *handler) answerOnce(w http.ResponseWriter, r *http.Request, id []byte, next func(http.ResponseWriter, *http.Request) error) error {
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	if err := next(rec, r); err != nil {
		h.fail(rec, r, err)
	}
	ctx, cancel := h.afterwards(r.Context())
	defer cancel()
	if rec.status >= 500 {
		if err := h.Store.ReleaseRequest(ctx, id); err != nil {
			// The answer is sent: repeating says “under way, or broke off”.
			h.Logger.ErrorContext(r.Context(), "request could not be released", "err", err)
		}
		return nil
	}
	sealed, err := h.seal(r, id, remembered{rec.status, w.Header().Get("Content-Type"), rec.body.Bytes()})
	if err == nil {
		err = h.Store.CompleteRequest(ctx, id, sealed)
	}
	if err != nil {
		// The change is made and the answer is sent: repeating says “under way, or broke off”.
		h.Logger.ErrorContext(r.Context(), "answer could not be remembered", "err", err)
	}
	return nil
}

// recorder keeps what it passes on.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

// sealers make the ciphers for the answer to one request, the one to seal with first. For a token of this
// TAM the key comes from the token itself, which is not stored. Others prove who they are with something
// that changes from request to request: their keys come from those that the replicas share.
func (h *handler) sealers(r *http.Request, id []byte) ([]cipher.AEAD, error) {
	const use = "teep operator API answer"
	if secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && strings.HasPrefix(secret, tokenPrefix) {
		aead, err := sealer([]byte(secret), id, use)
		return []cipher.AEAD{aead}, err
	}
	keys, err := h.Store.TokenKeys(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]cipher.AEAD, 0, len(keys))
	for _, k := range slices.Backward(keys) {
		aead, err := sealer(k.Secret, id, use+" to "+caller(r.Context()).ID)
		if err != nil {
			return nil, err
		}
		list = append(list, aead)
	}
	if len(list) == 0 {
		return nil, errors.New("api: the store has no token key: the TAM makes one when it starts")
	}
	return list, nil
}

func sealer(secret, id []byte, use string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, id, use, 32)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (h *handler) seal(r *http.Request, id []byte, answer remembered) ([]byte, error) {
	data, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	list, err := h.sealers(r, id)
	if err != nil {
		return nil, err
	}
	return list[0].Seal(nil, nil, data, id), nil
}

func (h *handler) unseal(r *http.Request, found *tam.RequestRecord) (*remembered, error) {
	list, err := h.sealers(r, found.ID)
	if err != nil {
		return nil, err
	}
	for _, aead := range list {
		data, err := aead.Open(nil, nil, found.Answer, found.ID)
		if err != nil {
			continue
		}
		answer := new(remembered)
		if err := json.Unmarshal(data, answer); err != nil {
			return nil, fmt.Errorf("api: remembered answer: %w", err)
		}
		return answer, nil
	}
	return nil, errors.New("api: remembered answer: no key opens it")
}

// NewIdempotencyKey makes a key for one request and its repetitions.
func NewIdempotencyKey() string { return rand.Text() }
