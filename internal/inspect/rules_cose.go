package inspect

import (
	"fmt"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// signed inspects COSE_Sign1, COSE_Sign, COSE_Mac0 and COSE_Mac, and what they protect.
func (n *inspector) signed(it *item, kind Kind, path string, x expectation) string {
	message := it.untag()
	if want := map[Kind]int{KindSign1: 4, KindSign: 4, KindMac0: 4, KindMac: 5}[kind]; !message.is(majorArray) || len(message.kids) != want {
		n.error("RFC 9052 §4", path, "a %s is an array of %d elements", kind.Title(), want)
		return ""
	}
	n.headers(message, path, kind != KindSign)
	payload := message.kids[2].content
	switch {
	case message.kids[2].isNull() && x.payload == nil:
		n.note("RFC 9052 §4.1", under(path, "payload"), "the payload is detached: it is needed to check the signature")
	case message.kids[2].isNull():
		payload = x.payload
	case x.payload != nil:
		n.error("SUIT §8.3", path, "the payload must be detached (null): the digest beside it is what is signed")
	}
	n.signatures(message, kind, path, x)
	summary := kind.Title()
	if !message.kids[2].isNull() && message.kids[2].is(majorBytes) {
		summary += ": " + n.payload(payload, headerOf(message, cose.LabelContentType), path, x)
	}
	return summary
}

// payload inspects what a message carries, and returns what it is.
func (n *inspector) payload(payload []byte, contentType *item, path string, x expectation) string {
	it, err := parse(payload)
	if err != nil && it.raw == nil {
		if len(x.kinds) > 0 {
			n.unreadable(err, payload, under(path, "payload"))
		}
		return fmt.Sprintf("payload of %d bytes", len(payload))
	}
	kind := kindOf(&it)
	if kind == KindCBOR && !x.top && len(x.kinds) == 0 {
		return fmt.Sprintf("payload of %d bytes", len(payload))
	}
	x.top, x.payload, x.decrypted = false, nil, false
	summary := n.structure(payload, under(path, "payload"), x)
	n.contentType(contentType, kind, path)
	return summary
}

// contentType checks a content type against the content. Only TEEP's is known well enough.
func (n *inspector) contentType(contentType *item, kind Kind, path string) {
	if contentType == nil {
		return
	}
	isTEEP := contentType.is(majorText) && string(contentType.content) == teep.MediaType
	if isTEEP != (kind == KindTEEP) {
		n.error("RFC 9052 §3.1", under(path, "protected"), "the content type does not fit the payload, a %s", kind.Title())
	}
}

// headerOf finds a header parameter of a layer, the protected ones first.
func headerOf(layer *item, label int64) *item {
	protected, err := parse(layer.kids[0].content)
	if err == nil {
		if v := protected.value(label); v != nil {
			return v
		}
	}
	return layer.kids[1].value(label)
}

// headers checks both buckets of a layer (RFC 9052 §3). wantAlgorithm is false for the body of a
// COSE_Sign, whose signatures have their own.
func (n *inspector) headers(layer *item, path string, wantAlgorithm bool) {
	if !layer.kids[0].is(majorBytes) || !layer.kids[1].is(majorMap) {
		n.error("RFC 9052 §3", path, "headers are a byte string and a map")
		return
	}
	protected := item{major: majorMap}
	if raw := layer.kids[0].content; len(raw) > 0 {
		it, err := parse(raw)
		if err != nil || !it.is(majorMap) {
			n.error("RFC 9052 §3", under(path, "protected"), "the protected bucket does not wrap a map")
			return
		}
		protected = it
		n.encoding(&protected, under(path, "protected"))
		if len(it.kids) == 0 {
			n.note("RFC 9052 §3", under(path, "protected"), "an empty map is sent as an empty byte string")
		}
	}
	for i := 0; i+1 < len(protected.kids); i += 2 {
		if label, ok := protected.kids[i].int64(); ok && layer.kids[1].value(label) != nil {
			n.error("RFC 9052 §3", path, "header parameter %d is in both buckets", label)
		}
	}
	n.chain(layer, path)
	n.critical(&protected, &layer.kids[1], path)
	if wantAlgorithm {
		n.algorithm(&protected, &layer.kids[1], path)
	}
}

// critical checks crit (RFC 9052 §3.1).
func (n *inspector) critical(protected, unprotected *item, path string) {
	const section = "RFC 9052 §3.1"
	if unprotected.value(cose.LabelCritical) != nil {
		n.error(section, under(path, "unprotected"), "crit is not protected")
	}
	crit := protected.value(cose.LabelCritical)
	if crit == nil {
		return
	}
	if !crit.is(majorArray) || len(crit.kids) == 0 {
		n.error(section, under(path, "protected"), "crit is not a list of one label or more")
		return
	}
	for i := range crit.kids {
		label, ok := crit.kids[i].int64()
		switch {
		case ok && protected.value(label) == nil:
			n.error(section, under(path, "protected"), "crit names %d, which is not in the protected bucket", label)
		case !ok || !slices.Contains([]int64{1, 2, 3, 4, 5, 6, 33}, label):
			n.error(section, under(path, "protected"), "crit names a parameter that receivers here do not understand: they refuse the message")
		}
	}
}

var olderAlgorithms = map[cose.Algorithm]string{
	cose.AlgES256: "ESP256 (-9)", cose.AlgES384: "ESP384 (-51)", cose.AlgEdDSA: "Ed25519 (-19)",
}

func (n *inspector) algorithm(protected, unprotected *item, path string) {
	v := protected.value(cose.LabelAlgorithm)
	if v == nil && isCTR(unprotected.value(cose.LabelAlgorithm)) {
		return // RFC 9459 §4: nothing authenticates a header, so there is no protected one
	}
	if v == nil {
		if unprotected.value(cose.LabelAlgorithm) != nil {
			n.error("RFC 9052 §3.1", under(path, "unprotected"), "alg is not protected")
		} else {
			n.error("RFC 9052 §3.1", under(path, "protected"), "alg is missing")
		}
		return
	}
	number, ok := v.int64()
	alg := cose.Algorithm(number)
	if newer, older := olderAlgorithms[alg]; older {
		n.warn("RFC 9864 §2", under(path, "protected"),
			"%v leaves the curve open, and receivers accept it from older peers only: use %s", alg, newer)
		return
	}
	if isCTR(v) {
		n.error("RFC 9459 §4", under(path, "protected"), "%v has no protected header: alg belongs into the unprotected bucket", alg)
	} else if _, known := algorithmNames()[number]; !ok || !known {
		n.error("RFC 9052 §3.1", under(path, "protected"), "algorithm %d is not supported", number)
	}
}

func isCTR(v *item) bool {
	if v == nil {
		return false
	}
	alg, _ := v.int64()
	return cose.Algorithm(alg) == cose.AlgA128CTR || cose.Algorithm(alg) == cose.AlgA256CTR
}

// layers calls visit for every signature or recipient of a message that has several.
func layers(message *item, at int, visit func(layer *item, step string)) {
	if len(message.kids) <= at || !message.kids[at].is(majorArray) {
		return
	}
	for i := range message.kids[at].kids {
		visit(&message.kids[at].kids[i], index(i))
	}
}

// isLayer tells whether an item is [protected, unprotected, bytes, …].
func isLayer(it *item) bool {
	return it.is(majorArray) && len(it.kids) >= 3 && it.kids[0].is(majorBytes) && it.kids[1].is(majorMap)
}
