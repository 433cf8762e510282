package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/tee"
)

// Config is what an Agent is made of.
type Config struct {
	// TEE is the environment that the agent lives in. Required.
	TEE tee.TEE
	// Attester makes Evidence of it. Required.
	Attester attest.Attester
	// Trust is the content of the trust anchor file: a set in YAML, or one in CBOR that the
	// administrator signed. Required at the first start, where it is provisioned into sealed
	// state. From then on the sealed copy counts: the same set again, or nil, changes nothing,
	// and any other is refused unless the administrator signed it. See package agent/trust.
	Trust []byte
	// ReadTrustFile reads what a set in YAML names; nil if its keys stand in place.
	ReadTrustFile trust.ReadFile
	// RevocationLists are X.509 CRLs, each file with one in DER or several in PEM, for TAMs that
	// are anchored by a certificate authority. See [Agent.RenewRevocationLists].
	RevocationLists [][]byte
	// Certificates certify the agent's message key, in DER, end entity first; they go into its
	// messages as x5chain. Empty where TAMs learn the key from the Evidence.
	Certificates [][]byte
	// InsecureOlderPeers also accepts messages signed with ES256 (-7) or EdDSA (-8), which TAMs of
	// earlier drafts send, by keys that are trusted anyway.
	InsecureOlderPeers bool
	// EvidenceVerifier appraises Evidence that a TAM sends instead of a result; nil if only
	// Attestation Results are accepted, which the verifiers of the trust anchors sign.
	EvidenceVerifier attest.Verifier
	// VerifierKey is the public key for key agreement of the verifier that the broker takes Evidence to
	// (Policy.Passports): Evidence is encrypted to it, so that the broker cannot read it. Nil: it passes the
	// broker in the clear.
	VerifierKey *cose.Key
	// Environment answers conditions of the update management text; nil leaves them
	// unsupported.
	Environment processor.Environment
	// Policy says when TAMs are contacted, Limits what one may take. Fields that are zero take
	// those of DefaultPolicy and DefaultLimits.
	Policy Policy
	Limits Limits
	// Clock is the TEE's time; nil means time.Now. Certificates are checked against it.
	Clock func() time.Time
	// Rand is a cryptographic source of randomness; nil means crypto/rand.
	Rand io.Reader
	// Logger receives what happens; nil discards it. Nothing secret goes there.
	Logger *slog.Logger
}

// Policy says when the agent contacts TAMs.
type Policy struct {
	// Interval is the least time between two contacts with the same TAM that nothing special calls
	// for. It bounds what a broker can cause; how often policy is checked is the broker's choice.
	Interval time.Duration
	// RetryMin and RetryMax bound the time before a TAM is contacted again after a failure; it
	// doubles with each.
	RetryMin, RetryMax time.Duration
	// Timestamps lets the agent send Evidence that is fresh by its timestamp alone, where a TAM
	// offers that (TEEP §9). The TEE's clock must deserve it.
	Timestamps bool
	// Passports has Evidence appraised by the verifier that the broker knows (link.Appraisal, RFC 9334
	// §5.1) where a TAM's request has a token in place of a challenge, which is then the nonce of the
	// result, and where it takes payloads that are fresh by their timestamp (TEEP §9). Without a
	// usable result the agent does what it would do without this.
	Passports bool
	// PassportAge is how long an Attestation Result that came back from a TAM is presented to
	// it again instead of new Evidence, where it asks for no nonce; 0 for never.
	PassportAge time.Duration
}

// DefaultPolicy lets a broker check as often as every ten seconds.
func DefaultPolicy() Policy {
	return Policy{Interval: 10 * time.Second, RetryMin: time.Minute, RetryMax: 6 * time.Hour}
}

// Limits bound what the world outside can make the agent do. All are inclusive.
type Limits struct {
	// Message is the largest TEEP message in bytes.
	Message int
	// Sessions is the number of TEEP sessions at a time, SessionIdle how long one lives unused.
	Sessions    int
	SessionIdle time.Duration
	// BadMessages is how many invalid messages one session survives.
	BadMessages int
	// Requests is the number of components that can be requested and not installed.
	Requests int
	// Manifests is the number of manifests in one Update, to install and to unlink each.
	Manifests int
	// Record is the largest state record in bytes: the sum of all that is installed, payloads
	// aside.
	Record int
	// Binary is the largest binary that an app can bring with its request, in bytes.
	Binary int64
	// FetchStall is how long a fetch may stay unanswered before RequestPolicyCheck asks for it
	// again, UpdateStall before another Update may take the place of this one.
	FetchStall, UpdateStall time.Duration
	// AppraisalWait is how long the broker may take to bring an Attestation Result. One that comes later
	// is not used, and RequestPolicyCheck goes on without it.
	AppraisalWait time.Duration
	// Chunk is how many bytes one Deliver is asked for, at most link.MaxChunk.
	Chunk int64
	// FetchRetries is how often one fetch is taken up again after a break without progress.
	FetchRetries int
	// Attempts is how often an Update is begun again after the agent was killed.
	Attempts uint64
	// Applications is the number of open application sessions.
	Applications int
	// Application bounds each application.
	Application tee.Limits
	// Processor bounds each manifest. Its time includes the waiting for payloads, which may take
	// hours on a device that is not always connected (TEEP §7.1.1.1).
	Processor processor.Limits
}

// DefaultLimits are generous for a device with an operating system.
func DefaultLimits() Limits {
	return Limits{
		Message: 64 << 20, Sessions: 16, SessionIdle: 15 * time.Minute, BadMessages: 4,
		Requests: 256, Manifests: 256, Record: 8 << 20, Binary: 64 << 20,
		FetchStall: 30 * time.Second, UpdateStall: time.Hour, AppraisalWait: time.Minute,
		Chunk: 1 << 20, FetchRetries: 4, Attempts: 8,
		Applications: 64,
		Application: tee.Limits{
			MemoryBytes: 64 << 20, CallDuration: 10 * time.Second, OutputBytes: 1 << 20, StorageBytes: 4 << 20,
		},
	}
}

// withDefaults returns a copy in which everything optional is set, or what is missing.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.TEE == nil:
		return c, errors.New("agent: Config.TEE is missing")
	case c.Attester == nil:
		return c, errors.New("agent: Config.Attester is missing")
	}
	if c.VerifierKey != nil {
		if _, err := eat.Encrypt(rand.Reader, []byte{0}, c.VerifierKey, 0); err != nil {
			return c, fmt.Errorf("agent: Config.VerifierKey: %w", err)
		}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p, d := &c.Policy, DefaultPolicy()
	fill(&p.Interval, d.Interval)
	fill(&p.RetryMin, d.RetryMin)
	fill(&p.RetryMax, d.RetryMax)
	c.Limits.fill(DefaultLimits())
	return c, nil
}

func (l *Limits) fill(d Limits) {
	fill(&l.Message, d.Message)
	fill(&l.Sessions, d.Sessions)
	fill(&l.SessionIdle, d.SessionIdle)
	fill(&l.BadMessages, d.BadMessages)
	fill(&l.Requests, d.Requests)
	fill(&l.Manifests, d.Manifests)
	fill(&l.Record, d.Record)
	fill(&l.Binary, d.Binary)
	fill(&l.FetchStall, d.FetchStall)
	fill(&l.UpdateStall, d.UpdateStall)
	fill(&l.AppraisalWait, d.AppraisalWait)
	fill(&l.Chunk, d.Chunk)
	fill(&l.FetchRetries, d.FetchRetries)
	fill(&l.Attempts, d.Attempts)
	fill(&l.Applications, d.Applications)
	fill(&l.Processor.Time, 24*time.Hour)
	fill(&l.Processor.Envelope, int64(l.Message))
	fill(&l.Application.MemoryBytes, d.Application.MemoryBytes)
	fill(&l.Application.CallDuration, d.Application.CallDuration)
	fill(&l.Application.OutputBytes, d.Application.OutputBytes)
	fill(&l.Application.StorageBytes, d.Application.StorageBytes)
}

func fill[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
