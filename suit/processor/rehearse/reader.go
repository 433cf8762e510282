package rehearse

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// maxSource bounds a description in bytes; contents are files beside it.
const maxSource = 1 << 20

// Error is a fault of a description.
type Error struct {
	// Name is the description's, Line and Column count from 1.
	Name         string
	Line, Column int
	Err          error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", e.name(), e.Line, e.Column, e.Err)
}

func (e *Error) name() string {
	if e.Name == "" {
		return "description"
	}
	return e.Name
}

// Unwrap returns the fault without its position.
func (e *Error) Unwrap() error { return e.Err }

// reader walks the YAML tree. It keeps the first error, so that the walk reads like the format;
// after one, what it returns does not count.
type reader struct {
	o   Options
	err error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Name: r.o.Name, Line: n.Line, Column: n.Column, Err: fmt.Errorf(format, args...)}
	}
}

func (r *reader) document(source []byte) *yaml.Node {
	first := &yaml.Node{Line: 1, Column: 1}
	if len(source) > maxSource {
		r.fail(first, "the description has %d bytes, at most %d are accepted", len(source), maxSource)
		return nil
	}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(source))
	err := decoder.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		r.fail(first, "the description is empty: write at least vendor, class and components")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.fail(first, "something follows the first YAML document: keep one document in the file")
	}
	r.refuseAliases(doc.Content[0])
	return doc.Content[0]
}

// syntax takes the line out of the text of a YAML error, which is the only place that has it.
func (r *reader) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if after, ok := strings.CutPrefix(text, "line "); ok {
		number, rest, _ := strings.Cut(after, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, rest
		}
	}
	r.fail(&yaml.Node{Line: line, Column: 1}, "not valid YAML: %s", text)
}

func (r *reader) refuseAliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.fail(n, "anchors and aliases are not supported: write the value out")
		return
	}
	for _, c := range n.Content {
		r.refuseAliases(c)
	}
}

type pair struct{ key, value *yaml.Node }

// pairs returns the pairs of a mapping in order, after refusing duplicates; an absent one is empty.
func (r *reader) pairs(n *yaml.Node, what string) []pair {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping such as {key: value}, not %s", what, shown(n))
		return nil
	}
	var list []pair
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || seen[key.Value] {
			r.fail(key, "%s is given twice in %s, or is no plain word", shown(key), what)
		}
		seen[key.Value] = true
		list = append(list, pair{key, n.Content[i+1]})
	}
	return list
}

// fields returns the values of a mapping that may have only the given keys.
func (r *reader) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	m := map[string]*yaml.Node{}
	for _, p := range r.pairs(n, what) {
		if !slices.Contains(known, p.key.Value) {
			r.fail(p.key, "%q is not known in %s: possible are %s", p.key.Value, what, strings.Join(known, ", "))
		}
		m[p.key.Value] = p.value
	}
	return m
}

// choice reads a mapping of exactly one of the given keys.
func (r *reader) choice(n *yaml.Node, what string, known ...string) (string, *yaml.Node) {
	m := r.fields(n, what, known...)
	if len(m) != 1 {
		r.fail(n, "%s needs exactly one of %s, as in {%s: …}", what, strings.Join(known, ", "), known[0])
	}
	for form, value := range m {
		return form, value
	}
	return "", n
}

// items returns the entries of a list; an absent list is empty.
func (r *reader) items(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s must be a list such as [a, b], not %s", what, shown(n))
		return nil
	}
	return n.Content
}

func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
		r.fail(n, "%s must be text, not %s: put it into quotes", what, shown(n))
		return ""
	}
	return n.Value
}

func (r *reader) unsigned(n *yaml.Node, what string) uint64 {
	v, err := strconv.ParseUint(n.Value, 0, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
		r.fail(n, "%s must be a number that is not negative, not %s", what, shown(n))
	}
	return v
}

func (r *reader) boolean(n *yaml.Node, what string) bool {
	if n == nil {
		return false
	}
	var b bool
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(&b) != nil {
		r.fail(n, "%s must be true or false, not %s", what, shown(n))
	}
	return b
}

func (r *reader) uuid(n *yaml.Node) suit.UUID {
	u, err := suit.ParseUUID(r.text(n, "uuid"))
	if err == nil && u.IsZero() {
		err = errors.New("a UUID of zeros matches nothing")
	}
	if err != nil {
		r.fail(n, "%w", err)
	}
	return u
}

// bytes reads text, or one of {text: …}, {hex: …}, {file: …} and {uuid: …}.
func (r *reader) bytes(n *yaml.Node, what string) []byte {
	if n.Kind == yaml.ScalarNode {
		return []byte(r.text(n, what))
	}
	form, value := r.choice(n, what, "text", "hex", "file", "uuid")
	switch form {
	case "hex":
		// Digits alone look like a number to YAML; the scalar's text is what was written.
		b, err := hex.DecodeString(strings.Join(strings.Fields(value.Value), ""))
		if value.Kind != yaml.ScalarNode || err != nil {
			r.fail(value, "%s must be hexadecimal digits, two for each byte, not %s", what, shown(value))
		}
		return b
	case "file":
		return r.file(value)
	case "uuid":
		u := r.uuid(value)
		return u[:]
	}
	return []byte(r.text(value, what))
}

// componentID reads a list of segments, or the form in which identifiers are printed.
func (r *reader) componentID(n, parent *yaml.Node, what string) suit.ComponentID {
	switch {
	case n == nil:
		r.fail(parent, "%s is missing: write it as a list of segments such as [hello, manifest]", what)
		return nil
	case n.Kind == yaml.ScalarNode:
		id, err := suit.ParseComponentID(r.text(n, what))
		if err != nil {
			r.fail(n, "%w", err)
		}
		return id
	}
	id := suit.ComponentID{}
	for _, segment := range r.items(n, what) {
		id = append(id, r.bytes(segment, "segment of "+what))
	}
	if len(id) == 0 {
		r.fail(n, "%s is empty: it needs at least one segment", what)
	}
	return id
}

// prefixes reads component identifiers, where "*", in the list or in its place, stands for all.
func (r *reader) prefixes(n *yaml.Node, what string) []suit.ComponentID {
	if n != nil && n.Kind == yaml.ScalarNode && n.Value == "*" {
		return []suit.ComponentID{{}}
	}
	var list []suit.ComponentID
	for _, item := range r.items(n, what) {
		if item.Kind == yaml.ScalarNode && item.Value == "*" {
			list = append(list, suit.ComponentID{})
			continue
		}
		list = append(list, r.componentID(item, n, "prefix"))
	}
	return list
}

// named finds the number that has the name; a number stands for itself.
func (r *reader) named(n *yaml.Node, what string, name func(int64) string) int64 {
	if v, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
		return v
	}
	const registered = 64
	for v := int64(1); v < registered; v++ {
		plain := strings.TrimPrefix(strings.TrimPrefix(name(v), "condition-"), "directive-")
		if n.Value != "" && (n.Value == name(v) || n.Value == plain) {
			return v
		}
	}
	r.fail(n, "%s %s is not known: write its name, such as image-match or uri, or its number", what, shown(n))
	return 0
}

func (r *reader) file(n *yaml.Node) []byte {
	name := r.text(n, "the name of a file")
	if r.err != nil {
		return nil
	}
	if r.o.ReadFile == nil {
		r.fail(n, "cannot read file %q: files cannot be read here", name)
		return nil
	}
	data, err := r.o.ReadFile(name)
	if err != nil {
		r.fail(n, "cannot read file %q: %w", name, err)
	}
	return data
}

// key reads a key file, PEM or COSE_Key; nil after an error.
func (r *reader) key(n *yaml.Node) *cose.Key {
	data := r.file(n)
	if r.err != nil {
		return nil
	}
	key, err := cose.ParsePEM(data)
	if err == nil {
		return key
	}
	key, second := cose.ParseKey(data)
	if second != nil {
		r.fail(n, "%q is neither a PEM file (%w) nor a COSE_Key (%w)", n.Value, err, second)
		return nil
	}
	return key
}

func shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Value == "":
		return "nothing"
	}
	return strconv.Quote(n.Value)
}
