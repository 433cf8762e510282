package policy

import (
	"context"
	"sync/atomic"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
)

// Current is a policy that can be replaced while verifiers use it. It implements [eat.Policy] and
// is safe for concurrent use.
type Current struct{ p atomic.Pointer[Policy] }

var _ eat.Policy = (*Current)(nil)

// NewCurrent begins with a policy.
func NewCurrent(p *Policy) *Current {
	c := &Current{}
	c.Replace(p)
	return c
}

// Replace makes p the policy of every appraisal that begins from now on.
func (c *Current) Replace(p *Policy) { c.p.Store(p) }

// ID implements [eat.Policy].
func (c *Current) ID() string { return c.p.Load().ID() }

// Judge implements [eat.Policy].
func (c *Current) Judge(ctx context.Context, a *eat.Appraisal) (attest.Status, []attest.Reason, error) {
	return c.p.Load().Judge(ctx, a)
}
