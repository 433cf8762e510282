package inspect

import (
	"fmt"

	"github.com/go-teep/teep/cose"
)

// key inspects a COSE_Key.
func (n *inspector) key(data []byte, path string) string {
	k, err := cose.ParseKey(data)
	if err != nil {
		n.error("RFC 9052 §7", path, "%v", err)
		return ""
	}
	return n.describeKey(k, path)
}

func (n *inspector) describeKey(k *cose.Key, path string) string {
	switch {
	case k.Type() == cose.KeyTypeSymmetric:
		n.note("RFC 9052 §7", path, "symmetric key, not shown: whoever has this file can use it")
		return "symmetric key, not shown"
	case k.IsPrivate():
		n.note("RFC 9052 §7", path, "private key, not shown: whoever has this file can use it")
		return fmt.Sprintf("private key for %v, not shown, thumbprint %x", k.Alg(), k.Thumbprint())
	}
	return fmt.Sprintf("public key for %v, thumbprint %x", k.Alg(), k.Thumbprint())
}

// keyFromPEM reports a key that came as PEM, and shows its public part as a COSE_Key.
func (n *inspector) keyFromPEM(k *cose.Key) {
	r := n.report
	r.Kind, r.Summary = KindKey, n.describeKey(k, "")
	if data, err := k.Public().MarshalCBOR(); err == nil && k.Type() != cose.KeyTypeSymmetric {
		r.Bytes = len(data)
		r.Notation = n.notation(data)
	}
	r.Parts = append(r.Parts, Part{Kind: r.Kind, Summary: r.Summary, Bytes: r.Bytes})
}
