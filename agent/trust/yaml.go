package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
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

// ReadFile returns the content of a file that a set names for a key. The caller decides what the
// name is relative to; this package does no I/O.
type ReadFile func(name string) ([]byte, error)

// ParseYAML reads a set that is written by hand. Unknown and doubled keys are errors; every error
// names the line and what to write there. read may be nil: then keys must be PEM in place.
func ParseYAML(data []byte, read ReadFile) (*Set, error) {
	if len(data) > MaxSize {
		return nil, invalid("%d bytes exceed the limit of %d", len(data), MaxSize)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, invalid("the file is empty: write version, tams and signers")
	} else if err != nil {
		return nil, invalid("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, invalid("something follows the first YAML document: keep one document in the file")
	}
	r := reader{read: read}
	set := r.set(doc.Content[0])
	if r.err != nil {
		return nil, r.err
	}
	if err := set.Check(); err != nil {
		return nil, err
	}
	return set, nil
}

// reader walks the YAML tree. It keeps the first error, so that the walk reads like the format.
type reader struct {
	read ReadFile
	err  error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: line %d: %s", ErrInvalid, n.Line, fmt.Sprintf(format, args...))
	}
}

// fields returns the values of a mapping whose keys are all among allowed.
func (r *reader) fields(n *yaml.Node, allowed ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "expected %s with a value each", strings.Join(allowed, ", "))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case !slices.Contains(allowed, key.Value):
			r.fail(key, "unknown key %q: write one of %s", key.Value, strings.Join(allowed, ", "))
		case values[key.Value] != nil:
			r.fail(key, "key %q is there twice: keep one", key.Value)
		}
		values[key.Value] = n.Content[i+1]
	}
	return values
}

// items returns the entries of a list; an absent list is empty.
func (r *reader) items(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "expected a list of %s: begin each with \"- \", or write [a, b]", what)
		return nil
	}
	return n.Content
}

func (r *reader) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.fail(n, "expected %s as text", what)
		return ""
	}
	return n.Value
}

func (r *reader) boolean(n *yaml.Node, what string) bool {
	if n == nil {
		return false
	}
	var b bool
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(&b) != nil {
		r.fail(n, "%s is %q: write true or false", what, n.Value)
	}
	return b
}

func (r *reader) set(n *yaml.Node) *Set {
	f := r.fields(n, "version", "administrator", "tams", "signers", "verifiers")
	s := &Set{}
	if v := f["version"]; v != nil {
		version, err := strconv.ParseUint(v.Value, 10, 64)
		if err != nil || v.Kind != yaml.ScalarNode {
			r.fail(v, "version is %q: write a whole number from 1", v.Value)
		}
		s.Version = version
	}
	if a := f["administrator"]; a != nil {
		s.Administrator = r.key(a)
	}
	for _, item := range r.items(f["tams"], "TAMs") {
		s.TAMs = append(s.TAMs, r.tam(item))
	}
	for _, item := range r.items(f["signers"], "signers") {
		s.Signers = append(s.Signers, r.signer(item))
	}
	for _, item := range r.items(f["verifiers"], "verifiers") {
		v := r.fields(item, "name", "keys")
		s.Verifiers = append(s.Verifiers, Verifier{Name: r.text(v["name"], "a name"), Keys: r.keys(v["keys"])})
	}
	return s
}

func (r *reader) tam(n *yaml.Node) TAM {
	f := r.fields(n, "name", "uris", "keys", "certificate-authority", "certificate-subject", "encryption-key",
		"must-attest", "components")
	t := TAM{
		Name:       r.text(f["name"], "a name"),
		Keys:       r.keys(f["keys"]),
		Subject:    r.text(f["certificate-subject"], "a DNS name"),
		MustAttest: r.boolean(f["must-attest"], "must-attest"),
		Components: r.components(f["components"]),
	}
	for _, u := range r.items(f["uris"], "URIs") {
		t.URIs = append(t.URIs, r.text(u, "a URI"))
	}
	if c := f["certificate-authority"]; c != nil {
		t.Authority = r.certificate(c)
	}
	if k := f["encryption-key"]; k != nil {
		t.Encryption = r.key(k)
	}
	return t
}

func (r *reader) signer(n *yaml.Node) Signer {
	f := r.fields(n, "name", "keys", "certificate-authorities", "components", "commands", "parameters")
	s := Signer{Name: r.text(f["name"], "a name"), Keys: r.keys(f["keys"]), Components: r.components(f["components"])}
	for _, c := range r.items(f["certificate-authorities"], "certificates") {
		if cert := r.certificate(c); cert != nil {
			s.Authorities = append(s.Authorities, cert)
		}
	}
	for _, c := range r.items(f["commands"], "commands") {
		code, ok := byName(r.text(c, "a command"), func(i int64) string { return suit.CommandCode(i).String() })
		if !ok {
			r.fail(c, "unknown command %q: write the name of a SUIT condition or directive, such as fetch, or its number", c.Value)
		}
		s.Commands = append(s.Commands, suit.CommandCode(code))
	}
	for _, p := range r.items(f["parameters"], "parameters") {
		label, ok := byName(r.text(p, "a parameter"), func(i int64) string { return suit.ParameterLabel(i).String() })
		if !ok {
			r.fail(p, "unknown parameter %q: write the name of a SUIT parameter, such as uri, or its number", p.Value)
		}
		s.Parameters = append(s.Parameters, suit.ParameterLabel(label))
	}
	return s
}

// byName finds the number that has the name; a number stands for itself.
func byName(text string, name func(int64) string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	const registered = 64
	for n := int64(1); n < registered; n++ {
		plain := strings.TrimPrefix(strings.TrimPrefix(name(n), "condition-"), "directive-")
		if text != "" && (text == name(n) || text == plain) {
			return n, true
		}
	}
	return 0, false
}

func (r *reader) components(n *yaml.Node) []suit.ComponentID {
	var prefixes []suit.ComponentID
	for _, item := range r.items(n, "component identifiers") {
		text := r.text(item, "a component identifier")
		if text == "*" {
			prefixes = append(prefixes, suit.ComponentID{})
			continue
		}
		id, err := suit.ParseComponentID(text)
		if err != nil {
			r.fail(item, "component identifier %q: %v", text, err)
		}
		prefixes = append(prefixes, id)
	}
	return prefixes
}

func (r *reader) keys(n *yaml.Node) []*cose.Key {
	var keys []*cose.Key
	for _, item := range r.items(n, "public keys") {
		keys = append(keys, r.key(item))
	}
	return keys
}

// pem returns a PEM block that stands in place, or the content of the file that is named.
func (r *reader) pem(n *yaml.Node, what string) []byte {
	text := r.text(n, what)
	switch {
	case text == "":
		r.fail(n, "expected %s: write the name of a PEM file, or the PEM block itself after \"|\"", what)
		return nil
	case strings.Contains(text, "-----BEGIN "):
		return []byte(text)
	case r.read == nil:
		r.fail(n, "%s is named as file %q, and files are not read here: write the PEM block itself after \"|\"", what, text)
		return nil
	}
	data, err := r.read(text)
	if err != nil {
		r.fail(n, "%s: %v", what, err)
	}
	return data
}

func (r *reader) key(n *yaml.Node) *cose.Key {
	data := r.pem(n, "a public key")
	if data == nil {
		return nil
	}
	k, err := cose.ParsePEM(data)
	if err != nil {
		r.fail(n, "public key: %v", err)
		return nil
	}
	return k
}

func (r *reader) certificate(n *yaml.Node) *x509.Certificate {
	data := r.pem(n, "a certificate")
	if data == nil {
		return nil
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		r.fail(n, "expected exactly one PEM block of type CERTIFICATE")
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		r.fail(n, "certificate: %v", err)
		return nil
	}
	return cert
}
