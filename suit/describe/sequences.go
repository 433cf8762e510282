package describe

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
)

// Reporting policies unless a command says otherwise: conditions report everything, directives
// their failure, as the examples of the SUIT text do.
const (
	conditionPolicy = suit.ReportAll
	directivePolicy = suit.ReportRecordOnFailure
)

// maxSequenceDepth stops the reader where the format would refuse anyway.
const maxSequenceDepth = suit.MaxSequenceDepth + 1

var commandCodes = []suit.CommandCode{
	suit.CondVendorIdentifier, suit.CondClassIdentifier, suit.CondImageMatch, suit.CondUseBefore,
	suit.CondComponentSlot, suit.CondCheckContent, suit.CondDependencyIntegrity, suit.CondIsDependency,
	suit.CondAbort, suit.CondDeviceIdentifier, suit.CondImageNotMatch, suit.CondMinimumBattery,
	suit.CondUpdateAuthorized, suit.CondVersion, suit.DirProcessDependency, suit.DirSetComponentIndex,
	suit.DirTryEach, suit.DirWrite, suit.DirSetParameters, suit.DirOverrideParameters, suit.DirFetch,
	suit.DirCopy, suit.DirInvoke, suit.DirWait, suit.DirSwap, suit.DirRunSequence, suit.DirUnlink,
	suit.DirOverrideMultiple, suit.DirCopyParams,
}

// commandCode finds a command by its name, with or without condition- or directive- in front.
// Version is the only word that both a parameter and a condition have, so no name is ambiguous.
func commandCode(name string) (suit.CommandCode, bool) {
	for _, c := range commandCodes {
		full := c.String()
		_, short, _ := strings.Cut(full, "-")
		if name == full || name == short {
			return c, true
		}
	}
	if n, err := strconv.ParseInt(name, 10, 64); err == nil && suit.CommandCode(n).IsCustom() {
		return suit.CommandCode(n), true
	}
	return 0, false
}

// sequence reads a list of commands.
//
//	install:
//	  - set-component-index: 0
//	  - override-parameters: {uri: "https://example.com/a"}
//	  - fetch
//	  - image-match: 15
func (b *builder) sequence(n *yaml.Node, depth int) (suit.Sequence, error) {
	if depth > maxSequenceDepth {
		return nil, b.errorf(n, "sequences nest too deep")
	}
	list, err := b.items(n, "sequence")
	if err != nil {
		return nil, err
	}
	seq := make(suit.Sequence, len(list))
	for i, item := range list {
		if seq[i], err = b.command(item, depth); err != nil {
			return nil, err
		}
	}
	return seq, nil
}

func (b *builder) command(n *yaml.Node, depth int) (suit.Command, error) {
	name, argument := n, (*yaml.Node)(nil)
	if n.Kind == yaml.MappingNode {
		if len(n.Content) != 2 {
			return suit.Command{}, b.errorf(n, "a command is one word, or one word with its argument: write each on a line of its own")
		}
		name, argument = n.Content[0], n.Content[1]
	}
	if name.Kind != yaml.ScalarNode {
		return suit.Command{}, b.errorf(n, "a command is a word such as fetch, or {word: argument}, not %s", kindOf(n))
	}
	code, ok := commandCode(name.Value)
	if !ok {
		names := make([]string, len(commandCodes))
		for i, c := range commandCodes {
			_, names[i], _ = strings.Cut(c.String(), "-")
		}
		return suit.Command{}, b.unknown(name, "sequence", names)
	}
	c, err := b.commandArgument(code, name, argument, depth)
	c.Code = code
	return c, err
}

func (b *builder) commandArgument(code suit.CommandCode, name, n *yaml.Node, depth int) (c suit.Command, err error) {
	if code.IsCustom() {
		return b.customCommand(n)
	}
	needsArgument := true
	switch code {
	case suit.DirSetComponentIndex, suit.DirOverrideParameters, suit.DirSetParameters, suit.DirTryEach,
		suit.DirRunSequence, suit.DirOverrideMultiple, suit.DirCopyParams:
	default:
		needsArgument = false
	}
	if needsArgument && n == nil {
		return c, b.errorf(name, "%s needs an argument: write {%s: …}", name.Value, name.Value)
	}
	switch code {
	case suit.DirSetComponentIndex:
		return b.setIndex(n)
	case suit.DirOverrideParameters, suit.DirSetParameters:
		c.Parameters, err = b.parameters(n)
	case suit.DirTryEach:
		return b.tryEach(n, depth)
	case suit.DirRunSequence:
		var seq suit.Sequence
		seq, err = b.sequence(n, depth+1)
		c.Sequences = []suit.Sequence{seq}
	case suit.DirOverrideMultiple:
		c.Multiple, err = b.overrideMultiple(n)
	case suit.DirCopyParams:
		c.Copies, err = b.copyParams(n)
	default:
		c.Policy, err = b.policy(code, n)
	}
	return c, err
}

func (b *builder) policy(code suit.CommandCode, n *yaml.Node) (suit.ReportingPolicy, error) {
	if n == nil {
		if code.IsCondition() {
			return conditionPolicy, nil
		}
		return directivePolicy, nil
	}
	v, err := b.uint(n, "reporting policy")
	if err == nil && v > uint64(suit.ReportAll) {
		err = b.errorf(n, "reporting policy %d has unknown bits: 1 record on success, 2 record on failure, "+
			"4 system information on success, 8 on failure", v)
	}
	return suit.ReportingPolicy(v), err
}

func (b *builder) setIndex(n *yaml.Node) (suit.Command, error) {
	if n.Kind == yaml.SequenceNode {
		list, err := b.items(n, "component indexes")
		if err != nil {
			return suit.Command{}, err
		}
		indexes := make([]uint64, len(list))
		for i, item := range list {
			if indexes[i], err = b.uint(item, "component index"); err != nil {
				return suit.Command{}, err
			}
		}
		return suit.SetComponentIndexes(indexes...), nil
	}
	if n.Tag == "!!bool" {
		all, err := b.bool(n, "component index")
		if err == nil && !all {
			err = b.errorf(n, "a component index is a number, a list of numbers, or true for all components")
		}
		return suit.SetAllComponents(), err
	}
	v, err := b.uint(n, "component index")
	return suit.SetComponentIndex(v), err
}

func (b *builder) tryEach(n *yaml.Node, depth int) (suit.Command, error) {
	list, err := b.items(n, "try-each")
	if err != nil {
		return suit.Command{}, err
	}
	if len(list) < 2 {
		return suit.Command{}, b.errorf(n, "try-each needs at least two sequences; the last may be null, which succeeds always")
	}
	sequences := make([]suit.Sequence, len(list))
	for i, item := range list {
		if i == len(list)-1 && item.Tag == "!!null" {
			break
		}
		if sequences[i], err = b.sequence(item, depth+1); err != nil {
			return suit.Command{}, err
		}
	}
	return suit.TryEach(sequences...), nil
}

func (b *builder) overrideMultiple(n *yaml.Node) ([]suit.ComponentParameters, error) {
	list, err := b.fields(n, "override-multiple")
	if err != nil {
		return nil, err
	}
	var entries []suit.ComponentParameters
	for _, f := range list {
		index, err := b.uint(f.key, "component index")
		if err != nil {
			return nil, err
		}
		p, err := b.parameters(f.value)
		if err != nil {
			return nil, err
		}
		entries = append(entries, suit.ComponentParameters{Index: index, Parameters: p})
	}
	return entries, nil
}

func (b *builder) copyParams(n *yaml.Node) ([]suit.CopyParameters, error) {
	list, err := b.fields(n, "copy-params")
	if err != nil {
		return nil, err
	}
	var entries []suit.CopyParameters
	for _, f := range list {
		index, err := b.uint(f.key, "component index")
		if err != nil {
			return nil, err
		}
		names, err := b.items(f.value, "parameters to copy")
		if err != nil {
			return nil, err
		}
		entry := suit.CopyParameters{Source: index}
		for _, name := range names {
			label, ok := parameterLabel(name.Value)
			if !ok {
				return nil, b.errorf(name, "%q is not a parameter", name.Value)
			}
			entry.Labels = append(entry.Labels, label)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (b *builder) customCommand(n *yaml.Node) (c suit.Command, err error) {
	var v any
	if n != nil {
		if v, err = b.customValue(n); err != nil {
			return c, err
		}
	}
	if _, isBool := v.(bool); isBool {
		return c, b.errorf(n, "a custom command takes text, bytes, an integer or null")
	}
	c.Custom, err = cbor.Marshal(v)
	return c, err
}
