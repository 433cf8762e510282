package processor

import (
	"fmt"

	"github.com/go-teep/teep/suit"
)

// assign sets parameters of a component. Strict order and soft failure belong to the processor
// and not to a component (SUIT §8.4.8).
func (x *interpreter) assign(f *frame, c *component, p suit.Parameters, override bool) error {
	if v, ok := p.SoftFailure(); ok {
		if f.soft == nil {
			return fail(suit.ReasonOperationFailed,
				"soft failure is set outside of try-each and run-sequence (SUIT §8.4.8.14)")
		}
		*f.soft = v
		p.Delete(suit.ParamSoftFailure)
	}
	if v, ok := p.StrictOrder(); ok {
		f.strict = v
		// Setting strict order to true is a barrier; commands run one by one, so that
		// everything before it has completed.
		f.sources, f.targets = nil, nil
		p.Delete(suit.ParamStrictOrder)
	}
	if p.Len() == 0 {
		return nil
	}
	have := x.params[c.paramKey()]
	x.undo = append(x.undo, undo{x.params, c.paramKey(), have})
	if override {
		have.Override(p)
	} else {
		have.SetMissing(p)
	}
	x.params[c.paramKey()] = have
	return nil
}

// overrideMultiple is set-component-index and override-parameters for each entry; the last
// component stays selected (update management §suit-directive-override-multiple).
func (x *interpreter) overrideMultiple(f *frame, cmd *suit.Command) error {
	for _, e := range cmd.Multiple {
		if err := x.selectComponents(f, suit.IndexArg{Indexes: []uint64{e.Index}}); err != nil {
			return err
		}
		if err := x.assign(f, f.selected[0], e.Parameters, true); err != nil {
			return err
		}
	}
	return nil
}

func (x *interpreter) copyParameters(f *frame, c *component, copies []suit.CopyParameters) error {
	for _, from := range copies {
		source, err := f.n.at(from.Source)
		if err != nil {
			return err
		}
		p := x.params[source.paramKey()].Only(from.Labels...)
		if p.Len() < len(from.Labels) {
			for _, l := range from.Labels {
				if !p.Has(l) {
					return fmt.Errorf("copy-params: component %s has no parameter %s", source.id, l)
				}
			}
		}
		if err := x.assign(f, c, p, true); err != nil {
			return err
		}
	}
	return nil
}
