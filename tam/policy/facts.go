package policy

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// ErrInvalid says that a record of policy cannot be saved; the text says what is wrong and what to do.
var ErrInvalid = errors.New("policy: cannot be saved")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Facts is what conditions see of a device. Each field is a variable, by the name in its comment.
// A text that is not known is empty.
type Facts struct {
	ID          string // id
	UEID        string // ueid, in hexadecimal
	OEMID       string // oemid, as in "pen:3704"
	HWModel     string // hwmodel, in hexadecimal
	HWVersion   string // hwversion
	Attestation string // attestation: affirming, warning, contraindicated or none
	Measurement string // measurement, in hexadecimal
	// Claims has the tier of each appraised claim, by its name: claims["measurement"] == "affirming".
	Claims map[string]string
	// Labels are what operators wrote on the device: labels.site, or labels[?"site"].orValue("").
	Labels map[string]string
	// Inventory has the sequence number of each installed manifest, by its identifier as text:
	// inventory["'acme'/'app'"] >= 3u.
	Inventory map[string]uint64
	FirstSeen time.Time // first_seen

	vars map[string]any
}

func declarations() []cel.EnvOption {
	texts := cel.MapType(cel.StringType, cel.StringType)
	options := []cel.EnvOption{
		cel.Variable("claims", texts), cel.Variable("labels", texts),
		cel.Variable("inventory", cel.MapType(cel.StringType, cel.UintType)),
		cel.Variable("first_seen", cel.TimestampType),
	}
	for _, name := range []string{"id", "ueid", "oemid", "hwmodel", "hwversion", "attestation", "measurement"} {
		options = append(options, cel.Variable(name, cel.StringType))
	}
	return options
}

func (f *Facts) variables() map[string]any {
	if f.vars == nil {
		f.vars = map[string]any{
			"id": f.ID, "ueid": f.UEID, "oemid": f.OEMID, "hwmodel": f.HWModel, "hwversion": f.HWVersion,
			"attestation": f.Attestation, "measurement": f.Measurement,
			"claims": present(f.Claims), "labels": present(f.Labels), "inventory": present(f.Inventory),
			"first_seen": f.FirstSeen,
		}
	}
	return f.vars
}

func present[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// Limits of conditions.
const (
	// MaxCondition bounds the text of a condition, in bytes.
	MaxCondition = 4096
	// maxCost bounds an evaluation in CEL's units, about one per step and element: some hundreds of
	// microseconds.
	maxCost = 20_000
	// maxCompiled bounds what a compiler remembers.
	maxCompiled = 2048
)

// Compiler checks and compiles conditions, each once. It is safe for concurrent use.
type Compiler struct {
	env  *cel.Env
	mu   sync.Mutex
	done map[string]*Condition
}

// NewCompiler makes a compiler. Conditions have the variables of [Facts], the functions of CEL and its
// strings extension, and optional values; nothing in them has side effects or knows time or chance.
func NewCompiler() (*Compiler, error) {
	env, err := cel.NewEnv(append(declarations(), ext.Strings(), cel.OptionalTypes(),
		cel.ParserExpressionSizeLimit(MaxCondition), cel.ParserRecursionLimit(64),
		cel.DefaultUTCTimeZone(true), cel.ExtendedValidations())...)
	if err != nil {
		return nil, fmt.Errorf("policy: CEL environment: %w", err)
	}
	return &Compiler{env: env, done: make(map[string]*Condition)}, nil
}

// Condition is a compiled condition. It is immutable and safe for concurrent use.
type Condition struct {
	source  string
	program cel.Program
}

// Compile checks a condition; the error is [ErrInvalid] and points at the fault.
func (c *Compiler) Compile(source string) (*Condition, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done := c.done[source]; done != nil {
		return done, nil
	}
	switch {
	case source == "":
		return nil, invalid("the condition is empty: write true for all devices")
	case len(source) > MaxCondition:
		return nil, invalid("the condition has %d bytes: at most %d are read", len(source), MaxCondition)
	}
	ast, issues := c.env.Compile(source)
	if err := issues.Err(); err != nil {
		return nil, invalid("the condition does not compile: %w", err)
	}
	if ast.OutputType() != cel.BoolType {
		return nil, invalid("the condition is a %s: it has to say true or false", ast.OutputType())
	}
	program, err := c.env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, invalid("the condition does not compile: %w", err)
	}
	if len(c.done) >= maxCompiled {
		clear(c.done)
	}
	done := &Condition{source, program}
	c.done[source] = done
	return done, nil
}

// Holds evaluates the condition for a device. With an error it is false: the condition is about
// something that is not known of the device, or costs too much. f must not be used by others meanwhile.
func (c *Condition) Holds(f *Facts) (bool, error) {
	if c.source == "true" {
		return true, nil
	}
	value, _, err := c.program.Eval(f.variables())
	if err != nil {
		return false, fmt.Errorf("policy: %s: %w", c.source, err)
	}
	holds, ok := value.Value().(bool)
	return ok && holds, nil
}

// String returns the text of the condition.
func (c *Condition) String() string { return c.source }
