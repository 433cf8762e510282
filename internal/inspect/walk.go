package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/cose"
)

const (
	// maxNesting bounds how deeply structures are opened inside each other.
	maxNesting = 16
	// maxFindings bounds the report: what has a thousand faults needs no list of them.
	maxFindings = 1000
)

// inspector walks one input.
type inspector struct {
	o         Options
	report    *Report
	verifiers cose.KeySet
	decrypt   cose.DecryptKeys
	depth     int
}

// expectation is what the surroundings of a structure say about it.
type expectation struct {
	top bool
	// kinds are what the structure may be once protection is off; empty means anything.
	kinds []Kind
	// payload is the detached payload that signatures cover.
	payload []byte
	// other is SuppPubInfo.other of the key derivation; empty means unknown.
	other string
	// inTEEP tells that the structure travels in a TEEP message.
	inTEEP bool
	// decrypted tells that the structure was encrypted.
	decrypted bool
}

func newInspector(o Options) (*inspector, error) {
	n := &inspector{o: o, report: &Report{Schema: SchemaVersion, Parts: []Part{}, Signatures: []Signature{}, Findings: []Finding{}}}
	for i, k := range o.Keys {
		set, err := cose.NewKeySet(k.Public())
		if k.Type() == cose.KeyTypeSymmetric {
			set, err = cose.NewKeySet(k)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d checks no signature: %w", i+1, err)
		}
		n.verifiers = append(n.verifiers, set...)
	}
	for i, k := range o.DecryptKeys {
		if !k.IsPrivate() && k.Type() != cose.KeyTypeSymmetric {
			return nil, fmt.Errorf("decryption key %d is a public key: decrypting takes the private one", i+1)
		}
		n.decrypt = append(n.decrypt, k)
	}
	return n, nil
}

func (n *inspector) add(s Severity, section, path, format string, args ...any) {
	f := Finding{Severity: s, Section: section, Path: path, Problem: fmt.Sprintf(format, args...)}
	switch k := len(n.report.Findings); {
	case slices.Contains(n.report.Findings, f):
	case k < maxFindings:
		n.report.Findings = append(n.report.Findings, f)
	case k == maxFindings:
		n.report.Findings = append(n.report.Findings, Finding{Severity: SeverityError, Problem: "there are more findings than fit here"})
	}
}

func (n *inspector) error(section, path, format string, args ...any) {
	n.add(SeverityError, section, path, format, args...)
}

func (n *inspector) warn(section, path, format string, args ...any) {
	n.add(SeverityWarning, section, path, format, args...)
}

func (n *inspector) note(section, path, format string, args ...any) {
	n.add(SeverityNote, section, path, format, args...)
}

// under makes the path of a member.
func under(path, step string) string {
	if path == "" || step == "" || step[0] == '[' {
		return path + step
	}
	return path + "/" + step
}

func index(i int) string { return fmt.Sprintf("[%d]", i) }

// structure inspects one structure and everything in it, and returns what it is in a line.
func (n *inspector) structure(data []byte, path string, x expectation) string {
	if n.depth >= maxNesting {
		n.warn("", path, "nested deeper than %d structures; not opened", maxNesting)
		return "not opened"
	}
	n.depth++
	defer func() { n.depth-- }()
	it, err := parse(data)
	var after *trailing
	if errors.As(err, &after) {
		n.error("RFC 8949 §5.3.1", path, "%v", after)
		data, err = data[:after.offset], nil
	}
	if err != nil {
		n.unreadable(err, data, path)
		return KindUnreadable.Title()
	}
	n.encoding(&it, path)
	n.tags(&it, path)
	kind := kindOf(&it)
	part := len(n.report.Parts)
	n.report.Parts = append(n.report.Parts, Part{Path: path, Kind: kind, Bytes: len(data), Decrypted: x.decrypted})
	if x.decrypted {
		n.report.Parts[part].Notation = n.notation(data)
	}
	if len(x.kinds) > 0 && !kind.IsCOSE() && !slices.Contains(x.kinds, kind) {
		n.error("", path, "a %s where a %s belongs", kind.Title(), titles(x.kinds))
	}
	if x.top && !kind.IsCOSE() && kind != KindEnvelope {
		n.unsigned(kind, path)
	}
	summary := n.open(&it, data, kind, path, x)
	if summary == "" {
		summary = kind.Title()
	}
	n.report.Parts[part].Summary = summary
	return summary
}

// unsigned says that nothing protects what is inspected, which is wrong if a key is to be checked.
func (n *inspector) unsigned(kind Kind, path string) {
	severity := SeverityNote
	if len(n.verifiers) > 0 {
		severity = SeverityError
	}
	switch kind {
	case KindTEEP:
		if severity == SeverityNote {
			severity = SeverityWarning // receivers refuse it, but payloads are often looked at by themselves
		}
		n.add(severity, "TEEP §4.1.2 step 2", path, "not protected: TEEP messages travel inside COSE_Sign1 or COSE_Sign")
	case KindClaims:
		n.add(severity, "RFC 9711 §3", path, "not protected: nobody vouches for these claims")
	case KindManifest:
		n.add(severity, "SUIT §8.3", path, "a manifest without its envelope: nothing says who signed it")
	case KindReport:
		n.add(severity, "SUIT Report §8", path, "not protected: nothing says whose report it is")
	}
}

// open inspects a structure by its kind and returns what to say of it in a line.
func (n *inspector) open(it *item, data []byte, kind Kind, path string, x expectation) string {
	switch kind {
	case KindTEEP:
		return n.teep(it, path)
	case KindEnvelope:
		return n.envelope(it, data, path)
	case KindManifest:
		return n.manifest(data, path)
	case KindReport:
		return n.suitReport(data, path)
	case KindClaims:
		return n.claims(it, data, path, x)
	case KindBundle:
		return n.bundle(data, path, x)
	case KindKey:
		return n.key(data, path)
	case KindKeySet:
		for i := range it.untag().kids {
			n.structure(it.untag().kids[i].raw, under(path, index(i)), expectation{})
		}
		return fmt.Sprintf("COSE_KeySet of %d keys", len(it.untag().kids))
	case KindSign1, KindSign, KindMac0, KindMac:
		return n.signed(it, kind, path, x)
	case KindEncrypt0, KindEncrypt:
		return n.encrypted(it, data, kind, path, x)
	}
	if inner := it.untag(); inner.is(majorBytes) && len(inner.content) > 1 {
		if w, err := parse(inner.content); err == nil && kindOf(&w) != KindCBOR {
			n.warn("", path, "a byte string is wrapped around a %s: take it off before sending", kindOf(&w).Title())
			n.structure(inner.content, under(path, "wrapped"), x)
		}
	} else if x.top {
		n.note("", path, "this is CBOR, but none of the structures that this tool knows")
	}
	return ""
}

func titles(kinds []Kind) string {
	s := ""
	for i, k := range kinds {
		if i > 0 {
			s += " or "
		}
		s += k.Title()
	}
	return s
}

// tags checks that a tag says what is there.
func (n *inspector) tags(it *item, path string) {
	for ; it.is(majorTag); it = &it.kids[0] {
		kind, known := tagKinds[it.arg]
		inner := kindOf(&it.kids[0])
		switch {
		case it.arg == tagCWT || it.arg == 55799:
			n.note("", path, "tag %d around it is redundant here", it.arg)
		case !known:
			n.warn("RFC 8949 §3.4", path, "tag %d is not one that belongs here", it.arg)
		case inner == kind || inner == KindCBOR && !kind.IsCOSE(), sameShape(kind, inner):
		default:
			n.error("RFC 8949 §3.4", path, "tag %d says %s, but a %s is inside", it.arg, kind.Title(), inner.Title())
		}
	}
}

// sameShape tells whether a tag decides between kinds that look alike without it.
func sameShape(tag, inner Kind) bool {
	pairs := [][2]Kind{{KindMac0, KindSign1}, {KindSign1, KindMac0}, {KindEncrypt, KindSign}, {KindSign, KindEncrypt}}
	return slices.Contains(pairs, [2]Kind{tag, inner})
}

// encodingFaults counts what an encoder did that the texts do not want.
type encodingFaults struct {
	indefinite, longHeads, unsorted, duplicate int
	at                                         [4]int // offset of the first of each
}

// encoding reports how an item is encoded; byte strings are not opened.
func (n *inspector) encoding(it *item, path string) {
	var f encodingFaults
	f.walk(it)
	for i, fault := range []struct {
		count    int
		severity Severity
		section  string
		problem  string
	}{
		{f.indefinite, SeverityError, "RFC 8949 §4.2.1", "indefinite length"},
		{f.duplicate, SeverityError, "RFC 8949 §5.6", "a key that the map has twice"},
		{f.longHeads, SeverityNote, "RFC 8949 §4.2.1", "not deterministic: a number or length in more bytes than it needs"},
		{f.unsorted, SeverityNote, "RFC 8949 §4.2.1", "not deterministic: map keys out of order"},
	} {
		if fault.count == 0 {
			continue
		}
		more := ""
		if fault.count > 1 {
			more = fmt.Sprintf(", and %d more", fault.count-1)
		}
		n.add(fault.severity, fault.section, path, "%s (at byte %d%s)", fault.problem, f.at[i], more)
	}
}

func (f *encodingFaults) hit(which int, count *int, it *item) {
	if *count == 0 {
		f.at[which] = it.offset
	}
	*count++
}

func (f *encodingFaults) walk(it *item) {
	if it.indefinite {
		f.hit(0, &f.indefinite, it)
	} else if it.major != majorSimple && len(appendHead(nil, it.major, it.arg)) != it.headSize() {
		f.hit(2, &f.longHeads, it)
	}
	if it.major == majorMap {
		f.keys(it)
	}
	for i := range it.kids {
		f.walk(&it.kids[i])
	}
}

func (f *encodingFaults) keys(it *item) {
	seen := make(map[string]bool, len(it.kids)/2)
	sorted := true
	for i := 0; i+1 < len(it.kids); i += 2 {
		key := it.kids[i].raw
		if seen[string(key)] {
			f.hit(1, &f.duplicate, &it.kids[i])
		}
		seen[string(key)] = true
		if i > 0 && bytes.Compare(it.kids[i-2].raw, key) > 0 && sorted {
			f.hit(3, &f.unsorted, &it.kids[i])
			sorted = false
		}
	}
}

// headSize is the number of bytes of the item's head.
func (it *item) headSize() int {
	if it.info < 24 || it.indefinite {
		return 1
	}
	return 1 + 1<<(it.info-24)
}
