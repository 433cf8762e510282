package suit

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-teep/teep/suit/internal/scan"
)

// Limits on what one manifest may contain.
const (
	// MaxSequenceDepth is how deep try-each and run-sequence may nest, the section itself
	// counting as 1.
	MaxSequenceDepth = 8
	// MaxCommands is the number of commands in one manifest, nested ones included.
	MaxCommands = 65536
	// MaxComponents is the number of components and of dependencies in one manifest.
	MaxComponents = 4096
)

var (
	errTooDeep     = fmt.Errorf("command sequences nest deeper than %d", MaxSequenceDepth)
	errManyCommand = fmt.Errorf("more than %d commands", MaxCommands)
	errEmpty       = errors.New("is empty: at least one is needed")
	errOddLength   = errors.New("has an odd number of elements: each command needs its argument")
	errShared      = errors.New("is not allowed in the shared sequence")
)

// sequenceParser holds what the commands of one manifest share.
type sequenceParser struct {
	commands int  // commands read so far, against MaxCommands
	shared   bool // the shared sequence allows fewer commands
}

// parse reads an encoded sequence. base is where data starts in its section.
func (p *sequenceParser) parse(data []byte, base, depth int) (Sequence, error) {
	if depth > MaxSequenceDepth {
		return nil, errTooDeep
	}
	r := scan.New(data)
	n, err := r.Array()
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, errEmpty
	case n%2 != 0:
		return nil, errOddLength
	}
	if p.commands += n / 2; p.commands > MaxCommands {
		return nil, errManyCommand
	}
	seq := make(Sequence, n/2)
	for i := range seq {
		if err := p.command(&r, &seq[i], base, depth); err != nil {
			return nil, at(at(err, seq[i].name()), "["+strconv.Itoa(i)+"]")
		}
	}
	return seq, r.Done()
}

func (c *Command) name() string {
	if c.Code == 0 {
		return ""
	}
	return c.Code.String()
}

func (p *sequenceParser) command(r *scan.Reader, c *Command, base, depth int) error {
	c.Offset = base + r.Pos()
	code, err := r.Int()
	if err != nil {
		return err
	}
	c.Code = CommandCode(code)
	arg := c.Code.argument()
	if arg == argUnknown {
		return fault(ReasonCommandUnsupported, fmt.Errorf("command %d is not supported", code))
	}
	if p.shared && !c.Code.sharedAllowed() {
		return fault(ReasonCommandUnsupported, errShared)
	}
	return p.argument(r, c, arg, base, depth)
}

func (p *sequenceParser) argument(r *scan.Reader, c *Command, arg argument, base, depth int) (err error) {
	switch arg {
	case argPolicy:
		c.Policy, err = readPolicy(r)
	case argIndex:
		c.Index, err = readIndexArg(r)
	case argParameters:
		c.Parameters, err = p.parameters(r)
	case argSequence:
		var seq Sequence
		seq, err = p.nested(r, base, depth)
		c.Sequences = []Sequence{seq}
	case argSequences:
		c.Sequences, err = p.tryEach(r, base, depth)
	case argMultiple:
		c.Multiple, err = p.overrideMultiple(r)
	case argCopies:
		c.Copies, err = readCopyParams(r)
	case argCustom:
		c.Custom, err = readCustomArgument(r)
	}
	return err
}

func readPolicy(r *scan.Reader) (ReportingPolicy, error) {
	v, err := r.Uint()
	if err == nil && v > uint64(ReportAll) {
		err = fmt.Errorf("reporting policy %d has bits beyond 0 to 3", v)
	}
	return ReportingPolicy(v), err
}

func readIndexArg(r *scan.Reader) (IndexArg, error) {
	switch k := r.Peek(); k {
	case scan.True:
		_, err := r.Bool()
		return IndexArg{All: true}, err
	case scan.Uint:
		v, err := r.Uint()
		return IndexArg{Indexes: []uint64{v}}, err
	case scan.Array:
		list, err := readUints(r)
		return IndexArg{List: true, Indexes: list}, err
	default:
		return IndexArg{}, fmt.Errorf("%w: a component index is a number, true or an array of numbers, not %v", scan.ErrType, k)
	}
}

func readUints(r *scan.Reader) ([]uint64, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	if n == 0 || n > MaxComponents {
		return nil, fmt.Errorf("array has %d elements, 1 to %d are accepted", n, MaxComponents)
	}
	list := make([]uint64, n)
	for i := range list {
		if list[i], err = r.Uint(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (p *sequenceParser) parameters(r *scan.Reader) (Parameters, error) {
	params, err := readParameters(r)
	if err != nil {
		return params, err
	}
	if params.Len() == 0 {
		return params, errEmpty
	}
	if last := params.entries[params.Len()-1].label; p.shared && last < 0 {
		// Custom parameters belong to one vendor and class, which the shared sequence is
		// only about to check (SUIT §8.4.8.17).
		return params, at(fault(ReasonParameterUnsupported, errShared), "parameter "+last.String())
	}
	return params, nil
}

// nested reads a sequence wrapped in a byte string.
func (p *sequenceParser) nested(r *scan.Reader, base, depth int) (Sequence, error) {
	content, err := r.Bytes()
	if err != nil {
		return nil, err
	}
	return p.parse(content, base+r.Pos()-len(content), depth+1)
}

// tryEach reads [2* bstr .cbor SUIT_Command_Sequence, ?nil]. One sequence followed by nil is
// accepted too: the templates of trust domains §9.4 consist of just that.
func (p *sequenceParser) tryEach(r *scan.Reader, base, depth int) ([]Sequence, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	if n < 2 {
		return nil, fmt.Errorf("has %d sequences, at least 2 are needed", n)
	}
	list := make([]Sequence, n)
	for i := range list {
		if i == n-1 && r.Peek() == scan.Null {
			return list, r.Null()
		}
		if list[i], err = p.nested(r, base, depth); err != nil {
			return nil, at(err, "sequence "+strconv.Itoa(i))
		}
	}
	return list, nil
}

func (p *sequenceParser) overrideMultiple(r *scan.Reader) ([]ComponentParameters, error) {
	n, err := componentMap(r)
	if err != nil {
		return nil, err
	}
	list := make([]ComponentParameters, n)
	for i := range list {
		if list[i].Index, err = nextIndex(r, i, func() uint64 { return list[i-1].Index }); err != nil {
			return nil, err
		}
		if list[i].Parameters, err = p.parameters(r); err != nil {
			return nil, at(err, fmt.Sprintf("component %d", list[i].Index))
		}
	}
	return list, nil
}

func readCopyParams(r *scan.Reader) ([]CopyParameters, error) {
	n, err := componentMap(r)
	if err != nil {
		return nil, err
	}
	list := make([]CopyParameters, n)
	for i := range list {
		if list[i].Source, err = nextIndex(r, i, func() uint64 { return list[i-1].Source }); err != nil {
			return nil, err
		}
		labels, err := readInts(r)
		if err != nil {
			return nil, at(err, fmt.Sprintf("component %d", list[i].Source))
		}
		list[i].Labels = make([]ParameterLabel, len(labels))
		for j, label := range labels {
			list[i].Labels[j] = ParameterLabel(label)
		}
	}
	return list, nil
}

func componentMap(r *scan.Reader) (int, error) {
	n, err := r.Map()
	if err == nil && n == 0 {
		err = errEmpty
	}
	return n, err
}

// nextIndex reads a component index that is a map key. The order decides which component is
// selected afterwards (update management §6.8), so that only the canonical one is accepted.
func nextIndex(r *scan.Reader, i int, previous func() uint64) (uint64, error) {
	v, err := r.Uint()
	if err == nil && i > 0 && v <= previous() {
		err = fmt.Errorf("component index %d: keys must ascend without duplicates (SUIT §8.1)", v)
	}
	return v, err
}

// maxInts bounds lists of labels.
const maxInts = 1024

// readInts reads [+ int].
func readInts(r *scan.Reader) ([]int64, error) {
	n, err := r.Array()
	if err != nil {
		return nil, err
	}
	if n == 0 || n > maxInts {
		return nil, fmt.Errorf("array has %d integers, 1 to %d are accepted", n, maxInts)
	}
	list := make([]int64, n)
	for i := range list {
		if list[i], err = r.Int(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// readCustomArgument enforces bstr/tstr/int/nil.
func readCustomArgument(r *scan.Reader) ([]byte, error) {
	switch k := r.Peek(); k {
	case scan.Bytes, scan.Text, scan.Uint, scan.Nint, scan.Null:
		return r.Item()
	default:
		return nil, fmt.Errorf("%w: a custom command takes bytes, text, an integer or null, not %v", scan.ErrType, k)
	}
}
