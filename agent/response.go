package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tee"
)

// maxNonce is the most that an eat_nonce holds, in bytes (RFC 9711 §4.1); a challenge may be longer
// for other formats (TEEP §4.2).
const maxNonce = 64

// question is what a QueryResponse answers, whether it was just asked or is known from before.
type question struct {
	items     teep.DataItem
	token     []byte
	challenge []byte
	profile   teep.SUITProfile
	freshness teep.FreshnessMechanism
	// formats are what the TAM wants Evidence to be, preferred first; nil: it does not say.
	formats []string
	// version is the one that was selected; nil if the TAM named none.
	version *teep.Version
	// result is what a verifier made of the agent's Evidence; nil if there is none. asked tells whether
	// one was to make it.
	result *attest.Evidence
	asked  bool
}

// response makes the QueryResponse for a TAM. It holds what is the TAM's own, and nothing of what
// belongs to others.
func (a *Agent) response(ctx context.Context, tam *trust.TAM, q question) (*teep.QueryResponse, error) {
	record := a.snapshot()
	r := &teep.QueryResponse{
		Token:               q.token,
		SelectedVersion:     q.version,
		RequestedComponents: requestedList(record, tam.Name),
		UnneededManifests:   unneededList(record, tam.Name),
	}
	var err error
	if q.items.Has(teep.DataAttestation) {
		if err := a.attest(ctx, r, record, tam, q); err != nil {
			return nil, err
		}
	} else if q.result != nil {
		// A result whose nonce is the token, which nobody asked for: that is what the passport model
		// looks like under nonces, because a request has a token only where it does not ask for
		// attestation (TEEP §4.2, §9). Without one, the TAM relies on what it knows or asks for
		// Evidence.
		if err := a.enclose(r, *q.result, tam, q); err != nil {
			a.log.Error("Attestation Result left out", "tam", tam.Name, "error", err)
		}
	}
	if q.items.Has(teep.DataTrustedComponents) {
		if r.TrustedComponents, err = componentList(record, tam.Name); err != nil {
			return nil, err
		}
	}
	if q.items.Has(teep.DataExtensions) {
		if err := a.nameExtensions(r); err != nil {
			return nil, err
		}
	}
	if q.items.Has(teep.DataSUITReports) {
		if r.SUITReports, err = a.bootReports(record, tam, q); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// attest puts the attestation payload in: an Attestation Result, where the request has the form for
// it, or else new Evidence. Either goes only to a TAM that is authentic and trusted, and encrypted
// where its key is known (TEEP §13).
func (a *Agent) attest(ctx context.Context, r *teep.QueryResponse, record *state.Record, tam *trust.TAM, q question) error {
	request := attest.Request{
		Nonce: q.challenge, AgentKey: a.message.Public(), Components: attestedComponents(record, tam.Name),
		EncryptionKey: a.encryptionKey(),
	}
	if q.challenge == nil {
		if p := record.TAMs[tam.Name].Passport; a.presentable(p) {
			return a.enclose(r, attest.Evidence{MediaType: p.Format, Payload: p.Result}, tam, q)
		}
		if q.result != nil {
			return a.enclose(r, *q.result, tam, q)
		}
		if q.freshness != teep.FreshnessTimestamp || !a.cfg.Policy.Timestamps {
			return withoutFreshness(q)
		}
	}
	if len(q.challenge) > maxNonce {
		text := fmt.Sprintf("challenge of %d bytes does not fit into an eat_nonce of %d", len(q.challenge), maxNonce)
		return teep.NewProtocolError(teep.ErrPermanentError, text, nil)
	}
	if q.freshness == teep.FreshnessTimestamp {
		request.Nonce = nil
	}
	evidence, err := a.cfg.Attester.Attest(ctx, a.chooseFormat(tam.Name, q.formats), request)
	if err != nil {
		return fmt.Errorf("agent: evidence: %w", err)
	}
	return a.enclose(r, evidence, tam, q)
}

// withoutFreshness refuses a request for attestation that there is nothing fresh to answer with. Where a
// verifier should have made a result and did not, the next mechanism may do: a TAM that hears which ones
// are left sends a challenge (TEEP §9).
func withoutFreshness(q question) error {
	switch {
	case q.asked && q.freshness == teep.FreshnessTimestamp:
		e := teep.NewProtocolError(teep.ErrUnsupportedFreshnessMechanisms, "no Attestation Result could be had: send a challenge", nil)
		e.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessNonce}
		return e
	case q.asked:
		return teep.NewProtocolError(teep.ErrTemporaryError, "no Attestation Result could be had: send a challenge, or ask again later", nil)
	}
	return teep.NewProtocolError(teep.ErrPermanentError, "attestation is requested without a challenge, and timestamps do not count", nil)
}

// encryptionKey is what a TAM may wrap content keys to; nil if the TEE has none.
func (a *Agent) encryptionKey() *cose.Key {
	key, err := a.cfg.TEE.Keys().Public(tee.KeyEncryption)
	if err != nil {
		a.log.Error("no encryption key in the Evidence", "error", err)
		return nil
	}
	return key
}

// enclose puts an attestation payload in, encrypted to the TAM where its key is known (TEEP §8.2).
func (a *Agent) enclose(r *teep.QueryResponse, e attest.Evidence, tam *trust.TAM, q question) error {
	payload := e.Payload
	if tam.Encryption != nil {
		var err error
		if payload, err = eat.Encrypt(a.cfg.Rand, payload, tam.Encryption, q.profile.Encryption); err != nil {
			return fmt.Errorf("agent: evidence: %w", err)
		}
	} else {
		a.log.Warn("evidence is sent without encryption: the TAM's trust anchor has no encryption-key", "tam", tam.Name)
	}
	r.AttestationFormat, r.AttestationPayload = e.MediaType, payload
	return nil
}

// presentable tells whether there is a passport that is not too old.
func (a *Agent) presentable(p *state.Passport) bool {
	return p != nil && a.cfg.Policy.PassportAge != 0 && a.now().Sub(p.Received) <= a.cfg.Policy.PassportAge
}

// requestedList is the requested-tc-list: what applications asked for and this TAM should serve.
func requestedList(record *state.Record, tam string) []teep.RequestedComponent {
	var list []teep.RequestedComponent
	for _, key := range slices.Sorted(maps.Keys(record.Requested)) {
		q := record.Requested[key]
		if q.TAM != tam {
			continue
		}
		c := teep.RequestedComponent{ID: teep.ComponentID(q.ID)}
		if q.MinSequence > 0 {
			c.MinSequence = &q.MinSequence
		}
		if q.Binary != nil {
			have := true
			c.HaveBinary = &have
		}
		list = append(list, c)
	}
	return list
}

// unneededList is the unneeded-manifest-list: manifests of the TAM none of whose components is needed by
// an application. Others may depend on them; whether they can be unlinked is for the TAM to say, which
// may have put a manifest of its own around them (TEEP §4.3).
func unneededList(record *state.Record, tam string) []teep.ComponentID {
	var list []teep.ComponentID
	for _, key := range slices.Sorted(maps.Keys(record.Manifests)) {
		m := record.Manifests[key]
		if m.Owner == tam && unneeded(record, m) {
			list = append(list, teep.ComponentID(m.ID))
		}
	}
	return list
}

func unneeded(record *state.Record, m state.Manifest) bool {
	some := false
	for _, id := range m.Components {
		if !record.Installed(id) {
			continue
		}
		if !givenUp(record, m, id) {
			return false
		}
		some = true
	}
	return some
}

// givenUp tells whether applications gave up the component, or the one of the same manifest that it lies
// below: nobody asks for an application's data, or for its ciphertext, by itself.
func givenUp(record *state.Record, m state.Manifest, id suit.ComponentID) bool {
	return slices.ContainsFunc(m.Components, func(above suit.ComponentID) bool {
		_, ok := record.Unneeded[above.Key()]
		return ok && id.HasPrefix(above)
	})
}

// componentList is the tc-list: system-property-claims of each component of the TAM. Digest and
// size are measured, the rest is what the manifest said.
func componentList(record *state.Record, tam string) ([]cbor.RawMessage, error) {
	list := []cbor.RawMessage{}
	for _, key := range slices.Sorted(maps.Keys(record.Components)) {
		c := record.Components[key]
		if c.Owner != tam || c.Content == nil {
			continue
		}
		claims, err := propertyClaims(c)
		if err != nil {
			return nil, err
		}
		list = append(list, claims)
	}
	return list, nil
}

// systemComponentID is the label of the component identifier in system-property-claims
// (SUIT report §11).
const systemComponentID = 0

func propertyClaims(c state.Component) (cbor.RawMessage, error) {
	var p suit.Parameters
	if c.Parameters != nil {
		if err := p.UnmarshalCBOR(c.Parameters); err != nil {
			return nil, err
		}
	}
	p = p.Only(suit.ParamVendorIdentifier, suit.ParamClassIdentifier, suit.ParamDeviceIdentifier, suit.ParamImageDigest, suit.ParamVersion)
	if d, ok := p.Digest(); !ok || d.Algorithm == cose.AlgSHA256 {
		p.SetDigest(suit.Digest{Algorithm: cose.AlgSHA256, Bytes: slices.Clone(c.Content.SHA256[:])})
	}
	p.SetSize(uint64(c.Content.Size))
	claims := map[int64]cbor.RawMessage{}
	for _, label := range p.Labels() {
		value, _ := p.Raw(label)
		claims[int64(label)] = value
	}
	id, err := c.ID.MarshalCBOR()
	if err != nil {
		return nil, err
	}
	claims[systemComponentID] = id
	return cbor.Marshal(claims)
}

// attestedComponents are the installed components of a TAM, as Evidence names them.
func attestedComponents(record *state.Record, tam string) []attest.Component {
	var list []attest.Component
	for _, key := range slices.Sorted(maps.Keys(record.Components)) {
		c := record.Components[key]
		m, ok := record.Installer(c.ID)
		if c.Owner != tam || c.Content == nil || !ok {
			continue
		}
		uri, digest := manifestReference(m)
		list = append(list, attest.Component{ID: c.ID, ManifestURI: uri, ManifestDigest: digest, SequenceNumber: m.Sequence})
	}
	return list
}

// manifestReference returns a manifest's reference URI and SHA-256. The envelope comes from sealed
// state; it was authenticated when it was installed.
func manifestReference(m state.Manifest) (uri string, sha256 []byte) {
	if m.Digest.Algorithm == cose.AlgSHA256 {
		sha256 = m.Digest.Bytes
	}
	e, err := suit.ParseEnvelope(m.Envelope)
	if err != nil {
		return "", sha256
	}
	manifest, err := e.UnverifiedManifest()
	if err != nil {
		return "", sha256
	}
	if sha256 == nil {
		if wrapped, err := cbor.Marshal(e.ManifestBytes); err == nil {
			sha256 = suit.NewDigest(wrapped).Bytes
		}
	}
	if manifest.ReferenceURI != nil {
		uri = *manifest.ReferenceURI
	}
	return uri, sha256
}

// bootReports are the SUIT Reports of the last start of each of the TAM's applications
// (TEEP §4.3), with the request's token as nonce.
func (a *Agent) bootReports(record *state.Record, tam *trust.TAM, q question) ([][]byte, error) {
	a.mu.Lock()
	var reports []*suit.Report
	for _, key := range slices.Sorted(maps.Keys(a.boot)) {
		if m, ok := record.Manifests[key]; ok && m.Owner == tam.Name {
			r := *a.boot[key]
			r.Nonce = q.token
			reports = append(reports, &r)
		}
	}
	a.mu.Unlock()
	return a.protectReports(reports, tam, q.profile)
}
