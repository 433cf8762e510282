package challengeresponse

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SessionType is the media type of sessions.
const SessionType = "application/vnd.veraison.challenge-response-session+json"

// TokenType is the media type of results that come without one: JSON Web Tokens.
const TokenType = "application/eat+jwt"

// prefix is where the API begins below the endpoint.
const prefix = "challenge-response/v1"

// Statuses of a session.
const (
	statusWaiting    = "waiting"
	statusProcessing = "processing"
	statusComplete   = "complete"
	statusFailed     = "failed"
)

// Sizes of a nonce in bytes (RFC 9711 §4.1).
const (
	minNonce = 8
	maxNonce = 64
)

// Errors of both ends.
var (
	// ErrUnusable says that the verifier gave no usable answer, which says nothing about the device: ask
	// again later.
	ErrUnusable = errors.New("challenge-response: no usable answer of the verifier")
	// ErrFailed says that the verifier gives no result for this Evidence.
	ErrFailed = errors.New("challenge-response: the verifier says that the appraisal failed")
)

// session is the state of a challenge-response session.
type session struct {
	Nonce  []byte     `json:"nonce"`
	Expiry *time.Time `json:"expiry,omitempty"`
	Accept []string   `json:"accept,omitempty"`
	Status string     `json:"status"`
	Result string     `json:"result,omitempty"`
	// ResultType is the media type of a result that is base64url; without it, the result is a JSON
	// Web Token as it stands.
	ResultType string `json:"result-type,omitempty"`
}

// Result is an Attestation Result: what the verifier signed, under its media type.
type Result struct {
	MediaType string
	Data      []byte
}

func (s *session) setResult(r Result) {
	s.Status, s.ResultType, s.Result = statusComplete, r.MediaType, base64.RawURLEncoding.EncodeToString(r.Data)
}

func (s *session) result() (Result, error) {
	if s.ResultType == "" {
		return Result{MediaType: TokenType, Data: []byte(s.Result)}, nil
	}
	data, err := decode(s.Result)
	if err != nil {
		return Result{}, fmt.Errorf("%w: the result is said to be %.100q and is not in base64url", ErrUnusable, s.ResultType)
	}
	return Result{MediaType: s.ResultType, Data: data}, nil
}

// decode reads base64 in either alphabet, padded or not: services differ.
func decode(text string) ([]byte, error) {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	return base64.RawURLEncoding.DecodeString(text)
}
