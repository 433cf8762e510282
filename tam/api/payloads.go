package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
)

const (
	// payloadMediaType is that of payloads, whose bytes mean nothing to the TAM.
	payloadMediaType = "application/octet-stream"
	// contentDigest is the header that says what a body should be (RFC 9530).
	contentDigest = "Content-Digest"
	// uploadStall ends an upload that brings nothing for so long.
	uploadStall = time.Minute
	// defaultMaxPayload is 1 GiB.
	defaultMaxPayload = 1 << 30
)

// StoredPayload says where an uploaded payload is.
type StoredPayload struct {
	// SHA256 is that of its bytes, in hexadecimal, and its name.
	SHA256 string `json:"sha256"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// URI is where devices fetch it, and what manifests name.
	URI string `json:"uri"`
}

// PayloadList is a page of payloads, by their names.
type PayloadList struct {
	Items []ListedPayload `json:"items"`
	// Next is the value of after for the next page; absent on the last one.
	Next string `json:"next,omitempty"`
	// Used is how many bytes all payloads take, Limit how many they may take; 0: as many as there is space for.
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

// ListedPayload is a payload that is stored.
type ListedPayload struct {
	SHA256 string    `json:"sha256"`
	Size   int64     `json:"size"`
	URI    string    `json:"uri"`
	Stored time.Time `json:"stored"`
	// Needed says that a version names it that is not withdrawn. Others go after a while.
	Needed bool `json:"needed"`
}

func (h *handler) listPayloads(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list := PayloadList{Items: []ListedPayload{}}
	if h.Payloads == nil {
		return writeJSON(w, http.StatusOK, list)
	}
	if q, ok := h.Payloads.(*tam.PayloadQuota); ok {
		if _, list.Limit, err = q.Used(r.Context()); err != nil {
			return err
		}
	}
	err = h.Payloads.Each(r.Context(), func(p tam.StoredPayload) error {
		list.Used += p.Size
		if name := hex.EncodeToString(p.Digest[:]); name > after {
			list.Items = append(list.Items, ListedPayload{SHA256: name, Size: p.Size, URI: h.payloadAt(name), Stored: p.Stored.UTC()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list.Items, func(a, b ListedPayload) int { return strings.Compare(a.SHA256, b.SHA256) })
	if len(list.Items) > limit {
		list.Items, list.Next = list.Items[:limit], list.Items[limit-1].SHA256
	}
	needed, err := h.TAM.PayloadsInUse(r.Context())
	if err != nil {
		return err
	}
	for i := range list.Items {
		digest, _ := tam.ParsePayloadName(list.Items[i].SHA256)
		list.Items[i].Needed = needed[digest]
	}
	return writeJSON(w, http.StatusOK, list)
}

func (h *handler) payloadAt(name string) string {
	return strings.TrimSuffix(h.PayloadURI, "/") + "/" + name
}

// uploadPayload streams a payload into the store. It needs no idempotency key: the same bytes again are the
// same payload.
func (h *handler) uploadPayload(w http.ResponseWriter, r *http.Request) error {
	if h.Payloads == nil {
		return &Problem{Status: http.StatusNotImplemented, Code: "no-payloads", Detail: "This TAM serves no payloads.",
			Next: "Set payloads.path in tam.yaml, or put the payload on a web server of your own."}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != payloadMediaType {
		return &Problem{Status: http.StatusUnsupportedMediaType, Code: "media-type",
			Detail: "The request body is not " + payloadMediaType + ".", Next: "Set Content-Type: " + payloadMediaType + "."}
	}
	if r.ContentLength > h.MaxPayload {
		return &http.MaxBytesError{Limit: h.MaxPayload}
	}
	expected, err := parseContentDigest(r.Header.Values(contentDigest))
	if err != nil {
		return err
	}
	body := &upload{body: r.Body, control: http.NewResponseController(w), hash: sha256.New(), expected: expected}
	digest, size, err := h.Payloads.Put(r.Context(), body)
	if body.failure != nil {
		return body.failure
	}
	if err != nil {
		return err
	}
	name := hex.EncodeToString(digest[:])
	h.log(r, "payload uploaded", "sha256", name, "size", size)
	return writeJSON(w, http.StatusCreated, StoredPayload{name, size, h.payloadAt(name)})
}

// upload reads a request body, and refuses at its end what is not as it should be, so that it is not stored.
type upload struct {
	body     io.Reader
	control  *http.ResponseController
	hash     hash.Hash
	expected []byte
	size     int64
	// failure is what was wrong with the request, rather than with the store.
	failure error
}

func (u *upload) Read(p []byte) (int, error) {
	if err := u.deadline(time.Now().Add(uploadStall)); err != nil {
		return 0, err
	}
	n, err := u.body.Read(p)
	u.hash.Write(p[:n])
	u.size += int64(n)
	if err == nil {
		return n, nil
	}
	if u.failure = u.end(err); u.failure != nil {
		return n, u.failure
	}
	// Storing may take longer than a body may stall.
	if err := u.deadline(time.Time{}); err != nil {
		return n, err
	}
	return n, err
}

func (u *upload) deadline(t time.Time) error {
	// Only requests that are made in this process have no deadlines.
	if err := u.control.SetReadDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("api: %w", err)
	}
	return nil
}

// end judges what is whole, or why it is not.
func (u *upload) end(err error) error {
	tooLarge := (*http.MaxBytesError)(nil)
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Problem{Status: http.StatusRequestTimeout, Code: "stalled", Detail: "The request body stopped coming.", Next: "Send it again."}
	case !errors.Is(err, io.EOF):
		return badRequest("body", "The request body broke off.", "Send it again.")
	case u.size == 0:
		return badRequest("empty", "The payload is empty.", "Send the payload as the request body.")
	case u.expected != nil && !bytes.Equal(u.hash.Sum(nil), u.expected):
		return badRequest("content-digest", "The request body does not match its "+contentDigest+".", "Send it again.")
	}
	return nil
}

// parseContentDigest finds the SHA-256 in a dictionary of digests; nil when there is none.
func parseContentDigest(values []string) ([]byte, error) {
	for entry := range strings.SplitSeq(strings.Join(values, ","), ",") {
		encoded, ok := strings.CutPrefix(strings.TrimSpace(entry), "sha-256=")
		if !ok {
			continue // of another algorithm
		}
		inner, begins := strings.CutPrefix(encoded, ":")
		inner, ends := strings.CutSuffix(inner, ":")
		sum, err := base64.StdEncoding.DecodeString(inner)
		if !begins || !ends || err != nil || len(sum) != sha256.Size {
			return nil, badRequest("content-digest", contentDigest+" is not as RFC 9530 has it.", "Write sha-256=:BASE64:, or leave it out.")
		}
		return sum, nil
	}
	return nil, nil
}
