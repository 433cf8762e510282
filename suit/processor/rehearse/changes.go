package rehearse

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/memory"
)

// Change is one difference that a procedure made.
type Change struct {
	// What is "component" or "manifest", ID its identifier as people write it.
	What, ID string
	// Before and After describe what is there; empty for nothing.
	Before, After string
}

// String is the change in one line: + for what came, - for what went, ~ for what changed.
func (c Change) String() string {
	switch {
	case c.Before == "":
		return fmt.Sprintf("+ %s %s: %s", c.What, c.ID, c.After)
	case c.After == "":
		return fmt.Sprintf("- %s %s: %s", c.What, c.ID, c.Before)
	}
	return fmt.Sprintf("~ %s %s: %s -> %s", c.What, c.ID, c.Before, c.After)
}

func changes(before, after memory.State) []Change {
	content := func(b []byte) string { return fmt.Sprintf("%d bytes, %v", len(b), suit.NewDigest(b)) }
	record := func(r processor.ManifestRecord) string {
		return "sequence number " + strconv.FormatUint(r.SequenceNumber, 10)
	}
	return append(compare("component", before.Content, after.Content, content),
		compare("manifest", before.Manifests, after.Manifests, record)...)
}

func compare[T any](what string, before, after map[string]T, describe func(T) string) []Change {
	all := maps.Clone(before)
	maps.Copy(all, after)
	var found []Change
	for _, id := range slices.Sorted(maps.Keys(all)) {
		c := Change{What: what, ID: id}
		if v, ok := before[id]; ok {
			c.Before = describe(v)
		}
		if v, ok := after[id]; ok {
			c.After = describe(v)
		}
		if c.Before != c.After {
			found = append(found, c)
		}
	}
	return found
}
