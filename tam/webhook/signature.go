package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
)

// The headers of Standard Webhooks.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// secretPrefix makes secrets recognizable to people and to scanners for leaked secrets.
const secretPrefix = "whsec_"

// tolerance is how far the clocks of sender and receiver may differ, and how long a message may be replayed
// unnoticed by a receiver that keeps no IDs.
const tolerance = 5 * time.Minute

// ErrSignature says that a message is not from the TAM, or too old.
var ErrSignature = errors.New("webhook: the signature does not hold")

// Event is an event as it is posted.
type Event struct {
	// Position is the event's place in the feed of the TAM, by which one that arrives twice is known.
	Position int64 `json:"position"`
	// Device is the ID of the device that it is about, Rollout the name of the rollout: one of them is there.
	Device  string        `json:"device,omitempty"`
	Rollout string        `json:"rollout,omitempty"`
	At      time.Time     `json:"at"`
	Kind    tam.EventKind `json:"kind"`
	Detail  string        `json:"detail"`
}

// NewEvent makes what is posted of an event.
func NewEvent(e tam.FeedEvent) Event {
	return Event{e.Position, e.DeviceID, e.Rollout, e.At.UTC(), e.Kind, e.Detail}
}

// message is the body of a request.
type message struct {
	Events []Event `json:"events"`
}

// FormatSecret writes a secret for its receiver.
func FormatSecret(secret []byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

func sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Verify checks that a TAM sent a request's body now, and returns its events. secret is what the TAM showed
// when the webhook was made.
func Verify(secret string, header http.Header, body []byte, now time.Time) ([]Event, error) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) == 0 {
		return nil, errors.New("webhook: the secret is not one: it begins with " + secretPrefix)
	}
	seconds, err := strconv.ParseInt(header.Get(headerTimestamp), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no timestamp", ErrSignature)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return nil, fmt.Errorf("%w: it was made %v ago", ErrSignature, age.Round(time.Second))
	}
	want := []byte(sign(key, header.Get(headerID), header.Get(headerTimestamp), body))
	for s := range strings.FieldsSeq(header.Get(headerSignature)) {
		if hmac.Equal([]byte(s), want) {
			var m message
			err := json.Unmarshal(body, &m)
			return m.Events, err
		}
	}
	return nil, ErrSignature
}
