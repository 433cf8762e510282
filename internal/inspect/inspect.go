package inspect

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-teep/teep/cose"
)

// MaxInput is the largest input in bytes.
const MaxInput = 256 << 20

// Options say what [Inspect] has to work with. The zero value checks no signature and opens
// nothing that is encrypted.
type Options struct {
	// Keys may have signed or MACed what is inspected: public keys and symmetric keys. The
	// private part of a key is not used.
	Keys []*cose.Key
	// DecryptKeys open what is encrypted: private ECDH keys, key-encryption keys, content keys.
	DecryptKeys []*cose.Key
	// Now is the time that validity is judged by; zero leaves expiry unjudged.
	Now time.Time
	// FullBytes shows byte strings whole, however long.
	FullBytes bool
}

// SchemaVersion is the version of [Report] in JSON. Members are added without a change of it;
// none goes away or changes its meaning.
const SchemaVersion = 1

// Report is what [Inspect] found. Its JSON form is stable.
type Report struct {
	Schema int `json:"schema"`
	// Encoding is what the input was: binary, hex, base64, base64url, diagnostic or pem.
	Encoding Encoding `json:"encoding"`
	// Bytes is the size of the decoded input.
	Bytes int `json:"bytes"`
	// Kind and Summary are those of the outermost structure.
	Kind    Kind   `json:"kind"`
	Summary string `json:"summary"`
	// Notation is annotated diagnostic notation, empty for what is not CBOR.
	Notation string `json:"notation,omitempty"`
	// Parts are the structures found, the outermost one first.
	Parts []Part `json:"parts"`
	// Signatures are the signatures and MACs found.
	Signatures []Signature `json:"signatures"`
	// Findings are in the order of the data.
	Findings []Finding `json:"findings"`
}

// Part is one structure inside the input.
type Part struct {
	// Path leads from the input to the structure; empty for the input itself.
	Path    string `json:"path"`
	Kind    Kind   `json:"kind"`
	Summary string `json:"summary"`
	Bytes   int    `json:"bytes"`
	// Decrypted tells that the structure was encrypted and opened with a key from Options; its
	// notation is here because that of the input shows the ciphertext.
	Decrypted bool   `json:"decrypted,omitempty"`
	Notation  string `json:"notation,omitempty"`
}

// Severity ranks findings.
type Severity string

const (
	// SeverityError is for what a receiver refuses, or must not be trusted.
	SeverityError Severity = "error"
	// SeverityWarning is for what a receiver accepts although the sender should not have sent it.
	SeverityWarning Severity = "warning"
	// SeverityNote is for what is good to know.
	SeverityNote Severity = "note"
)

// Finding is one thing to know about the input.
type Finding struct {
	Severity Severity `json:"severity"`
	// Section names the text and section that it follows from, such as "TEEP §4.2".
	Section string `json:"section,omitempty"`
	Path    string `json:"path"`
	Problem string `json:"problem"`
}

// String is the finding in one line.
func (f Finding) String() string {
	s := string(f.Severity) + ": "
	if f.Section != "" {
		s += f.Section + ": "
	}
	s += f.Problem
	if f.Path != "" {
		s += " (at " + f.Path + ")"
	}
	return s
}

// Failed tells whether a finding is an error.
func (r *Report) Failed() bool {
	for _, f := range r.Findings {
		if f.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Inspect tells what data is and what is wrong with it. Whatever data is, there is a report about
// it; the error is for options that cannot be used, and for input over [MaxInput].
func Inspect(data []byte, o Options) (*Report, error) {
	if len(data) > MaxInput {
		return nil, fmt.Errorf("input of %d bytes; at most %d are read", len(data), MaxInput)
	}
	n, err := newInspector(o)
	if err != nil {
		return nil, err
	}
	in := readInput(data)
	r := n.report
	r.Encoding, r.Bytes = in.encoding, len(in.data)
	r.Findings = append(r.Findings, in.findings...)
	if in.key != nil {
		n.keyFromPEM(in.key)
		return r, nil
	}
	if in.data == nil {
		r.Kind, r.Summary = KindUnreadable, KindUnreadable.Title()
		return r, nil
	}
	n.top(in.data)
	return r, nil
}

// top inspects the outermost structure.
func (n *inspector) top(data []byte) {
	r := n.report
	it, err := parse(data)
	var after *trailing
	if errors.As(err, &after) {
		n.trailing(after, data)
		data, err = data[:after.offset], nil
	}
	if err != nil {
		n.unreadable(err, data, "")
		r.Kind, r.Summary = KindUnreadable, KindUnreadable.Title()
		return
	}
	n.structure(data, "", expectation{top: true})
	r.Kind, r.Summary = kindOf(&it), ""
	if len(r.Parts) > 0 {
		r.Kind, r.Summary = r.Parts[0].Kind, r.Parts[0].Summary
	}
	if r.Notation = n.notation(data); r.Notation == "" {
		n.note("", "", "nested too deeply, or of too many items, to be shown")
	}
}

func (n *inspector) notation(data []byte) string {
	limit := defaultMaxBytes
	if n.o.FullBytes {
		limit = 0
	}
	text, err := notation(data, limit)
	if err != nil {
		return ""
	}
	return text
}

func (n *inspector) trailing(t *trailing, data []byte) {
	problem := t.Error()
	if next, err := parse(data[t.offset:]); err == nil || next.raw != nil {
		problem += "; they begin with another " + kindOf(&next).Title() + ": inspect it by itself"
	}
	n.add(SeverityError, "RFC 8949 §5.3.1", "", "%s", problem)
}

// unreadable says where data stops being CBOR.
func (n *inspector) unreadable(err error, data []byte, path string) {
	var f *flaw
	problem := err.Error()
	if errors.As(err, &f) && f.missing {
		problem = fmt.Sprintf("truncated: %v (%d bytes in all)", err, len(data))
	}
	n.add(SeverityError, "RFC 8949 §5.3.1", path, "not well-formed CBOR: %s", problem)
}
