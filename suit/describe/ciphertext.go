package describe

import (
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// ciphertextFile is the file of content that was encrypted before, if encrypt speaks of such.
func ciphertextFile(n *yaml.Node) (name string, ok bool) {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "ciphertext" {
			return n.Content[i+1].Value, true
		}
	}
	return "", false
}

// encrypted reads {ciphertext: file, encryption-info: file}: what 'teep suit encrypt' made, or
// another tool. With info: separate, whoever distributes the keys has the encryption info.
func (b *builder) encrypted(c *component, n *yaml.Node, m map[string]*yaml.Node, hold bool) (ciphertext *body, err error) {
	for _, key := range []string{"to", "algorithm"} {
		if m[key] != nil {
			return nil, b.errorf(m[key], "the ciphertext is encrypted already: leave %s out", key)
		}
	}
	if ciphertext, err = b.payloadFile(m["ciphertext"], hold); err != nil {
		return nil, err
	}
	place, file := m["info"], m["encryption-info"]
	switch {
	case place != nil && place.Value == infoPlaces[1] && file != nil:
		return nil, b.errorf(file, "info: separate keeps the encryption info out of the manifest: leave encryption-info out")
	case place != nil && place.Value == infoPlaces[1]:
		c.separate = place
		return ciphertext, b.checkCiphertext(c, m["ciphertext"], *ciphertext.image.size, 0)
	case place != nil && place.Value != infoPlaces[0]:
		return nil, b.unknown(place, "info", infoPlaces)
	case file == nil:
		return nil, b.errorf(n, "a ciphertext needs its encryption-info: give the file, or info: separate if devices get it elsewhere")
	}
	info, err := b.file(file)
	if err != nil {
		return nil, err
	}
	message, err := cose.ParseEncrypt(info)
	if err != nil {
		return nil, b.errorf(file, "%q is not a SUIT_Encryption_Info: %w", file.Value, err)
	}
	if !message.Detached {
		return nil, b.errorf(file, "%q carries ciphertext of its own: payloads of manifests are detached", file.Value)
	}
	var p suit.Parameters
	if err := p.SetEncryptionInfo(info); err != nil {
		return nil, b.errorf(file, "%w", err)
	}
	c.info = info
	return ciphertext, b.checkCiphertext(c, m["ciphertext"], *ciphertext.image.size, message.Algorithm())
}

// tagSize is the length of the authentication tag of A128GCM, A256GCM and ChaCha20-Poly1305.
const tagSize = 16

// checkCiphertext finds files that do not belong together by their sizes: each cipher adds a tag
// or nothing. An algorithm of 0 is not known.
func (b *builder) checkCiphertext(c *component, n *yaml.Node, size uint64, alg cose.Algorithm) error {
	if c.image == nil || c.image.size == nil {
		return nil
	}
	plain, tagged := size == *c.image.size, size == *c.image.size+tagSize
	if alg != 0 && plain != alg.IsAuthenticated() && tagged == alg.IsAuthenticated() || alg == 0 && (plain || tagged) {
		return nil
	}
	return b.errorf(n, "%q has %d bytes, and cannot be the ciphertext of %d bytes: encrypt the payload anew, or correct its size",
		n.Value, size, *c.image.size)
}
