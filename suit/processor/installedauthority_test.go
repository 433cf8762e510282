package processor_test

import (
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// ending is an authority whose signers' certificates end: what is installed goes on to count.
type ending struct {
	processor.Authority
	ended, revoked bool
}

func (a *ending) VerifiersFor(alg cose.Algorithm, h cose.Headers) []cose.Verifier {
	if a.ended || a.revoked {
		return nil
	}
	return a.Authority.VerifiersFor(alg, h)
}

func (a *ending) Installed() processor.Authority {
	return &ending{Authority: a.Authority, revoked: a.revoked}
}

func TestWhatIsInstalledOutlivesItsSignersCertificate(t *testing.T) {
	var authority *ending
	l := newLab(t, func(l *lab) { authority = &ending{Authority: l.cfg.Authority}; l.cfg.Authority = authority })
	dep, root := l.family(1, "one")
	l.mustUpdate(l.sign(root))

	authority.ended = true
	if _, err := l.p.Validate(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Errorf("installed, with an installed dependency: %v", err)
	}
	_, newer := l.family(2, "two")
	l.refuse(l.sign(newer), suit.ReasonUnauthorised)
	l.device.Serve(depURI, dep)
	l.refuse(l.sign(one(1, idA, appC, "x", "u")), suit.ReasonUnauthorised)

	authority.revoked = true
	if _, err := l.p.Validate(t.Context(), idRoot, processor.Options{}); err == nil {
		t.Error("runs although its signer was revoked")
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Errorf("cannot be removed: %v", err)
	}
}
