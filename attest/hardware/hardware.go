package hardware

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/tpm"
	"github.com/go-teep/teep/attest/tsm"
	"github.com/go-teep/teep/cose"
)

// Hardware is what attests, in use. It is safe for concurrent use.
type Hardware struct {
	c         Config
	material  Material
	chip      transport.TPM
	quoter    *tpm.Quoter
	processor bound.Reporter
	ueid      []byte
}

// New takes what [Config.Open] opened, in this process or in another. The TPM derives its
// attestation key here. What is not in the configuration's formats is nil.
func New(ctx context.Context, c Config, m Material, chip io.ReadWriter, processor bound.Reporter) (*Hardware, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	h := &Hardware{c: c, material: m, processor: processor}
	if c.has(TPM) {
		if chip == nil {
			return nil, errors.New("hardware: the TPM was not opened")
		}
		if err := h.useTPM(chip); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	if c.has(TSM) {
		if processor == nil {
			return nil, errors.New("hardware: the processor's reports were not opened")
		}
		var err error
		if h.ueid, err = tsm.ReadUEID(ctx, processor); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *Hardware) useTPM(chip io.ReadWriter) (err error) {
	h.chip = tpm.Stream(chip)
	qc := tpm.QuoterConfig{TPM: h.chip, PCRs: h.c.TPM.PCRs, X5Chain: h.material.AKChain}
	if h.material.EventLog != nil {
		qc.EventLog = func() ([]byte, error) { return h.material.EventLog, nil }
	}
	if h.quoter, err = tpm.NewQuoter(qc); err != nil {
		return err
	}
	if h.material.AKChain == nil {
		h.ueid, err = tpm.ReadUEID(h.chip)
		return err
	}
	if h.ueid, err = certified(h.material.AKChain, h.quoter.Key()); err != nil {
		err = fmt.Errorf("hardware: tpm.certificate-chain: %w", err)
	}
	return err
}

// certified returns the device that a chain is for, if it certifies the key.
func certified(chain [][]byte, key *cose.Key) ([]byte, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	has, err := cose.NewPublicKey(leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(has.Thumbprint(), key.Thumbprint()) {
		return nil, fmt.Errorf("the first certificate is for the key %x, the attestation key is %x: have that one certified", has.Thumbprint(), key.Thumbprint())
	}
	return eat.CertifiedUEID(leaf)
}

// Close gives the TPM's memory back. What was opened stays open.
func (h *Hardware) Close() error {
	if h.quoter == nil {
		return nil
	}
	return h.quoter.Close()
}

// UEID is the device's name by its hardware; nil where the hardware has none or does not tell.
func (h *Hardware) UEID() []byte { return h.ueid }

// Quoter is the TPM in use; nil without one.
func (h *Hardware) Quoter() *tpm.Quoter { return h.quoter }

// Attester makes the attester of all formats. The signer is the TEE's attestation key, which the
// format eat needs.
func (h *Hardware) Attester(id eat.Identity, signer cose.Signer, now func() time.Time, rand io.Reader) (attest.Attester, error) {
	if h.ueid != nil && !bytes.Equal(h.ueid, id.UEID) {
		return nil, fmt.Errorf("hardware: the TEE has the UEID %x, its hardware is the device %x: it was made for other hardware, or before this attestation was configured; begin anew with an empty folder", id.UEID, h.ueid)
	}
	var all attest.Attesters
	for _, format := range h.c.Formats {
		var a attest.Attester
		var err error
		switch format {
		case EAT:
			a, err = h.eat(id, signer, now, rand)
		case TPM:
			a, err = bound.NewAttester(id, h.quoter, now)
		case TSM:
			a, err = bound.NewAttester(id, h.processor, now)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func (h *Hardware) eat(id eat.Identity, signer cose.Signer, now func() time.Time, rand io.Reader) (attest.Attester, error) {
	if chain := h.material.Chain; chain != nil {
		ueid, err := certified(chain, signer.Public())
		if err == nil && !bytes.Equal(ueid, id.UEID) {
			err = fmt.Errorf("it names the device %x, this one is %x", ueid, id.UEID)
		}
		if err != nil {
			return nil, fmt.Errorf("hardware: certificate-chain: %w", err)
		}
	}
	return eat.NewAttester(eat.AttesterConfig{Identity: id, Signer: signer, X5Chain: h.material.Chain, Now: now, Rand: rand})
}
