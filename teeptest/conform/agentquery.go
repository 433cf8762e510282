package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
)

// answered makes a check of the QueryResponse to an honest QueryRequest.
func answered(items teep.DataItem, look func(r *agentRun, q *teep.QueryRequest, m *teep.QueryResponse, p *said) error) func(context.Context, *agentRun) error {
	return func(ctx context.Context, r *agentRun) error {
		q := r.query(items)
		m, p, err := r.respond(ctx, q)
		if err != nil {
			return err
		}
		return look(r, q, m, p)
	}
}

var agentQueryChecks = []check[*agentRun]{
	{"query-answered", "§7.2.1", Must, "an honest QueryRequest is answered with a QueryResponse, or a demand that the TAM attests itself", func(_ context.Context, r *agentRun) error {
		return r.refused
	}},
	{"response-signed", "§8.1", Must, "the QueryResponse is a COSE_Sign1 of a mandatory suite by the agent's key", answered(teep.DataTrustedComponents, func(r *agentRun, _ *teep.QueryRequest, _ *teep.QueryResponse, p *said) error {
		if r.keys == nil {
			return skip("the agent's key is not known; give it")
		}
		if p.opened.Multiple || !slices.ContainsFunc(teep.MandatoryCipherSuites(), p.opened.Suite.Equal) {
			return fmt.Errorf("it is protected with %v", p.opened.Suite)
		}
		return nil
	})},
	{"response-token", "§4.3", Must, "the token of the QueryRequest comes back", answered(teep.DataTrustedComponents, func(_ *agentRun, q *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if !bytes.Equal(q.Token, m.Token) {
			return fmt.Errorf("%x in place of %x", m.Token, q.Token)
		}
		return nil
	})},
	{"response-no-token", "§4.3", Must, "without token in the QueryRequest there is none in the QueryResponse", answered(teep.DataAttestation, func(_ *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if m.Token != nil {
			return fmt.Errorf("there is %x", m.Token)
		}
		return nil
	})},
	{"response-tc-list", "§4.3", Must, "tc-list is there when it is asked for", answered(teep.DataTrustedComponents, func(_ *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if m.TrustedComponents == nil {
			return errors.New("it is not")
		}
		return nil
	})},
	{"response-ext-list", "§4.3", Must, "ext-list is there when it is asked for", answered(teep.DataExtensions, func(_ *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if m.ExtensionList == nil {
			return errors.New("it is not")
		}
		return nil
	})},
	{"response-attestation", "§4.3", Must, "attestation-payload is there when it is asked for", answered(teep.DataAttestation, func(_ *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if m.AttestationPayload == nil {
			return errors.New("it is not")
		}
		return nil
	})},
	{"response-version", "§4.3", Must, "the selected version was offered", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.Versions = []teep.Version{0, 4711}
		m, _, err := r.respond(ctx, q)
		if err == nil && m.SelectedVersion != nil && *m.SelectedVersion != 0 {
			err = fmt.Errorf("selected-version is %d", *m.SelectedVersion)
		}
		return err
	}},
	{"response-requested", "§4.3", Should, "what was requested and is not installed is in requested-tc-list", answered(teep.DataTrustedComponents, func(r *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		for _, c := range m.RequestedComponents {
			if slices.EqualFunc(c.ID, r.Component, bytes.Equal) {
				return nil
			}
		}
		return fmt.Errorf("it is not among %d", len(m.RequestedComponents))
	})},
	{"unsolicited", "§7.2", Must, "after a QueryRequest with a token the agent sends no unsolicited QueryResponse", func(ctx context.Context, r *agentRun) error {
		if _, _, err := r.respond(ctx, r.query(teep.DataTrustedComponents)); err != nil {
			return err
		}
		ask, err := r.open(ctx)
		if err == nil && ask.Message != nil {
			err = errors.New("RequestTA brings a message")
		}
		return err
	}},
	{"query-unknown-option", "§6", Should, "an option that nobody knows is tolerated", func(ctx context.Context, r *agentRun) error {
		q := r.query(teep.DataTrustedComponents)
		q.Extensions = map[uint64]teep.RawMessage{labelExtension: must(cborText("extension"))}
		_, _, err := r.respond(ctx, q)
		return err
	}},
	{"query-unknown-items", "§4.2", Should, "bits of data-item-requested that nobody knows are tolerated", func(ctx context.Context, r *agentRun) error {
		_, _, err := r.respond(ctx, r.query(teep.DataTrustedComponents|1<<17))
		return err
	}},
	{"query-sign1", "§8.1", Must, "a QueryRequest in the agent's own suite is accepted", func(ctx context.Context, r *agentRun) error {
		return r.acceptedAs(ctx, func(*parts) {})
	}},
	{"query-unknown-header", "§4.1.2 step 3", Should, "a header parameter that nobody knows and that is not critical is ignored", func(ctx context.Context, r *agentRun) error {
		return r.acceptedAs(ctx, unknownHeaders)
	}},
	{"query-untagged", "§4.1.2", Should, "a COSE_Sign1 without tag is accepted", func(ctx context.Context, r *agentRun) error {
		return r.acceptedAs(ctx, func(p *parts) { p.tag = 0 })
	}},
}

// acceptedAs expects a QueryResponse to a QueryRequest that is one COSE_Sign1.
func (r *agentRun) acceptedAs(ctx context.Context, change func(*parts)) error {
	if r.refused != nil {
		return r.refused
	}
	payload, err := teep.Encode(r.query(teep.DataTrustedComponents))
	if err != nil {
		return err
	}
	msg, err := signed(change)(payload, r.signer)
	if err != nil {
		return err
	}
	p, err := r.send(ctx, msg)
	if err != nil {
		return err
	}
	if _, ok := p.message.(*teep.QueryResponse); !ok {
		return fmt.Errorf("answered with %s, %v", describe(p.message), p.refused)
	}
	return nil
}

// claimed makes a check of the claims in an EAT.
func claimed(look func(r *agentRun, q *teep.QueryRequest, c *eat.Claims) error) func(context.Context, *agentRun) error {
	return answered(teep.DataAttestation, func(r *agentRun, q *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		c, err := r.claims(m)
		if err != nil {
			return err
		}
		return look(r, q, c)
	})
}

var evidenceChecks = []check[*agentRun]{
	{"evidence-nonce", "§9", Must, "the challenge is the eat_nonce", claimed(func(_ *agentRun, q *teep.QueryRequest, c *eat.Claims) error {
		if !bytes.Equal(c.Nonce, q.Challenge) {
			return fmt.Errorf("eat_nonce is %x", c.Nonce)
		}
		return nil
	})},
	{"evidence-claims", "§5", Must, "ueid, oemid, hwmodel, hwversion, manifests and cnf are there", claimed(func(_ *agentRun, _ *teep.QueryRequest, c *eat.Claims) error {
		for name, missing := range map[string]bool{
			"ueid": c.UEID == nil, "oemid": c.OEMID == nil, "hwmodel": c.HWModel == nil,
			"hwversion": c.HWVersion == nil, "manifests": c.Manifests == nil, "cnf": c.Confirmation == nil,
		} {
			if missing {
				return fmt.Errorf("%s is missing", name)
			}
		}
		return nil
	})},
	{"evidence-cnf", "§5", Must, "cnf names the agent's key", claimed(func(r *agentRun, _ *teep.QueryRequest, c *eat.Claims) error {
		if len(r.keys) == 0 {
			return skip("the agent's key is not known; give it")
		}
		return c.Confirmation.Names(r.keys[0].Key(), cose.AlgSHA256, cose.AlgSHA384, cose.AlgSHA512)
	})},
	{"evidence-strict", "§5", Must, "the EAT has definite lengths, preferred serialization and no tags within", answered(teep.DataAttestation, func(r *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		token, err := r.token(m)
		if err != nil {
			return err
		}
		payload, err := cose.UnverifiedPayload(token)
		if err != nil {
			return err
		}
		return preferred(payload)
	})},
	{"evidence-key", "§8.2", Must, "Evidence is signed with another key than the message", answered(teep.DataAttestation, func(r *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if r.keys == nil {
			return skip("the agent's key is not known; give it")
		}
		token, err := r.token(m)
		if err != nil {
			return err
		}
		if _, err := cose.Verify(token, r.keys, cose.VerifyOptions{}); err == nil {
			return errors.New("the agent's message key signed it")
		}
		return nil
	})},
	{"evidence-fresh", "§9", Must, "Evidence is made anew for every challenge", func(ctx context.Context, r *agentRun) error {
		first, _, err := r.respond(ctx, r.query(teep.DataAttestation))
		if err != nil {
			return err
		}
		second, _, err := r.respond(ctx, r.query(teep.DataAttestation))
		if err == nil && bytes.Equal(first.AttestationPayload, second.AttestationPayload) {
			err = errors.New("the same came twice")
		}
		return err
	}},
	{"evidence-encrypted", "§8.2", Should, "Evidence is encrypted to the TAM", answered(teep.DataAttestation, func(_ *agentRun, _ *teep.QueryRequest, m *teep.QueryResponse, _ *said) error {
		if !eat.IsEncrypted(m.AttestationPayload) {
			return errors.New("it is in the clear")
		}
		return nil
	})},
}
