package suit

import "slices"

// Sequence is SUIT_Command_Sequence, parsed whole with everything nested in it. A sequence that
// is present has at least one command; an empty one stands for the nil that may end a try-each.
//
//	SUIT_Command_Sequence = [ + ( SUIT_Condition // SUIT_Directive // SUIT_Command_Custom ) ]
type Sequence []Command

// Command is one condition or directive with its argument. Which member holds the argument
// depends on the code; the others are zero.
type Command struct {
	Code CommandCode
	// Policy is the argument of every condition, and of every directive that does not name
	// another member below.
	Policy ReportingPolicy
	// Index is the argument of set-component-index.
	Index IndexArg
	// Parameters is the argument of override-parameters and set-parameters.
	Parameters Parameters
	// Sequences is the argument of try-each, in order and perhaps with an empty last one, and of
	// run-sequence, which has exactly one.
	Sequences []Sequence
	// Multiple is the argument of override-multiple, by ascending component index.
	Multiple []ComponentParameters
	// Copies is the argument of copy-params, by ascending component index.
	Copies []CopyParameters
	// Custom is the encoded argument of a custom command: bytes, text, an integer or null.
	Custom []byte

	// Offset is where the command starts, in bytes from the start of the top-level sequence
	// that it belongs to, be it nested or not: suit-record-section-offset of a SUIT_Record.
	// Building ignores it.
	Offset int
}

// IndexArg is the argument of set-component-index: one index, several, or all components.
//
//	IndexArg /= uint
//	IndexArg /= true
//	IndexArg /= [+uint]
type IndexArg struct {
	// All is the value true; Indexes is nil then.
	All bool
	// List tells an array from a single number; an array may have one element.
	List    bool
	Indexes []uint64
}

// ComponentParameters is one entry of override-multiple.
type ComponentParameters struct {
	Index      uint64
	Parameters Parameters
}

// CopyParameters is one entry of copy-params: which parameters come from which component.
type CopyParameters struct {
	Source uint64
	Labels []ParameterLabel
}

// Condition is a condition with its reporting policy.
func Condition(code CommandCode, policy ReportingPolicy) Command {
	return Command{Code: code, Policy: policy}
}

// Directive is a directive whose only argument is a reporting policy.
func Directive(code CommandCode, policy ReportingPolicy) Command {
	return Command{Code: code, Policy: policy}
}

// SetComponentIndex selects one component.
func SetComponentIndex(index uint64) Command {
	return Command{Code: DirSetComponentIndex, Index: IndexArg{Indexes: []uint64{index}}}
}

// SetComponentIndexes selects several components, as an array.
func SetComponentIndexes(indexes ...uint64) Command {
	return Command{Code: DirSetComponentIndex, Index: IndexArg{List: true, Indexes: slices.Clone(indexes)}}
}

// SetAllComponents selects every component.
func SetAllComponents() Command {
	return Command{Code: DirSetComponentIndex, Index: IndexArg{All: true}}
}

// OverrideParameters sets parameters whatever they were.
func OverrideParameters(p Parameters) Command {
	return Command{Code: DirOverrideParameters, Parameters: p}
}

// SetParameters sets the parameters that are not set yet.
func SetParameters(p Parameters) Command {
	return Command{Code: DirSetParameters, Parameters: p}
}

// TryEach runs sequences until one succeeds. A last sequence without commands succeeds always.
func TryEach(sequences ...Sequence) Command {
	return Command{Code: DirTryEach, Sequences: sequences}
}

// RunSequence runs a sequence for each selected component.
func RunSequence(s Sequence) Command {
	return Command{Code: DirRunSequence, Sequences: []Sequence{s}}
}

// OverrideMultiple sets parameters of several components.
func OverrideMultiple(entries ...ComponentParameters) Command {
	return Command{Code: DirOverrideMultiple, Multiple: entries}
}

// CopyParams copies parameters of other components to the selected one.
func CopyParams(entries ...CopyParameters) Command {
	return Command{Code: DirCopyParams, Copies: entries}
}

// argument says which member of a Command its code uses.
type argument uint8

const (
	argUnknown argument = iota
	argPolicy
	argIndex
	argParameters
	argSequence
	argSequences
	argMultiple
	argCopies
	argCustom
)

func (c CommandCode) argument() argument {
	switch c {
	case DirSetComponentIndex:
		return argIndex
	case DirOverrideParameters, DirSetParameters:
		return argParameters
	case DirTryEach:
		return argSequences
	case DirRunSequence:
		return argSequence
	case DirOverrideMultiple:
		return argMultiple
	case DirCopyParams:
		return argCopies
	case DirProcessDependency, DirWrite, DirFetch, DirCopy, DirInvoke, DirWait, DirSwap, DirUnlink:
		return argPolicy
	}
	switch {
	case c.IsCondition():
		return argPolicy
	case c.IsCustom():
		return argCustom
	}
	return argUnknown
}

// sharedAllowed tells whether the command may stand in the shared sequence (SUIT §8.4.5 and its
// CDDL). The CDDL of trust domains leaves set-parameters out, but its dependency template (§9.1)
// puts it there; override-multiple and copy-params are encodings of what is allowed anyway.
func (c CommandCode) sharedAllowed() bool {
	switch c {
	case DirSetComponentIndex, DirRunSequence, DirTryEach, DirOverrideParameters, DirSetParameters,
		DirOverrideMultiple, DirCopyParams:
		return true
	}
	return c.IsCondition()
}
