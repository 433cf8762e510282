package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-teep/teep/tam"
)

// precondition is what a request says about the record that it is about (RFC 9110 §13).
type precondition struct {
	match, noneMatch string
}

func preconditionOf(r *http.Request) precondition {
	return precondition{
		strings.Join(r.Header.Values("If-Match"), ","), strings.Join(r.Header.Values("If-None-Match"), ","),
	}
}

// given tells whether there is any condition.
func (p precondition) given() bool { return p != precondition{} }

// holds tells whether a record with that entity tag ("" for none) may be changed.
func (p precondition) holds(etag string) bool {
	if p.match != "" && (etag == "" || !lists(p.match, etag)) {
		return false
	}
	return p.noneMatch == "" || etag == "" || !lists(p.noneMatch, etag)
}

// lists compares strongly: a weak entity tag lists nothing.
func lists(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag {
			return true
		}
	}
	return false
}

func deviceETag(d *tam.Device) string { return strconv.Quote(strconv.FormatInt(d.Revision, 10)) }

// policyETag is derived from the content: what looks the same is the same.
func policyETag(a *tam.Assignment) (string, error) {
	if a == nil {
		return "", nil
	}
	data, err := json.Marshal(viewPolicy(a))
	if err != nil {
		return "", fmt.Errorf("api: entity tag: %w", err)
	}
	sum := sha256.Sum256(data)
	return strconv.Quote(hex.EncodeToString(sum[:16])), nil
}

// unconditional refuses conditions on a route that does not look at them.
func unconditional(r *http.Request) error {
	if !preconditionOf(r).given() || r.Method == http.MethodGet {
		return nil
	}
	return badRequest("precondition", "This operation does not evaluate If-Match and If-None-Match.",
		"Leave them out: what it does is done once and for good, and repeating it changes nothing.")
}
