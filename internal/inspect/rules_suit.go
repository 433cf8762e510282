package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-teep/teep/suit"
)

// envelope inspects a SUIT envelope: its digest, its signatures, its manifest, and what it
// integrates.
func (n *inspector) envelope(it *item, data []byte, path string) string {
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		n.error("SUIT §8.2", path, "%s", strings.TrimPrefix(err.Error(), "suit: "))
		return ""
	}
	if !e.Digest.Matches(it.untag().value(int64(suit.LabelManifest)).raw) {
		n.error("SUIT §8.3", under(path, "authentication-wrapper"), "the digest is not that of the manifest: the manifest was changed after it was signed, or the digest is of something else")
	}
	n.authentication(it.untag(), e, path)
	m, err := e.UnverifiedManifest()
	n.deterministic(e.ManifestBytes, under(path, "manifest"), 0)
	if err != nil {
		n.parseError(err, under(path, "manifest"))
	}
	if m == nil {
		return ""
	}
	n.payloads(e, m, path)
	return manifestSummary("SUIT envelope", m)
}

// authentication checks every block over the digest beside it (SUIT §8.3).
func (n *inspector) authentication(envelope *item, e *suit.Envelope, path string) {
	if len(e.AuthBlocks) == 0 {
		n.warn("SUIT §8.3", path, "not signed: nobody accepts it until somebody signs it")
		return
	}
	wrapper, err := parse(envelope.value(int64(suit.LabelAuthentication)).content)
	if err != nil || len(wrapper.kids) == 0 {
		return // ParseEnvelope has read it
	}
	first := len(n.report.Signatures)
	for i, block := range e.AuthBlocks {
		at := under(path, "authentication-wrapper"+index(i+1))
		it, err := parse(block)
		if err != nil {
			n.unreadable(err, block, at)
			continue
		}
		kind := kindOf(&it)
		if !it.is(majorTag) {
			n.error("SUIT §8.3", at, "an authentication block is a tagged COSE structure")
		}
		if kind != KindSign1 && kind != KindSign && kind != KindMac0 && kind != KindMac {
			n.error("SUIT §8.3", at, "a %s is neither a signature nor a MAC", kind.Title())
			continue
		}
		n.tags(&it, at)
		n.signed(&it, kind, at, expectation{payload: wrapper.kids[0].content})
	}
	n.requireSigner(n.report.Signatures[first:], path)
}

// requireSigner asks for a given key to have signed the envelope. If the envelope is inside of
// something else, somebody else may have signed it.
func (n *inspector) requireSigner(signatures []Signature, path string) {
	if len(n.verifiers) == 0 {
		return
	}
	for _, s := range signatures {
		if s.Status == SignatureVerified || s.Status == SignatureInvalid {
			return
		}
	}
	if path == "" {
		n.error("SUIT §8.3", path, "none of the given keys signed the envelope")
	} else {
		n.warn("SUIT §8.3", path, "none of the given keys signed the envelope: give its signer's key to check it")
	}
}

// manifest inspects a bare manifest.
func (n *inspector) manifest(data []byte, path string) string {
	it, err := parse(data)
	if err == nil {
		data = it.untag().raw
	}
	n.deterministic(data, path, 0)
	m, err := suit.ParseManifest(data)
	if err != nil {
		n.parseError(err, path)
		return ""
	}
	return manifestSummary("SUIT manifest", m)
}

func manifestSummary(what string, m *suit.Manifest) string {
	s := fmt.Sprintf("%s, sequence number %d", what, m.SequenceNumber)
	if m.ComponentID != nil {
		s += fmt.Sprintf(", manifest %v", m.ComponentID)
	}
	if len(m.SetVersion) > 0 {
		s += fmt.Sprintf(", version %v", m.SetVersion)
	}
	if k := len(m.Common.Components); k == 1 {
		s += fmt.Sprintf(", component %v", m.Common.Components[0])
	} else if k > 1 {
		s += fmt.Sprintf(", %d components", k)
	}
	if k := len(m.Common.Dependencies); k > 0 {
		s += fmt.Sprintf(", %d dependencies", k)
	}
	return s
}

// parseError turns an error of package suit into a finding with the section that it is about.
func (n *inspector) parseError(err error, path string) {
	var pe *suit.ParseError
	if !errors.As(err, &pe) {
		n.error("SUIT §8.4", path, "%s", strings.TrimPrefix(err.Error(), "suit: "))
		return
	}
	section := "SUIT §8.4"
	switch pe.Reason {
	case suit.ReasonCommandUnsupported:
		section = "SUIT §8.4.6"
	case suit.ReasonParameterUnsupported:
		section = "SUIT §8.4.8"
	case suit.ReasonSeveringUnsupported:
		section = "SUIT §8.6"
	}
	if errors.Is(err, suit.ErrSeveredDigest) {
		section = "SUIT §8.4.12"
	}
	n.error(section, under(path, pe.Path), "%s", strings.TrimPrefix(pe.Err.Error(), "suit: "))
}

// deterministic reports maps out of order anywhere in a manifest (SUIT §8.1).
func (n *inspector) deterministic(data []byte, path string, depth int) {
	it, err := parse(data)
	if err != nil || depth > maxNesting {
		return
	}
	var f encodingFaults
	f.walk(&it)
	if f.unsorted > 0 {
		n.warn("SUIT §8.1", path, "map keys out of order: maps of a manifest have canonical order")
	}
	if f.indefinite > 0 || f.duplicate > 0 || f.longHeads > 0 {
		n.encoding(&it, path)
	}
	var open func(it *item)
	open = func(it *item) {
		if it.is(majorBytes) && len(it.content) > 1 && (it.content[0]>>5 == majorArray || it.content[0]>>5 == majorMap) {
			n.deterministic(it.content, path, depth+1)
		}
		for i := range it.kids {
			open(&it.kids[i])
		}
	}
	open(&it)
}

// suitReport inspects a SUIT report.
func (n *inspector) suitReport(data []byte, path string) string {
	r, err := suit.ParseReport(data)
	if err != nil {
		var pe *suit.ParseError
		if errors.As(err, &pe) {
			n.error("SUIT Report §4", under(path, pe.Path), "%v", pe.Err)
		} else {
			n.error("SUIT Report §4", path, "%s", strings.TrimPrefix(err.Error(), "suit: "))
		}
		return ""
	}
	if r.Failure != nil {
		return fmt.Sprintf("SUIT report of a failure: %v, %d records", r.Failure.Reason, len(r.Records))
	}
	return fmt.Sprintf("SUIT report of success, %d records", len(r.Records))
}

// payloads compares what the envelope integrates with what the manifest says of it, and opens
// integrated dependencies and what decrypts with the given keys.
func (n *inspector) payloads(e *suit.Envelope, m *suit.Manifest, path string) {
	for _, label := range e.Severed() {
		n.note("SUIT §8.6", under(path, label.String()), "severable, and present")
	}
	used := map[string]bool{}
	for _, label := range append([]suit.Label{suit.LabelCommon}, suit.SectionLabels()...) {
		section := m.Section(label)
		if section.Severed != nil && !section.Available() {
			n.note("SUIT §8.6", under(path, label.String()), "severed: it has to be obtained elsewhere, by digest %v", section.Severed)
		}
	}
	for _, p := range fetches(m) {
		if strings.HasPrefix(p.uri, "#") {
			if _, ok := e.Integrated[p.uri]; !ok {
				n.error("SUIT §5.4", under(path, "manifest"), "%q is fetched, and the envelope holds no integrated payload of that name", p.uri)
			}
		}
		if content, ok := e.Integrated[p.uri]; ok {
			used[p.uri] = true
			n.integrated(content, p, under(path, fmt.Sprintf("%q", p.uri)))
		}
		if p.content != nil && p.encryption != nil {
			n.encryptedPayload(p.content, p, under(path, "manifest"))
		}
	}
	names := make([]string, 0, len(e.Integrated))
	for name := range e.Integrated {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		at := under(path, fmt.Sprintf("%q", name))
		if !used[name] {
			n.note("SUIT §5.4", at, "no command of this manifest fetches it")
		}
		if it, err := parse(e.Integrated[name]); err == nil && kindOf(&it) == KindEnvelope {
			n.structure(e.Integrated[name], at, expectation{})
		}
	}
}

func (n *inspector) integrated(content []byte, p fetched, path string) {
	if p.encryption != nil {
		n.encryptedPayload(content, p, path)
		return
	}
	if p.size != nil && *p.size != uint64(len(content)) {
		n.error("SUIT §8.4.8.7", path, "%d bytes; image-size says %d", len(content), *p.size)
	}
	// The digest of a dependency is that of its manifest (trust domains §5.5.4).
	if dep, err := suit.ParseEnvelope(content); p.digest != nil && !p.digest.Matches(content) &&
		(err != nil || !dep.Digest.Equal(*p.digest)) {
		n.error("SUIT §8.4.8.6", path, "the digest is not image-digest: this is not the payload that was signed for")
	}
}

// encryptedPayload tells whether a given key opens a payload, and what comes out.
func (n *inspector) encryptedPayload(content []byte, p fetched, path string) {
	if len(n.decrypt) == 0 {
		return
	}
	if _, err := suit.RecoverPayloadKey(p.encryption, n.decrypt); err != nil {
		n.note("SUIT encryption §5", path, "the payload is encrypted, and no given decryption key opens it: %v", err)
		return
	}
	r, err := suit.DecryptPayload(p.encryption, n.decrypt, bytes.NewReader(content), int64(len(content)))
	var plaintext []byte
	if err == nil {
		plaintext, err = io.ReadAll(io.LimitReader(r, MaxInput))
	}
	if err != nil {
		n.error("SUIT encryption §6", path, "the payload does not decrypt: %v", err)
		return
	}
	n.note("SUIT encryption §6", path, "the payload decrypts to %d bytes, SHA-256 %x", len(plaintext), suit.NewDigest(plaintext).Bytes)
	if p.digest != nil && !p.digest.Matches(plaintext) && !p.digest.Matches(content) {
		n.error("SUIT encryption §7", path, "neither the encrypted nor the decrypted payload has the digest image-digest")
	}
}

// fetched is a fetch or write with the parameters that are in force for it.
type fetched struct {
	uri        string
	content    []byte
	size       *uint64
	digest     *suit.Digest
	encryption []byte
}

// fetches follows the command sequences in the order of the text and lists what is fetched or
// written. Branches of try-each are followed one after the other from the same state.
func fetches(m *suit.Manifest) []fetched {
	f := follower{params: map[uint64]suit.Parameters{}, count: m.Common.IndexCount()}
	f.sequence(m.Common.SharedSequence.Commands, 0)
	for _, label := range []suit.Label{suit.LabelDependencyResolution, suit.LabelPayloadFetch, suit.LabelInstall, suit.LabelLoad, suit.LabelInvoke} {
		f.selected = []uint64{0}
		f.sequence(m.Section(label).Commands, 0)
	}
	return f.found
}

type follower struct {
	params   map[uint64]suit.Parameters
	selected []uint64
	count    uint64
	found    []fetched
}

func (f *follower) sequence(s suit.Sequence, depth int) {
	if depth > maxNesting {
		return
	}
	if f.selected == nil {
		f.selected = []uint64{0}
	}
	for i := range s {
		c := &s[i]
		switch c.Code {
		case suit.DirSetComponentIndex:
			f.selected = c.Index.Indexes
			if c.Index.All {
				f.selected = nil
				for i := range min(f.count, 1024) {
					f.selected = append(f.selected, i)
				}
			}
		case suit.DirOverrideParameters, suit.DirSetParameters:
			f.set(c)
		case suit.DirOverrideMultiple:
			for _, entry := range c.Multiple {
				p := f.params[entry.Index].Clone()
				p.Override(entry.Parameters)
				f.params[entry.Index] = p
			}
		case suit.DirFetch, suit.DirWrite:
			f.fetch()
		case suit.DirTryEach, suit.DirRunSequence:
			for _, nested := range c.Sequences {
				f.sequence(nested, depth+1)
			}
		}
	}
}

func (f *follower) set(c *suit.Command) {
	for _, i := range f.selected {
		p := f.params[i].Clone()
		if c.Code == suit.DirSetParameters {
			p.SetMissing(c.Parameters)
		} else {
			p.Override(c.Parameters)
		}
		f.params[i] = p
	}
}

func (f *follower) fetch() {
	for _, i := range f.selected {
		p := f.params[i]
		var got fetched
		got.uri, _ = p.URI()
		if content, ok := p.Content(); ok {
			got.content = content
		}
		if size, ok := p.Size(); ok {
			got.size = &size
		}
		if digest, ok := p.Digest(); ok {
			got.digest = &digest
		}
		got.encryption, _ = p.EncryptionInfo()
		f.found = append(f.found, got)
	}
}
