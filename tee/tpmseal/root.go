package tpmseal

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/tee"
)

const (
	pcrCount  = 24
	nonceSize = 16
)

// root is the primary key under which the secret is sealed, in use.
type root struct {
	chip   transport.TPM
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// openRoot has the TPM derive the key.
func openRoot(chip transport.TPM) (*root, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(chip)
	if err != nil {
		return nil, fmt.Errorf("tpmseal: derive the storage key: %w", err)
	}
	r := &root{chip: chip, handle: made.ObjectHandle, name: made.Name}
	public, err := made.OutPublic.Contents()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tpmseal: storage key: %w", err), r.close())
	}
	r.public = *public
	return r, nil
}

func (r *root) close() error { return flush(r.chip, r.handle) }

func flush(chip transport.TPM, handle tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: handle}).Execute(chip); err != nil {
		return fmt.Errorf("tpmseal: free the TPM's memory: %w", err)
	}
	return nil
}

// encrypted are the options of a session in which the first parameter is encrypted on its way.
func (r *root) encrypted(in bool) []tpm2.AuthOption {
	direction := tpm2.EncryptOut
	if in {
		direction = tpm2.EncryptIn
	}
	return []tpm2.AuthOption{tpm2.Salted(r.handle, r.public), tpm2.AESEncryption(128, direction)}
}

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	bitmap := make([]byte, pcrCount/8)
	for _, pcr := range pcrs {
		bitmap[pcr/8] |= 1 << (pcr % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}}
}

// policy is the digest of the policy that the PCRs have the values that they have now.
func (r *root) policy(pcrs []int) (digest []byte, err error) {
	trial, end, err := tpm2.PolicySession(r.chip, tpm2.TPMAlgSHA256, nonceSize, tpm2.Trial())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if _, err := (tpm2.PolicyPCR{PolicySession: trial.Handle(), Pcrs: selection(pcrs)}).Execute(r.chip); err != nil {
		return nil, err
	}
	got, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(r.chip)
	if err != nil {
		return nil, err
	}
	return got.PolicyDigest.Buffer, nil
}

// seal seals a secret to the PCRs as they are.
func (r *root) seal(k *sealedKey, secret []byte) error {
	policy, err := r.policy(k.PCRs)
	if err == nil && k.Approver != nil {
		k.First = policy
		policy, _, err = eitherPolicy(k.First, k.Approver)
	}
	if err != nil {
		return fmt.Errorf("tpmseal: policy over PCRs %v: %w", k.PCRs, err)
	}
	made, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: r.handle, Name: r.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, append(r.encrypted(true), tpm2.Auth(nil))...)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		// Without userWithAuth, the policy is the only way to the content.
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy},
		}),
	}.Execute(r.chip)
	if err != nil {
		return fmt.Errorf("tpmseal: seal the secret: %w", err)
	}
	k.Public, k.Private = made.OutPublic.Bytes(), made.OutPrivate.Buffer
	return nil
}

// unseal has the TPM give the secret out.
func (r *root) unseal(k *sealedKey, approved []approval) (secret []byte, err error) {
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: r.handle, Name: r.name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: k.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](k.Public),
	}.Execute(r.chip)
	var code tpm2.TPMRC
	if err != nil && errors.As(err, &code) {
		return nil, fmt.Errorf("%w: it does not load what is in %s: %w: with the TPM of the first start, the state can be opened again; without it, empty the disk to begin anew with a new identity", errors.Join(ErrTPM, tee.ErrCorrupt), keyFile, err)
	}
	if err != nil {
		return nil, fmt.Errorf("tpmseal: load the sealed secret: %w", err)
	}
	defer func() { err = errors.Join(err, flush(r.chip, loaded.ObjectHandle)) }()
	session, end, err := tpm2.PolicySession(r.chip, tpm2.TPMAlgSHA256, nonceSize, r.encrypted(false)...)
	if err != nil {
		return nil, fmt.Errorf("tpmseal: policy session: %w", err)
	}
	defer func() { _ = end() }() // a session that was used is gone already
	if err := r.meet(session, k, approved); err != nil {
		return nil, fmt.Errorf("tpmseal: policy over PCRs %v: %w", k.PCRs, err)
	}
	out, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: session}}.Execute(r.chip)
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return nil, fmt.Errorf("%w: PCRs %v have other values: %s", ErrMeasurement, k.PCRs, remedy)
	}
	if err != nil {
		return nil, fmt.Errorf("tpmseal: unseal the secret: %w", err)
	}
	if len(out.OutData.Buffer) != secretSize {
		return nil, fmt.Errorf("%w: the sealed secret has %d bytes", tee.ErrCorrupt, len(out.OutData.Buffer))
	}
	return out.OutData.Buffer, nil
}

const remedy = "boot the image and the firmware of the first start, give an approval beside the image where the state names an approver, or empty the disk to begin anew with a new identity"

// meet brings a session to the policy of the sealed object, if what booted and who approved it do.
func (r *root) meet(session tpm2.Session, k *sealedKey, approved []approval) error {
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection(k.PCRs)}).Execute(r.chip); err != nil {
		return err
	}
	if k.Approver == nil {
		return nil
	}
	_, either, err := eitherPolicy(k.First, k.Approver)
	if err != nil {
		return err
	}
	now, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(r.chip)
	if err != nil {
		return err
	}
	if policy := now.PolicyDigest.Buffer; string(policy) != string(k.First) {
		if err := r.authorize(session, policy, k.Approver, approved); err != nil {
			return fmt.Errorf("%w: %s", err, remedy)
		}
	}
	_, err = tpm2.PolicyOr{PolicySession: session.Handle(), PHashList: either}.Execute(r.chip)
	return err
}
