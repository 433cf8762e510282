package describe

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSource bounds a description; templates make large manifests from small ones.
const maxSource = 1 << 20

// document parses the YAML and returns its one top-level mapping.
func (b *builder) document(source []byte) (*yaml.Node, error) {
	if len(source) > maxSource {
		return nil, &Error{Name: b.o.Name, Line: 1, Column: 1,
			Err: fmt.Errorf("description has %d bytes, at most %d are accepted", len(source), maxSource)}
	}
	var doc yaml.Node
	d := yaml.NewDecoder(strings.NewReader(string(source)))
	if err := d.Decode(&doc); err != nil {
		return nil, b.syntaxError(err)
	}
	var more yaml.Node
	if d.Decode(&more) == nil {
		return nil, b.errorf(&more, "only one document is possible: write one file for each manifest")
	}
	root := doc.Content[0]
	if err := b.refuseAliases(root); err != nil {
		return nil, err
	}
	return root, nil
}

// syntaxError takes the line out of the text of a YAML error, which is the only place that has it.
func (b *builder) syntaxError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if after, ok := strings.CutPrefix(text, "line "); ok {
		number, rest, _ := strings.Cut(after, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, rest
		}
	}
	if text == "EOF" {
		text = "description is empty: write at least sequence-number and components"
	}
	return &Error{Name: b.o.Name, Line: line, Column: 1, Err: fmt.Errorf("not valid YAML: %s", text)}
}

func (b *builder) refuseAliases(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return b.errorf(n, "anchors and aliases are not supported: write the value out")
	}
	for _, c := range n.Content {
		if err := b.refuseAliases(c); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) errorf(n *yaml.Node, format string, args ...any) error {
	return &Error{Name: b.o.Name, Line: n.Line, Column: n.Column, Err: fmt.Errorf(format, args...)}
}

// field is one pair of a mapping.
type field struct {
	key, value *yaml.Node
}

// fields returns the pairs of a mapping in order, after refusing duplicates.
func (b *builder) fields(n *yaml.Node, what string) ([]field, error) {
	if n.Kind != yaml.MappingNode {
		return nil, b.errorf(n, "%s must be a mapping such as {key: value}, not %s", what, kindOf(n))
	}
	list := make([]field, 0, len(n.Content)/2)
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			return nil, b.errorf(key, "keys of %s must be plain words", what)
		}
		if seen[key.Value] {
			return nil, b.errorf(key, "%q is given twice in %s", key.Value, what)
		}
		seen[key.Value] = true
		list = append(list, field{key, n.Content[i+1]})
	}
	return list, nil
}

// mapping returns the values of a mapping that may have only the given keys.
func (b *builder) mapping(n *yaml.Node, what string, known ...string) (map[string]*yaml.Node, error) {
	list, err := b.fields(n, what)
	if err != nil {
		return nil, err
	}
	m := make(map[string]*yaml.Node, len(list))
	for _, f := range list {
		if !slices.Contains(known, f.key.Value) {
			return nil, b.unknown(f.key, what, known)
		}
		m[f.key.Value] = f.value
	}
	return m, nil
}

func (b *builder) unknown(n *yaml.Node, what string, known []string) error {
	best, distance := "", 3
	for _, k := range known {
		if len(n.Value) > len(k)+distance {
			continue
		}
		if d := editDistance(n.Value, k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return b.errorf(n, "%q is not known in %s: did you mean %q?", n.Value, what, best)
	}
	return b.errorf(n, "%q is not known in %s: possible are %s", n.Value, what, strings.Join(known, ", "))
}

// editDistance is the Levenshtein distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!str":
		return "text"
	case "!!bool":
		return "true or false"
	case "!!int":
		return "a number"
	}
	return "a value of type " + strings.TrimPrefix(n.Tag, "!!")
}

// items returns the elements of a list that has at least one.
func (b *builder) items(n *yaml.Node, what string) ([]*yaml.Node, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, b.errorf(n, "%s must be a list such as [a, b], not %s", what, kindOf(n))
	}
	if len(n.Content) == 0 {
		return nil, b.errorf(n, "%s is empty: leave it out or give at least one element", what)
	}
	return n.Content, nil
}

func (b *builder) text(n *yaml.Node, what string) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return "", b.errorf(n, "%s must be text, not %s: put it into quotes", what, kindOf(n))
	}
	return n.Value, nil
}

func (b *builder) uint(n *yaml.Node, what string) (uint64, error) {
	v, err := strconv.ParseUint(n.Value, 0, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
		return 0, b.errorf(n, "%s must be a number that is not negative, not %s", what, valueOf(n))
	}
	return v, nil
}

func (b *builder) int(n *yaml.Node, what string) (int64, error) {
	v, err := strconv.ParseInt(n.Value, 0, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
		return 0, b.errorf(n, "%s must be a whole number, not %s", what, valueOf(n))
	}
	return v, nil
}

func (b *builder) bool(n *yaml.Node, what string) (bool, error) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		return false, b.errorf(n, "%s must be true or false, not %s", what, kindOf(n))
	}
	return strings.EqualFold(n.Value, "true"), nil
}

func valueOf(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Value != "" {
		return strconv.Quote(n.Value)
	}
	return kindOf(n)
}

// bytes reads text, {hex: …}, {uuid: …}, {text: …} or {file: …}.
func (b *builder) bytes(n *yaml.Node, what string) ([]byte, error) {
	if n.Kind == yaml.ScalarNode {
		s, err := b.text(n, what)
		return []byte(s), err
	}
	form, value, err := b.choice(n, what, bytesForms...)
	if err != nil {
		return nil, err
	}
	switch form {
	case "hex":
		return b.hex(value, what)
	case "uuid":
		u, err := b.uuid(value)
		return u[:], err
	case "file":
		return b.file(value)
	}
	s, err := b.text(value, what)
	return []byte(s), err
}

// choice reads a mapping of exactly one of the given keys.
func (b *builder) choice(n *yaml.Node, what string, known ...string) (string, *yaml.Node, error) {
	m, err := b.mapping(n, what, known...)
	if err != nil {
		return "", nil, err
	}
	if len(m) != 1 {
		return "", nil, b.errorf(n, "%s needs exactly one of %s", what, strings.Join(known, ", "))
	}
	for k, v := range m {
		return k, v, nil
	}
	return "", nil, nil
}

func (b *builder) hex(n *yaml.Node, what string) ([]byte, error) {
	// Digits alone look like a number to YAML; the scalar's text is what was written.
	if n.Kind != yaml.ScalarNode {
		return nil, b.errorf(n, "%s must be hexadecimal digits, not %s", what, kindOf(n))
	}
	v, err := hex.DecodeString(strings.Join(strings.Fields(n.Value), ""))
	if err != nil {
		return nil, b.errorf(n, "%s must be hexadecimal digits, two for each byte: %w", what, err)
	}
	return v, nil
}

func (b *builder) file(n *yaml.Node) ([]byte, error) {
	name, err := b.text(n, "file")
	if err != nil {
		return nil, err
	}
	data, err := b.o.readFile(name)
	if err != nil {
		return nil, b.errorf(n, "cannot read file %q: %w", name, err)
	}
	return data, nil
}
