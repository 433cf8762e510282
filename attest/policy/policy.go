// Package policy judges appraised Evidence by rules that an operator writes in CEL, the Common
// Expression Language, for each class of devices:
//
//	id: https://example.com/policies/edge
//	classes:
//	  - oemid: pen:3704
//	    hwmodel: 4d696c616e          # optional: without it, all models of the vendor
//	    contraindicated:
//	      - if: debug == "enabled"
//	        why: debugging is not for the field
//	    warning:
//	      - if: weaknesses.size() > 0
//	    affirming:
//	      - if: vector.hardware == "affirming" && measurements.exists(m, m.name == "sev-snp-launch")
//
// Of the rules of a device's class, one that contraindicates counts first, then one that warns,
// then one that affirms. Nothing is affirmed by silence: a device of no class, or one that no rule
// affirms, is contraindicated, and so is one for which a rule cannot be evaluated. The verdict of
// reference values and TCB levels stands beside it; the worse of the two counts.
//
// [Parse] checks syntax, names and types of every rule, so that a policy that was saved can be
// asked. What a rule may cost is limited. The variables are the fields of [Device].
package policy

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
)

// ErrPolicy says that a policy file is not usable; the text says where and why.
var ErrPolicy = errors.New("policy: appraisal policy")

// Limits of a policy.
const (
	MaxFileBytes = 1 << 20
	MaxRules     = 1024
	maxRuleBytes = 4096
	// maxCost bounds the evaluation of one rule, in CEL's units: about one per step and element.
	maxCost = 1_000_000
	// interruptEvery is how many iterations of a comprehension run before cancellation is seen.
	interruptEvery = 100
)

// rule is one condition in one class.
type rule struct {
	status attest.Status
	source string
	why    string
	line   int
	run    cel.Program
}

// class is a class and its rules, the worst status first.
type class struct {
	appraisal.Class
	rules []rule
}

// Policy is a checked policy. It is immutable and safe for concurrent use. It implements
// [eat.Policy].
type Policy struct {
	id      string
	classes []class
}

var _ eat.Policy = (*Policy)(nil)

// ID implements [eat.Policy].
func (p *Policy) ID() string { return p.id }

// Size is how many classes and rules it has.
func (p *Policy) Size() (classes, rules int) {
	for _, c := range p.classes {
		rules += len(c.rules)
	}
	return len(p.classes), rules
}

type file struct {
	ID      string   `yaml:"id"`
	Classes []yClass `yaml:"classes"`
}

type yClass struct {
	OEMID           string  `yaml:"oemid"`
	HWModel         string  `yaml:"hwmodel"`
	Affirming       []yRule `yaml:"affirming"`
	Warning         []yRule `yaml:"warning"`
	Contraindicated []yRule `yaml:"contraindicated"`
}

type yRule struct {
	If, Why string
	line    int
}

// UnmarshalYAML keeps the line for error messages, and refuses keys that it does not know, which
// KnownFields does not do below a type that unmarshals itself.
func (r *yRule) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: a rule has an if and, when wanted, a why", n.Line)
	}
	r.line = n.Line
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		target := map[string]*string{"if": &r.If, "why": &r.Why}[key.Value]
		if target == nil || *target != "" || value.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: %q: a rule has one if and, when wanted, one why", key.Line, key.Value)
		}
		*target = value.Value
	}
	return nil
}

// Parse reads and checks a policy. The error is [ErrPolicy] and names the line.
func Parse(data []byte) (*Policy, error) {
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%w: the file has %d bytes, at most %d are read", ErrPolicy, len(data), MaxFileBytes)
	}
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file holds more than one document", ErrPolicy)
	}
	if u, err := url.Parse(f.ID); err != nil || !u.IsAbs() {
		return nil, fmt.Errorf("%w: id %q is not an absolute URI, by which results can name the policy", ErrPolicy, f.ID)
	}
	if len(f.Classes) == 0 {
		return nil, fmt.Errorf("%w: there are no classes: such a policy affirms nothing", ErrPolicy)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("policy: CEL environment: %w", err)
	}
	p := &Policy{id: f.ID}
	total := 0
	for i := range f.Classes {
		c, err := f.Classes[i].compile(env)
		if err != nil {
			return nil, err
		}
		if total += len(c.rules); total > MaxRules {
			return nil, fmt.Errorf("%w: more than %d rules", ErrPolicy, MaxRules)
		}
		for _, other := range p.classes {
			if bytes.Equal(other.OEMID, c.OEMID) && bytes.Equal(other.HWModel, c.HWModel) {
				return nil, fmt.Errorf("%w: class %s %s is there twice", ErrPolicy, f.Classes[i].OEMID, f.Classes[i].HWModel)
			}
		}
		p.classes = append(p.classes, *c)
	}
	return p, nil
}

func (y *yClass) compile(env *cel.Env) (*class, error) {
	c := &class{}
	var err error
	if c.OEMID, err = attest.ParseOEMID(y.OEMID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if c.HWModel, err = hex.DecodeString(y.HWModel); err != nil {
		return nil, fmt.Errorf("%w: hwmodel %q is not hexadecimal", ErrPolicy, y.HWModel)
	}
	if len(y.Affirming) == 0 {
		return nil, fmt.Errorf("%w: class %s %s has no affirming rule: none of its devices could ever be affirmed", ErrPolicy, y.OEMID, y.HWModel)
	}
	for _, group := range []struct {
		status attest.Status
		rules  []yRule
	}{{attest.StatusContraindicated, y.Contraindicated}, {attest.StatusWarning, y.Warning}, {attest.StatusAffirming, y.Affirming}} {
		for _, r := range group.rules {
			program, err := compile(env, r.If)
			if err != nil {
				return nil, fmt.Errorf("%w: line %d: %w", ErrPolicy, r.line, err)
			}
			c.rules = append(c.rules, rule{status: group.status, source: r.If, why: r.Why, line: r.line, run: program})
		}
	}
	return c, nil
}

// environment declares the variables. Functions with side effects or sources of time or chance do
// not exist in CEL.
func environment() (*cel.Env, error) {
	options := []cel.EnvOption{
		ext.NativeTypes(reflect.TypeFor[Device](), ext.ParseStructTag("cel")),
		ext.Strings(),
		cel.ParserExpressionSizeLimit(maxRuleBytes),
		cel.ParserRecursionLimit(64),
		cel.DefaultUTCTimeZone(true),
		cel.ExtendedValidations(),
	}
	return cel.NewEnv(append(options, variables()...)...)
}

func compile(env *cel.Env, source string) (cel.Program, error) {
	if source == "" {
		return nil, errors.New("the rule has no if")
	}
	ast, issues := env.Compile(source)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("%q is a %s; a rule says true or false", source, ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(interruptEvery), cel.EvalOptions(cel.OptOptimize))
}

// Judge implements [eat.Policy].
func (p *Policy) Judge(ctx context.Context, a *eat.Appraisal) (attest.Status, []attest.Reason, error) {
	c := p.classFor(a.Claims)
	if c == nil {
		return p.refuse("no rules for this class of devices; add the class, or check which device this is")
	}
	vars := describe(a).variables()
	for i := range c.rules {
		r := &c.rules[i]
		holds, err := r.holds(ctx, vars)
		if ctxErr := ctx.Err(); ctxErr != nil {
			return attest.StatusNone, nil, ctxErr
		}
		if err != nil {
			return p.refuse(fmt.Sprintf("line %d, %s: cannot be evaluated: %v", r.line, r.source, err))
		}
		if holds {
			return r.status, []attest.Reason{{Claim: "policy " + p.id, Status: r.status, Text: r.text()}}, nil
		}
	}
	return p.refuse(fmt.Sprintf("none of the %d rules for this class affirms the device", len(c.rules)))
}

func (p *Policy) refuse(text string) (attest.Status, []attest.Reason, error) {
	return attest.StatusContraindicated, []attest.Reason{{Claim: "policy " + p.id, Status: attest.StatusContraindicated, Text: text}}, nil
}

func (r *rule) text() string {
	text := fmt.Sprintf("line %d: %s", r.line, r.source)
	if r.why != "" {
		text = fmt.Sprintf("%s (%s)", r.why, text)
	}
	return text
}

func (r *rule) holds(ctx context.Context, vars map[string]any) (bool, error) {
	v, _, err := r.run.ContextEval(ctx, vars)
	if err != nil {
		return false, err
	}
	holds, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it is %v, neither true nor false", v)
	}
	return holds, nil
}

// classFor prefers the class of the model over that of the vendor.
func (p *Policy) classFor(c *eat.Claims) *class {
	var vendor *class
	for i := range p.classes {
		one := &p.classes[i]
		switch {
		case !bytes.Equal(one.OEMID, c.OEMID):
		case len(one.HWModel) == 0:
			vendor = one
		case bytes.Equal(one.HWModel, c.HWModel):
			return one
		}
	}
	return vendor
}
