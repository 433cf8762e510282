package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
)

// updated sends an Update in the agent's suite.
func (r *agentRun) updated(ctx context.Context, u *teep.Update) (*said, error) {
	if r.refused != nil {
		return nil, r.refused
	}
	p, err := r.exchange(ctx, u)
	if err != nil {
		return nil, err
	}
	switch m := p.message.(type) {
	case *teep.Success, *teep.Error:
		if !bytes.Equal(teep.TokenOf(m), u.Token) || (u.Token == nil) != (teep.TokenOf(m) == nil) {
			return nil, fmt.Errorf("the token is %x, not %x", teep.TokenOf(m), u.Token)
		}
		return p, nil
	}
	return nil, fmt.Errorf("answered with %s", describe(p.message))
}

func (r *agentRun) mustSucceed(ctx context.Context, u *teep.Update) (*teep.Success, error) {
	p, err := r.updated(ctx, u)
	if err != nil {
		return nil, err
	}
	m, ok := p.message.(*teep.Success)
	if !ok {
		return nil, fmt.Errorf("answered with %s", describe(p.message))
	}
	return m, nil
}

func (r *agentRun) mustFail(ctx context.Context, u *teep.Update) (*teep.Error, error) {
	p, err := r.updated(ctx, u)
	if err != nil {
		return nil, err
	}
	m, ok := p.message.(*teep.Error)
	if !ok {
		return nil, fmt.Errorf("answered with %s", describe(p.message))
	}
	return m, nil
}

// manifest is one of the manifests that the suite was given.
func (r *agentRun) manifest(i int) ([]byte, error) {
	if len(r.Manifests) <= i {
		return nil, skip("give two manifests that the agent accepts")
	}
	return r.Manifests[i], nil
}

func (r *agentRun) manifestID() (suit.ComponentID, error) {
	data, err := r.manifest(1)
	if err != nil {
		return nil, err
	}
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, err
	}
	m, err := e.UnverifiedManifest()
	if err == nil && m.ComponentID == nil {
		err = skip("the manifest has no manifest-component-id")
	}
	if err != nil {
		return nil, err
	}
	return m.ComponentID, nil
}

// run opens what the manifests installed, if it is an application: reports are about what was started.
func (r *agentRun) run(ctx context.Context) {
	data, err := r.manifest(1)
	if err != nil {
		return
	}
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return
	}
	m, err := e.UnverifiedManifest()
	if err != nil {
		return
	}
	for _, id := range m.Common.Components {
		if app, err := r.Link.OpenSession(ctx, link.ComponentID(id)); err == nil {
			r.Link.CloseSession(ctx, app) //nolint:errcheck // was not used
		}
	}
}

// reports checks nonce and key of SUIT Reports.
func (r *agentRun) reports(all [][]byte, token []byte) error {
	for i, data := range all {
		if len(data) > 0 && data[0] == 0xd2 {
			if _, err := cose.Verify(data, r.keys, cose.VerifyOptions{}); r.keys != nil && err == nil {
				return fmt.Errorf("report %d is signed with the key of the message", i)
			}
			var err error
			if data, err = cose.UnverifiedPayload(data); err != nil {
				return fmt.Errorf("report %d: %w", i, err)
			}
		}
		o := suit.OpenReportOptions{AuthenticatedByContainer: true}
		if r.Decryption != nil {
			o.DecryptKeys = []*cose.Key{r.Decryption}
		}
		opened, err := suit.OpenReport(data, o)
		if err != nil {
			return fmt.Errorf("report %d cannot be read: %w", i, err)
		}
		if !bytes.Equal(opened.Report.Nonce, token) {
			return fmt.Errorf("report %d has the nonce %x, and the token is %x", i, opened.Report.Nonce, token)
		}
	}
	return nil
}

func (r *agentRun) forge(data []byte) ([]byte, error) {
	e, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, err
	}
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		return nil, err
	}
	s, err := key.Signer()
	if err != nil {
		return nil, err
	}
	e = e.Clone()
	e.RemoveSignatures()
	if err := e.Sign(rand.Reader, s); err != nil {
		return nil, err
	}
	return e.Encode(), nil
}

var updateChecks = []check[*agentRun]{
	{"update-empty", "§4.5", Must, "an Update that changes nothing is a Success with its token", func(ctx context.Context, r *agentRun) error {
		_, err := r.mustSucceed(ctx, &teep.Update{Token: random(16)})
		return err
	}},
	{"update-no-token", "§4.5", Must, "without token in the Update there is none in the answer", func(ctx context.Context, r *agentRun) error {
		_, err := r.updated(ctx, &teep.Update{UnneededManifests: []teep.ComponentID{{[]byte("teep-conform"), random(8)}}})
		return err
	}},
	{"update-error", "§4.4", Must, "an Update with err-code is processed in whatever language", func(ctx context.Context, r *agentRun) error {
		_, err := r.updated(ctx, &teep.Update{
			Token: random(16), ErrorCode: teep.ErrTemporaryError, ErrorMessage: "Prüfung", ErrorLanguage: "de-DE",
		})
		return err
	}},
	{"update-err-msg", "§4.4", Must, "err-msg of 129 bytes and err-lang of 36 are rejected", func(ctx context.Context, r *agentRun) error {
		for _, u := range []*teep.Update{
			{Token: random(16), ErrorCode: teep.ErrTemporaryError, ErrorMessage: string(bytes.Repeat([]byte("m"), 129))},
			{Token: random(16), ErrorCode: teep.ErrTemporaryError, ErrorMessage: "m", ErrorLanguage: "en-" + string(bytes.Repeat([]byte("x"), 33))},
		} {
			msg, err := r.raw(u)
			if err != nil {
				return err
			}
			if err := r.rejected(ctx, msg); err != nil {
				return err
			}
		}
		return nil
	}},
	{"update-err-code-0", "§4.4", Must, "an Update with err-code 0 is rejected", func(ctx context.Context, r *agentRun) error {
		payload, err := teep.Encode(&teep.Update{Token: random(16), ErrorCode: teep.ErrTemporaryError})
		if err != nil {
			return err
		}
		m, err := takeApart(payload)
		if err != nil {
			return err
		}
		m.set(labelErrCode, 0)
		msg, err := honest(m.encode(), r.signer).sign(r.signer)
		if err != nil {
			return err
		}
		return r.rejected(ctx, msg)
	}},
	{"update-suite", "§8.1", Must, "an Update that is not in the selected suite is rejected", func(ctx context.Context, r *agentRun) error {
		payload, err := teep.Encode(&teep.Update{Token: random(16)})
		if err != nil {
			return err
		}
		if len(r.signers) < 2 {
			return skip("give the TAM's private keys for both suites")
		}
		msg, err := cose.SignMulti(rand.Reader, payload, r.signers, cose.SignOptions{})
		if err != nil {
			return err
		}
		for _, s := range r.signers {
			if s != r.signer {
				other, err := cose.Sign1(rand.Reader, payload, s, cose.SignOptions{})
				if err := errors.Join(err, r.rejected(ctx, other)); err != nil {
					return fmt.Errorf("%v: %w", s.Algorithm(), err)
				}
			}
		}
		return r.rejected(ctx, msg)
	}},
	{"update-untrusted", "§7.2", Must, "an Update of a TAM that is not trusted changes nothing", func(ctx context.Context, r *agentRun) error {
		manifest, err := r.manifest(0)
		if err != nil {
			return err
		}
		key, err := cose.GenerateKey(rand.Reader, r.signer.Algorithm())
		if err != nil {
			return err
		}
		s, err := key.Signer()
		if err != nil {
			return err
		}
		msg, err := teep.Protect(rand.Reader, &teep.Update{Token: random(16), Manifests: [][]byte{manifest}}, s)
		if err != nil {
			return err
		}
		return r.rejected(ctx, msg)
	}},
	{"manifest-garbage", "§7.2.2", Must, "a manifest that is none is an Error, whose reports carry the token", func(ctx context.Context, r *agentRun) error {
		u := &teep.Update{Token: random(16), Manifests: [][]byte{{0xa1, 0x03, 0x41, 0x00}}}
		e, err := r.mustFail(ctx, u)
		if err != nil {
			return err
		}
		return r.reports(e.SUITReports, u.Token)
	}},
	{"manifest-unsigned", "§7.2.2", Must, "a manifest of an unknown signer is an Error", func(ctx context.Context, r *agentRun) error {
		manifest, err := r.manifest(0)
		if err != nil {
			return err
		}
		if manifest, err = r.forge(manifest); err != nil {
			return err
		}
		_, err = r.mustFail(ctx, &teep.Update{Token: random(16), Manifests: [][]byte{manifest}})
		return err
	}},
	{"manifest-tampered", "§7.2.2", Must, "a payload with one bit turned is an Error", func(ctx context.Context, r *agentRun) error {
		manifest, err := r.manifest(0)
		if err != nil {
			return err
		}
		manifest = bytes.Clone(manifest)
		manifest[len(manifest)-1] ^= 1
		_, err = r.mustFail(ctx, &teep.Update{Token: random(16), Manifests: [][]byte{manifest}})
		return err
	}},
	{"manifest-install", "§7.2.2", Must, "a manifest is installed: Success, whose reports carry the token", func(ctx context.Context, r *agentRun) error {
		manifest, err := r.manifest(0)
		if err != nil {
			return err
		}
		u := &teep.Update{Token: random(16), Manifests: [][]byte{manifest}}
		m, err := r.mustSucceed(ctx, u)
		if err != nil {
			return err
		}
		return r.reports(m.SUITReports, u.Token)
	}},
	{"manifest-newer", "§7.2.2", Must, "a newer manifest takes the place of the older one", func(ctx context.Context, r *agentRun) error {
		manifest, err := r.manifest(1)
		if err == nil {
			_, err = r.mustSucceed(ctx, &teep.Update{Token: random(16), Manifests: [][]byte{manifest}})
		}
		return err
	}},
	{"response-report-nonce", "§4.3", Must, "SUIT Reports in a QueryResponse carry the token as nonce, and another key protects them", func(ctx context.Context, r *agentRun) error {
		r.run(ctx)
		q := r.query(teep.DataTrustedComponents | teep.DataSUITReports)
		m, _, err := r.respond(ctx, q)
		if err != nil {
			return err
		}
		if len(m.SUITReports) == 0 {
			return skip("the agent has no reports")
		}
		return r.reports(m.SUITReports, q.Token)
	}},
	{"manifest-older", "§10", Must, "an older manifest does not come back", func(ctx context.Context, r *agentRun) error {
		manifest, err := r.manifest(1)
		if err == nil {
			_, err = r.mustFail(ctx, &teep.Update{Token: random(16), Manifests: [][]byte{r.Manifests[0], manifest}[:1]})
		}
		return err
	}},
	{"update-replayed", "§10", Must, "an Update that comes again changes nothing", func(ctx context.Context, r *agentRun) error {
		if r.refused != nil {
			return r.refused
		}
		id, err := r.manifestID()
		if err != nil {
			return err
		}
		// What can be seen without a third manifest is that a removal that comes twice is answered
		// and leaves the agent well.
		msg, err := r.raw(&teep.Update{Token: random(16), UnneededManifests: []teep.ComponentID{teep.ComponentID(id)}})
		if err != nil {
			return err
		}
		first, err := r.send(ctx, msg)
		if err != nil {
			return err
		}
		if _, ok := first.message.(*teep.Success); !ok {
			return fmt.Errorf("the removal is answered with %s", describe(first.message))
		}
		if _, err := r.send(ctx, msg); err != nil {
			return err
		}
		return r.absent(ctx, id)
	}},
	{"update-removed", "§4.4", Must, "what was unlinked is not in tc-list any longer", func(ctx context.Context, r *agentRun) error {
		id, err := r.manifestID()
		if err != nil {
			return err
		}
		return r.absent(ctx, id)
	}},
	{"removed-older", "§10", Must, "after its removal an older manifest does not come back either", func(ctx context.Context, r *agentRun) error {
		if _, err := r.manifest(1); err != nil {
			return err
		}
		_, err := r.mustFail(ctx, &teep.Update{Token: random(16), Manifests: r.Manifests[:1]})
		return err
	}},
}

// absent expects that no component of the manifest is in the tc-list.
func (r *agentRun) absent(ctx context.Context, _ suit.ComponentID) error {
	m, _, err := r.respond(ctx, r.query(teep.DataTrustedComponents))
	if err != nil {
		return err
	}
	e, err := suit.ParseEnvelope(r.Manifests[1])
	if err != nil {
		return err
	}
	manifest, err := e.UnverifiedManifest()
	if err != nil {
		return err
	}
	for _, raw := range m.TrustedComponents {
		for _, id := range manifest.Common.Components {
			encoded := must(id.MarshalCBOR())
			if bytes.Contains(raw, encoded) {
				return fmt.Errorf("%v is still there", id)
			}
		}
	}
	return nil
}
