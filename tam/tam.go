package tam

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/policy"
)

// Config is what a TAM is made of. Fields without a default named here are required.
type Config struct {
	// Signers and DecryptionKeys are the keys that the TAM begins with, as in [KeyRing]; [TAM.SetKeys] replaces
	// them.
	Signers        []cose.Signer
	DecryptionKeys []*cose.Key
	// AgentCertificates validates the x5chain of agents that send one: it tells a new agent's key
	// where the attestation payload does not. nil: chains are not looked at. A chain that is not
	// acceptable makes the message invalid. It does not replace attestation.
	AgentCertificates CertificateValidator
	// InsecureOlderPeers allows signers for ES256 (-7) and EdDSA (-8), and accepts messages signed
	// so, for agents of earlier drafts. These algorithms leave the curve open.
	InsecureOlderPeers bool
	// Verifier appraises Evidence (background-check model). One of Verifier and Results is
	// required.
	Verifier attest.Verifier
	// Results checks the Attestation Results that agents bring along (passport model): that
	// a verifier which this TAM trusts signed them, that cnf names the agent, and that they
	// are fresh (TEEP §7.1.1.1). nil: they are refused.
	Results attest.Verifier
	// EvidenceFormats are the media types that Evidence should have, the preferred one first; agents
	// that know this project's extension choose among them. Empty: agents give what they prefer.
	EvidenceFormats []string
	// Attester attests the TAM itself to agents that demand it (ERR_ATTESTATION_REQUIRED).
	// nil: the demand is logged.
	Attester attest.Attester
	// AgentEncryption finds the key that the TAM's own attestation is encrypted to for an agent
	// (TEEP §13), by the kid of the agent's message, which is a thumbprint; nil, or nil for an
	// agent: it is not encrypted.
	AgentEncryption func(agent []byte) *cose.Key
	// Recorder is given the messages of sessions; nil: they are not recorded.
	Recorder Recorder
	// Observer follows the messages of sessions; nil: nobody does, which costs nothing.
	Observer Observer
	// Distribution lets the TAM bring devices keys and data of their own, which takes
	// DecryptionKeys too. nil: none can be deposited.
	Distribution *Distribution
	Store        Store
	Blobs        Blobs
	// Payloads are those that lie beside their envelopes, and PayloadURIs where devices fetch them: the URI
	// of a payload is one of these, a slash and its SHA-256 in hexadecimal. Publish then checks that
	// they are there. nil: the TAM has none.
	Payloads    Payloads
	PayloadURIs []string
	Policy      Policy
	// AllowList names devices that are accepted without asking, where Policy.Admission does not
	// accept all. It is asked for each device that is not accepted yet. nil: there is none.
	AllowList func() *policy.AllowList
	// Clock defaults to time.Now, Rand to crypto/rand, Logger to slog.Default().
	Clock  func() time.Time
	Rand   io.Reader
	Logger *slog.Logger
}

// CertificateValidator says whether a chain of DER certificates, end entity first, may be relied upon
// now, and returns the end entity. *cose.CertificateKeys is one. Safe for concurrent use.
type CertificateValidator interface {
	Validate(chain [][]byte) (*x509.Certificate, error)
}

// Query says what a QueryRequest asks for.
type Query int

const (
	// QueryAttested asks for attestation each time, under a fresh challenge.
	QueryAttested Query = iota
	// QueryToken does not ask for attestation: the QueryRequest has a token, which is also the
	// nonce for agents that bring an Attestation Result (passport model, TEEP §9). Agents
	// whose last attestation is older than Policy.ReattestAfter are asked again with a challenge.
	QueryToken
	// QueryTimestamp asks for attestation that is fresh by its timestamp, with neither token nor
	// challenge: agents may present an Attestation Result that they were given before, and answer
	// the next time without being asked (TEEP §7.2). It needs Policy.AcceptTimestamps. Agents
	// that know nonces only are asked again with a challenge.
	QueryTimestamp
)

// Admission says what becomes of a device that is seen for the first time.
type Admission int

const (
	// AdmitAttested accepts every device whose attestation is good.
	AdmitAttested Admission = iota
	// AdmitManually keeps new devices pending until a rule ([policy.Admission]), the allow-list or
	// an operator accepts them.
	AdmitManually
)

// Reenrolment says what becomes of a new agent key whose attested UEID the TAM knows already: the same
// device after a key rotation or a reset, or a further TEE of it.
type Reenrolment int

const (
	// ReenrolManually makes a record of its own, which a person may let take the place of the old
	// one ([TAM.ReplaceDevice]).
	ReenrolManually Reenrolment = iota
	// ReenrolAutomatically lets the new record take the place of the old one when the appraisal
	// affirms the UEID and exactly one record in service has it, with the same vendor and model.
	// It is for fleets with one TEE in each device.
	ReenrolAutomatically
)

// Policy are the choices that the protocol leaves to a TAM. The zero value is a safe default.
type Policy struct {
	Query       Query
	Admission   Admission
	Reenrolment Reenrolment
	// TokenLifetime is how long tokens and challenges are good for: it bounds how long an
	// agent may work on an Update. Default 12 hours (TEEP §7.1 recommends several hours).
	TokenLifetime time.Duration
	// TokenKeyRotation is how often the key of the tokens changes. Default 24 hours.
	TokenKeyRotation time.Duration
	// ReattestAfter is the age up to which QueryToken relies on the last attestation.
	// Default 24 hours.
	ReattestAfter time.Duration
	// AcceptTimestamps accepts attestation payloads that are fresh by timestamp instead of a
	// nonce, up to MaxEvidenceAge. Each is accepted once.
	AcceptTimestamps bool
	// MaxEvidenceAge bounds the age of timestamped Evidence. Default 5 minutes.
	MaxEvidenceAge time.Duration
	// MaxResultAge bounds the age of Attestation Results that agents present under no nonce; they
	// say themselves when they expire, which may be sooner. Default 1 hour.
	MaxResultAge time.Duration
	// OfferAll offers the cipher suite of every signer in the first QueryRequest, which costs a
	// signature each, and not only the two that are mandatory.
	OfferAll bool
	// AskExtensions and AskSUITReports also ask for the extensions that agents support and for the
	// SUIT Reports of their last start (TEEP §4.2).
	AskExtensions, AskSUITReports bool
	// AcceptWarning serves devices whose appraisal ended in a warning (AR4SI).
	AcceptWarning bool
	// PassResults sends the Attestation Result back to agents that sent Evidence, as a
	// passport for other relying parties (TEEP §4.4).
	PassResults bool
	// Healing lists manifests that are offered to devices whose attestation failed, because
	// they may repair them (TEEP §7.1.1.1, case 1).
	Healing []suit.ComponentID
	// PermanentPause is how long what failed on a device is not offered to it again; it
	// doubles with every failure. Default 1 hour. TemporaryPause is that after a failure that
	// the device calls temporary. Default 1 minute.
	PermanentPause, TemporaryPause time.Duration
}

func (p Policy) withDefaults() Policy {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&p.TokenLifetime, 12 * time.Hour},
		{&p.TokenKeyRotation, 24 * time.Hour},
		{&p.ReattestAfter, 24 * time.Hour},
		{&p.MaxEvidenceAge, 5 * time.Minute},
		{&p.MaxResultAge, time.Hour},
		{&p.PermanentPause, time.Hour},
		{&p.TemporaryPause, time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return p
}

// TAM is a Trusted Application Manager. All methods are safe for concurrent use.
type TAM struct {
	keys     atomic.Pointer[keyRing]
	certs    CertificateValidator
	verifier attest.Verifier
	results  attest.Verifier
	attester attest.Attester
	wanted   []string // formats of Evidence
	recorder Recorder
	observer Observer
	hideFor  func(agent []byte) *cose.Key
	store    Store
	blobs    Blobs
	payloads Payloads
	policy   Policy
	allow    func() *policy.AllowList
	clock    func() time.Time
	rand     io.Reader
	log      *slog.Logger
	// strangers bounds the log of messages of nobody in particular that are ignored, senders of those that somebody signed.
	strangers, senders *ignoredLog

	olderPeers  bool
	payloadURIs []string

	tokens    *tokens
	devices   *deviceCache
	envelopes *envelopeCache
	retries   *retryLimit

	distribution *Distribution
	shared       sharedDeposits

	revision    sharedRevision
	catalogueMu sync.Mutex
	catalogue   *catalogue
	compiler    *policy.Compiler
}

// New makes a TAM. It reads the token keys from the store, and makes the first one in a new store.
func New(ctx context.Context, c Config) (*TAM, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	t := &TAM{
		certs: c.AgentCertificates, verifier: c.Verifier, results: c.Results, attester: c.Attester, wanted: c.EvidenceFormats, recorder: c.Recorder, observer: c.Observer, hideFor: c.AgentEncryption,
		distribution: c.Distribution, olderPeers: c.InsecureOlderPeers,
		store: c.Store, blobs: c.Blobs, policy: c.Policy.withDefaults(),
		payloads: c.Payloads, payloadURIs: c.PayloadURIs,
		allow: c.AllowList, clock: c.Clock, rand: c.Rand, log: c.Logger,
		devices: newDeviceCache(c.Store), envelopes: newEnvelopeCache(c.Blobs), retries: newRetryLimit(c.Clock),
		strangers: newIgnoredLog(), senders: newIgnoredLog(),
	}
	t.revision.store = c.Store
	var err error
	if t.compiler, err = policy.NewCompiler(); err != nil {
		return nil, err
	}
	t.tokens = &tokens{
		store: c.Store, clock: c.Clock, rand: c.Rand,
		lifetime: t.policy.TokenLifetime, rotate: t.policy.TokenKeyRotation,
	}
	if err := t.SetKeys(KeyRing{c.Signers, c.DecryptionKeys}); err != nil {
		return nil, err
	}
	t.keys.Load().logKeys(t.log)
	if c.InsecureOlderPeers {
		t.log.Warn("insecure: ES256 and EdDSA, which leave the curve open, are accepted from agents")
	}
	if _, err := t.tokens.current(ctx, t.clock()); err != nil {
		return nil, err
	}
	return t, nil
}

func (c *Config) check() error {
	switch {
	case c.Store == nil:
		return errors.New("tam: Config.Store is missing: open one, for example with package tam/sqlite")
	case c.Blobs == nil:
		return errors.New("tam: Config.Blobs is missing: open one, for example with package tam/blobfs")
	case c.Verifier == nil && c.Results == nil:
		return errors.New("tam: Config has neither Verifier nor Results: no device could ever be attested")
	case c.Policy.TokenLifetime < 0 || c.Policy.TokenKeyRotation < 0 || c.Policy.ReattestAfter < 0 ||
		c.Policy.MaxEvidenceAge < 0 || c.Policy.MaxResultAge < 0 || c.Policy.PermanentPause < 0 || c.Policy.TemporaryPause < 0:
		return errors.New("tam: Config.Policy has a negative duration")
	case c.Policy.Query == QueryTimestamp && !c.Policy.AcceptTimestamps:
		return errors.New("tam: Config.Policy asks for timestamps and does not accept them: set AcceptTimestamps too")
	}
	return nil
}

// olderPeers tells the algorithms that only implementations of earlier drafts use.
func olderPeers(a cose.Algorithm) bool { return a == cose.AlgES256 || a == cose.AlgEdDSA }

// clockMargin is how much longer than necessary what was used up is remembered: the clocks of replicas
// differ, and verifiers take payloads for fresh that are a little too old.
const clockMargin = 15 * time.Minute

// Sweep removes what expired from the store: used tokens, and history older than keepEvents. It
// works in small steps until all is gone or ctx ends, and is meant to be called every few minutes,
// by one replica or by all.
func (t *TAM) Sweep(ctx context.Context, keepEvents time.Duration) error {
	const step = 500
	for {
		now := t.clock()
		n, err := t.store.Sweep(ctx, now.Add(-clockMargin), now.Add(-keepEvents), step)
		if err != nil {
			return fmt.Errorf("tam: sweeping the store: %w", err)
		}
		if n < step {
			return nil
		}
	}
}
