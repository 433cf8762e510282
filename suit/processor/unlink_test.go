package processor_test

import (
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
)

// TestSecondUnlinkChangesNothing: a manifest gives up its reference once (trust domains
// §suit-directive-unlink). What another manifest has put there since is not its to remove.
func TestSecondUnlinkChangesNothing(t *testing.T) {
	l := newLab(t)
	dep, root := l.family(1, "lib")
	root.Common.Components = append(root.Common.Components, appB)
	unlink := seq{suit.SetComponentIndex(2), dir(suit.DirUnlink)}
	root.Install.Commands = append(append(unlink[:2:2], root.Install.Commands...), unlink...)
	envelope := l.sign(root)
	l.explained(envelope, dep)
	l.mustUpdate(envelope)
	l.wants(appA, "own lib")
	l.wants(appB, "lib")
	if got := l.device.State().Manifests[idRoot.String()].Components; len(got) != 1 || !got[0].Equal(appA) {
		t.Errorf("the dependent still refers to %v", got)
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Fatalf("left behind: %v", s)
	}
}

// TestUnlinkOfADependencyThatComesBack: a dependency that was unlinked, and then fetched and checked
// again in the same run, is a dependency as if it had never gone.
func TestUnlinkOfADependencyThatComesBack(t *testing.T) {
	l := newLab(t)
	_, root := l.family(1, "lib")
	root.DependencyResolution.Commands = append(seq{suit.SetComponentIndex(1), dir(suit.DirUnlink)}, root.DependencyResolution.Commands...)
	l.mustUpdate(l.sign(root))
	l.wants(appB, "lib")
	s := l.device.State()
	if got := s.Manifests[idRoot.String()].Dependencies; len(got) != 1 || !got[0].ID.Equal(idB) {
		t.Errorf("the dependent knows the dependencies %v", got)
	}
	if _, err := l.p.Uninstall(t.Context(), idRoot, processor.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := l.device.State(); len(s.Content) != 0 || len(s.Manifests) != 0 {
		t.Fatalf("left behind: %v", s)
	}
}
