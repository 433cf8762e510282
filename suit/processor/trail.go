package processor

import (
	"fmt"
	"strings"

	"github.com/go-teep/teep/suit"
)

// Step is one executed command, as [UpdateOptions.Trail] and [Explain] tell it. Try-each,
// run-sequence and process-dependency are told when they begin, and again if they fail of
// themselves; everything else is told when it ended.
type Step struct {
	// Manifest leads from the root to the manifest (SUIT report §3); ManifestID is where that
	// one is recorded.
	Manifest   []uint64
	ManifestID suit.ComponentID
	// Procedure is the section that is being run. Section is the one that the command stands
	// in: the same, or suit-common.
	Procedure, Section suit.Label
	// Offset is where in the section, in bytes; Depth how deep in nested sequences.
	Offset, Depth int
	Command       suit.CommandCode
	// Component is what the command was for; nil for commands that steer the processor.
	Component suit.ComponentID
	Index     int
	// Aside tells that the manifest is removed because nobody needs it any more. What is done for
	// that is not in the report, and Manifest does not lead to it.
	Aside bool
	// Failed tells the outcome, Why its cause. Explain does not know causes.
	Failed bool
	Why    error
}

// String is one line without an end.
func (s Step) String() string {
	var b strings.Builder
	for _, p := range s.Manifest {
		fmt.Fprintf(&b, "[%d]", p)
	}
	if s.Aside {
		fmt.Fprintf(&b, "(%s) ", s.ManifestID)
	}
	section := s.Procedure.String()
	if s.Section != s.Procedure {
		section += "/" + s.Section.String()
	}
	fmt.Fprintf(&b, "%s@%d %s%s", section, s.Offset, strings.Repeat("  ", s.Depth), s.Command)
	if s.Component != nil {
		fmt.Fprintf(&b, " %s", s.Component)
	}
	if s.Failed {
		b.WriteString(": failed")
		if s.Why != nil {
			fmt.Fprintf(&b, ": %v", s.Why)
		}
	}
	return b.String()
}

func (x *interpreter) step(f *frame, cmd *suit.Command, c *component, err error) {
	s := Step{Manifest: f.n.path, ManifestID: f.n.id, Procedure: f.phase, Section: f.label,
		Offset: cmd.Offset, Depth: f.depth, Command: cmd.Code}
	if c != nil {
		s.Component, s.Index = c.id, c.index
	}
	if err != nil {
		s.Failed, s.Why = true, asFailure(err).Err
	}
	x.trail(s)
}
