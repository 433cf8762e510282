package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/cose"
)

// QuoterConfig configures [NewQuoter].
type QuoterConfig struct {
	// TPM is the way to it; inside Linux, transport/linuxtpm on /dev/tpmrm0. It stays the
	// caller's and must stay open.
	TPM transport.TPM
	// PCRs are quoted.
	PCRs []int
	// X5Chain certifies the attestation key, its own certificate first, in DER; empty where the
	// verifier knows the key by enrolment.
	X5Chain [][]byte
	// EventLog returns the event log of this boot; nil means that none is sent.
	EventLog func() ([]byte, error)
}

// Quoter quotes with an attestation key that the TPM derives again at every start, so that there
// is nothing to store and nothing to copy. It is safe for concurrent use.
type Quoter struct {
	c       QuoterConfig
	mu      sync.Mutex // the TPM does one thing at a time
	handle  tpm2.TPMHandle
	name    tpm2.TPM2BName
	public  []byte // TPMT_PUBLIC
	key     *cose.Key
	closing bool
}

var _ bound.Reporter = (*Quoter)(nil)

// akTemplate is a restricted signing key: it signs only what the TPM itself made.
func akTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// NewQuoter has the TPM derive the attestation key. Close gives its memory back.
func NewQuoter(c QuoterConfig) (*Quoter, error) {
	if c.TPM == nil || len(c.PCRs) == 0 {
		return nil, errors.New("tpm: a quoter needs a TPM and PCRs to quote")
	}
	for _, pcr := range c.PCRs {
		if pcr < 0 || pcr >= MaxPCRs {
			return nil, fmt.Errorf("tpm: there is no PCR %d", pcr)
		}
	}
	c.PCRs = slices.Compact(slices.Sorted(slices.Values(c.PCRs)))
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(akTemplate())}.Execute(c.TPM)
	if err != nil {
		return nil, fmt.Errorf("tpm: derive the attestation key: %w", err)
	}
	q := &Quoter{c: c, handle: made.ObjectHandle, name: made.Name}
	public, err := made.OutPublic.Contents()
	if err == nil {
		q.public = tpm2.Marshal(public)
		q.key, err = akKey(public)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tpm: attestation key: %w", err), q.Close())
	}
	return q, nil
}

// Close forgets the key in the TPM.
func (q *Quoter) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return nil
	}
	q.closing = true
	if _, err := (tpm2.FlushContext{FlushHandle: q.handle}).Execute(q.c.TPM); err != nil {
		return fmt.Errorf("tpm: forget the attestation key: %w", err)
	}
	return nil
}

// Key is the public attestation key.
func (q *Quoter) Key() *cose.Key { return q.key }

// MediaType implements [bound.Reporter].
func (q *Quoter) MediaType() string { return bound.TPMQuote }

// Report implements [bound.Reporter]. A quote and the PCRs that are read beside it can differ when
// a PCR is extended in between; then it is made again.
func (q *Quoter) Report(ctx context.Context, b bound.Binding) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var log []byte
	if q.c.EventLog != nil {
		var err error
		if log, err = q.c.EventLog(); err != nil {
			return nil, fmt.Errorf("tpm: event log: %w", err)
		}
	}
	const attempts = 3
	for range attempts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		quote, err := q.quote(qualify(b, log))
		if err != nil {
			return nil, err
		}
		attested, err := tpm2.Unmarshal[tpm2.TPMSAttest](quote.Attest)
		if err != nil {
			return nil, fmt.Errorf("tpm: quote: %w", err)
		}
		quote.EventLog = log
		if checkPCRs(quote, attested) == nil {
			return quote.Encode()
		}
	}
	return nil, fmt.Errorf("tpm: the PCRs changed under each of %d quotes", attempts)
}

func (q *Quoter) selection() tpm2.TPMLPCRSelection {
	bitmap := make([]byte, MaxPCRs/8)
	for _, pcr := range q.c.PCRs {
		bitmap[pcr/8] |= 1 << (pcr % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}}
}

func (q *Quoter) quote(qualifying []byte) (*Quote, error) {
	quoted, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: q.handle, Name: q.name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      q.selection(),
	}.Execute(q.c.TPM)
	if err != nil {
		return nil, fmt.Errorf("tpm: quote: %w", err)
	}
	out := &Quote{Attest: quoted.Quoted.Bytes(), X5Chain: q.c.X5Chain, PCRs: map[int][]byte{}}
	if out.X5Chain == nil {
		out.Thumbprint = q.key.Thumbprint()
	}
	ecdsa, err := quoted.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("tpm: quote: %w", err)
	}
	out.Signature = make([]byte, 64)
	new(big.Int).SetBytes(ecdsa.SignatureR.Buffer).FillBytes(out.Signature[:32])
	new(big.Int).SetBytes(ecdsa.SignatureS.Buffer).FillBytes(out.Signature[32:])
	for _, pcr := range q.c.PCRs {
		if out.PCRs[pcr], err = q.pcr(pcr); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// PCRs reads the values of the PCRs that are quoted.
func (q *Quoter) PCRs() (map[int][]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	values := make(map[int][]byte, len(q.c.PCRs))
	for _, pcr := range q.c.PCRs {
		var err error
		if values[pcr], err = q.pcr(pcr); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (q *Quoter) pcr(pcr int) ([]byte, error) {
	bitmap := make([]byte, MaxPCRs/8)
	bitmap[pcr/8] |= 1 << (pcr % 8)
	read, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}}}.Execute(q.c.TPM)
	if err != nil {
		return nil, fmt.Errorf("tpm: read PCR %d: %w", pcr, err)
	}
	if len(read.PCRValues.Digests) != 1 {
		return nil, fmt.Errorf("tpm: PCR %d has no SHA-256 value; activate the bank in the firmware's settings", pcr)
	}
	return bytes.Clone(read.PCRValues.Digests[0].Buffer), nil
}
