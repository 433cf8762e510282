package processor_test

import (
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
)

// A manifest that is itself confidential is the encrypted dependency of one that is not (trust domains §8.2).
// The digest is that of its manifest, as for any dependency.
func TestEncryptedDependency(t *testing.T) {
	kek, other := cose.NewSymmetricKey([]byte("0123456789abcdef")), cose.NewSymmetricKey([]byte("fedcba9876543210"))
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgChaCha20Poly1305, cose.AlgA128CTR} {
		t.Run(strings.ReplaceAll(alg.String(), "/", "-"), func(t *testing.T) {
			l := newLab(t, func(l *lab) { l.device.DecryptKeys = cose.DecryptKeys{kek} })
			dep, root := l.family(1, "one")
			ciphertext, info := l.encrypt(alg, kek, string(dep))
			l.device.Serve(depURI, ciphertext)
			if _, err := l.update(l.sign(root)); err == nil {
				t.Fatal("the ciphertext was taken for an envelope")
			}
			root.DependencyResolution.Commands = append([]suit.Command{suit.SetComponentIndex(1), override(func(p *suit.Parameters) {
				if err := p.SetEncryptionInfo(info); err != nil {
					t.Fatal(err)
				}
			})}, root.DependencyResolution.Commands...)
			envelope := l.sign(root)
			l.device.DecryptKeys = cose.DecryptKeys{other}
			l.refuse(envelope, suit.ReasonOperationFailed)
			l.device.DecryptKeys = cose.DecryptKeys{kek}
			damaged := append([]byte{}, ciphertext...)
			damaged[len(damaged)/2] ^= 1
			l.device.Serve(depURI, damaged)
			if _, err := l.update(envelope); err == nil || len(l.device.State().Manifests) != 0 {
				t.Fatalf("a damaged ciphertext: %v", err)
			}
			another, _ := l.encrypt(alg, kek, string(l.sign(one(1, idB, appB, "x", "x"))))
			l.device.Serve(depURI, another)
			if _, err := l.update(envelope); err == nil {
				t.Fatal("another manifest than the one that was meant")
			}
			l.device.Serve(depURI, ciphertext)
			l.mustUpdate(envelope)
			l.wants(appB, "one")
		})
	}
}
