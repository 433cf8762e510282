package processor_test

import (
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

func TestGroupIsOrderedAndAtomic(t *testing.T) {
	l := newLab(t)
	dep, root := l.family(1, "one")
	reports, err := l.p.UpdateAll(t.Context(), [][]byte{l.sign(root), dep}, l.options())
	if err != nil || len(reports) != 2 {
		t.Fatal(err)
	}
	if !reports[0].Reference.Digest.Equal(digestOf(t, l.sign(root))) || !l.device.State().Manifests[idB.String()].Root {
		t.Error("reports or records are mixed up")
	}
	for _, f := range l.device.Fetches() {
		if f.URI == depURI {
			t.Error("a dependency that came along was fetched")
		}
	}
	l = newLab(t)
	l.device.Serve("a", []byte("a"))
	good, bad := l.sign(one(1, idA, appA, "a", "a")), l.sign(one(1, idB, appB, "b", "a"))
	before := l.device.State()
	reports, err = l.p.UpdateAll(t.Context(), [][]byte{good, bad}, l.options())
	if err == nil || !sameState(before, l.device.State()) {
		t.Fatalf("half a group was installed: %v", err)
	}
	if reports[0].Failure == nil || reports[0].Failure.Code != processor.CodeRolledBack || reports[1].Failure.Reason != suit.ReasonConditionFailed {
		t.Fatalf("reports: %+v, %+v", reports[0].Failure, reports[1].Failure)
	}
	if _, err := l.p.UpdateAll(t.Context(), [][]byte{good, good}, l.options()); err == nil {
		t.Error("two manifests for one identifier were accepted")
	}
	if reports, err := l.p.UpdateAll(t.Context(), nil, l.options()); err != nil || len(reports) != 0 {
		t.Error("an empty group is nothing")
	}
}

// The distribution system wraps the content key for one device, in a manifest of its own, and
// does not touch what the author signed (trust domains §template-override-encryption-info).
func TestEncryptionInfoFromTheDependent(t *testing.T) {
	kek := cose.NewSymmetricKey([]byte("0123456789abcdef"))
	stages := suit.NewComponentID("app", "encrypted")
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA128CTR, cose.AlgChaCha20Poly1305} {
		l := newLab(t, func(l *lab) { l.device.DecryptKeys = cose.DecryptKeys{kek} })
		ciphertext, info := l.encrypt(alg, kek, "secret")
		l.device.Serve("cipher", ciphertext)
		d := many(1, idB, appB, stages)
		d.Install = section(suit.SetComponentIndex(1), uri("cipher"), dir(suit.DirFetch),
			suit.SetComponentIndex(0), override(func(p *suit.Parameters) { image("secret")(p); p.SetSourceComponent(1) }),
			dir(suit.DirCopy), cond(suit.CondImageMatch))
		dep := l.sign(d)
		l.device.Serve(depURI, dep)
		root := l.dependent(1, idRoot, appA, "own", idB, digestOf(t, dep), depURI)
		if _, err := l.update(l.sign(root)); err == nil {
			t.Fatal("installed without the key")
		}
		root.Install.Commands = append([]suit.Command{suit.SetComponentIndex(1), override(func(p *suit.Parameters) {
			if err := p.SetEncryptionInfo(info); err != nil {
				t.Fatal(err)
			}
		})}, root.Install.Commands...)
		l.mustUpdate(l.sign(root))
		l.wants(appB, "secret")
	}
}
