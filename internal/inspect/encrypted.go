package inspect

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/cose"
)

// What COSE_KDF_Context.SuppPubInfo.other is for each purpose (TEEP §8.2, firmware encryption).
const (
	otherReport  = "SUIT Report Encryption"
	otherEAT     = "EAT Encryption"
	otherPayload = "SUIT Payload Encryption"
)

// contentAlgorithms are all that the texts know. This tool opens what is not authenticated too:
// it says what is there, not what to trust.
var contentAlgorithms = []cose.Algorithm{
	cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR, cose.AlgA256CTR,
}

// encrypted inspects COSE_Encrypt0 and COSE_Encrypt, and what is inside if a key opens it.
func (n *inspector) encrypted(it *item, data []byte, kind Kind, path string, x expectation) string {
	message := it.untag()
	if want := map[Kind]int{KindEncrypt0: 3, KindEncrypt: 4}[kind]; !message.is(majorArray) || len(message.kids) != want {
		n.error("RFC 9052 §5", path, "a %s is an array of %d elements", kind.Title(), want)
		return ""
	}
	n.headers(message, path, true)
	n.recipients(message, path)
	summary := fmt.Sprintf("%s with %v", kind.Title(), headerAlgorithm(message))
	if message.kids[2].isNull() {
		return summary + ", ciphertext detached"
	}
	if len(n.decrypt) == 0 {
		return summary + ", not opened: no decryption key was given"
	}
	plaintext, err := n.plaintext(data, kind, x)
	if err != nil {
		n.note("RFC 9052 §5.3", path, "not opened: %v", err)
		return summary + ", not opened"
	}
	if !headerAlgorithm(message).IsAuthenticated() {
		n.note("SUIT MTI §4.2", path, "%v does not authenticate: what is inside must be signed", headerAlgorithm(message))
	}
	inside := x
	inside.top, inside.decrypted = false, true
	if w, err := parse(plaintext); err != nil || kindOf(&w) == KindCBOR && !w.is(majorBytes) {
		if len(x.kinds) > 0 {
			n.error("", under(path, "plaintext"), "not a %s", titles(x.kinds))
		}
		return fmt.Sprintf("%s, opened: %d bytes", summary, len(plaintext))
	}
	// A byte string around the content is one way to read the text, and opens as well.
	if w, _ := parse(plaintext); w.is(majorBytes) {
		plaintext = w.content
	}
	n.structure(plaintext, under(path, "plaintext"), inside)
	return summary + ", opened"
}

func (n *inspector) plaintext(data []byte, kind Kind, x expectation) (plaintext []byte, err error) {
	others := []string{x.other}
	if x.other == "" {
		others = []string{otherEAT, otherReport, otherPayload, ""}
	}
	for _, other := range others {
		o := cose.DecryptOptions{Algorithms: contentAlgorithms, KDFOther: other}
		if kind == KindEncrypt {
			if plaintext, err = cose.Decrypt(data, nil, n.decrypt, o); err == nil {
				return plaintext, nil
			}
			continue
		}
		err = cose.ErrNoKey
		for _, key := range n.decrypt {
			if key.Type() != cose.KeyTypeSymmetric {
				continue
			}
			if plaintext, err = cose.Decrypt0(data, nil, key, o); err == nil {
				return plaintext, nil
			}
		}
	}
	if errors.Is(err, cose.ErrNoKey) {
		return nil, errors.New("none of the given decryption keys is a recipient's")
	}
	return nil, err
}

// recipients checks the layers that say how the content key travels.
func (n *inspector) recipients(message *item, path string) {
	if len(message.kids) < 4 {
		return
	}
	if !message.kids[3].is(majorArray) || len(message.kids[3].kids) == 0 {
		n.error("RFC 9052 §5.1", path, "a COSE_Encrypt without recipients")
	}
	layers(message, 3, func(layer *item, step string) {
		at := under(path, "recipients"+step)
		if !isLayer(layer) {
			n.error("RFC 9052 §5.1", at, "not a COSE_recipient")
			return
		}
		n.ephemeral(layer, at)
	})
}

// ephemeral checks that a sender does not give away the private half of its ephemeral key.
func (n *inspector) ephemeral(layer *item, path string) {
	const labelEphemeral = -1
	if k := headerOf(layer, labelEphemeral); k.is(majorMap) && secretKeyType(k) != 0 {
		n.error("RFC 9053 §6.3.1", path, "the ephemeral key carries its private part (private key, not shown): whoever sees this message can decrypt it")
	}
}
