package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// nvRSAEKCertificate is where makers put the certificate of the RSA 2048 endorsement key (TCG EK
// Credential Profile §2.2.1.4).
const nvRSAEKCertificate = 0x01c00002

// EnrolmentRequest is what a device sends to the owner who is to vouch for its attestation key.
type EnrolmentRequest struct {
	// EKChain certifies the endorsement key, its own certificate first, in DER.
	EKChain [][]byte
	// AKPublic is the TPMT_PUBLIC of the attestation key.
	AKPublic []byte
}

// Credential is a secret that only the TPM with the endorsement key can open, and only if the
// attestation key lies in it too.
type Credential struct {
	IDObject        []byte // contents of TPM2B_ID_OBJECT
	EncryptedSecret []byte // contents of TPM2B_ENCRYPTED_SECRET
}

// Challenge is the owner's side of one enrolment. It is used once.
type Challenge struct {
	// Credential goes to the device.
	Credential Credential
	// UEID is the device that the endorsement key stands for.
	UEID []byte

	secret []byte
	key    *cose.Key
}

// NewChallenge checks the request against the makers of TPMs whose certificates are accepted, and
// makes a challenge. The errors are [attest.ErrUntrusted] and [attest.ErrFormat].
func NewChallenge(rand io.Reader, r EnrolmentRequest, makers []appraisal.Manufacturer, now time.Time) (*Challenge, error) {
	ek, err := validateEK(r.EKChain, makers, now)
	if err != nil {
		return nil, err
	}
	ak, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.AKPublic)
	if err != nil || !bytes.Equal(tpm2.Marshal(ak), r.AKPublic) {
		return nil, fmt.Errorf("%w: the attestation key is no TPMT_PUBLIC: %w", attest.ErrFormat, errors.Join(err))
	}
	c := &Challenge{}
	if c.key, err = akKey(ak); err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(ak)
	if err != nil {
		return nil, fmt.Errorf("%w: name of the attestation key: %w", attest.ErrFormat, err)
	}
	ekName, err := tpm2.ObjectName(ek)
	if err != nil {
		return nil, fmt.Errorf("tpm: name of the endorsement key: %w", err)
	}
	c.UEID = UEID(ekName.Buffer)
	seal, err := tpm2.ImportEncapsulationKey(ek)
	if err != nil {
		return nil, fmt.Errorf("%w: endorsement key: %w", attest.ErrUntrusted, err)
	}
	c.secret = make([]byte, sha256.Size)
	if _, err := io.ReadFull(rand, c.secret); err != nil {
		return nil, fmt.Errorf("tpm: randomness: %w", err)
	}
	c.Credential.IDObject, c.Credential.EncryptedSecret, err = tpm2.CreateCredential(rand, seal, name.Buffer, c.secret)
	if err != nil {
		return nil, fmt.Errorf("tpm: make credential: %w", err)
	}
	return c, nil
}

// Endorse checks the device's answer and returns the endorsement of its attestation key, to which
// the owner adds the class and an end. A challenge answers for itself once, right or wrong.
func (c *Challenge) Endorse(answer []byte) (*appraisal.Endorsement, error) {
	secret := c.secret
	c.secret = nil
	if len(secret) == 0 || subtle.ConstantTimeCompare(secret, answer) != 1 {
		return nil, fmt.Errorf("%w: the answer does not show that the attestation key lies in the TPM with that endorsement key; start the enrolment again", attest.ErrUntrusted)
	}
	return &appraisal.Endorsement{UEID: c.UEID, Key: c.key}, nil
}

// akKey checks that a key is one that signs nothing but what its TPM made, and cannot leave it.
func akKey(public *tpm2.TPMTPublic) (*cose.Key, error) {
	a := public.ObjectAttributes
	if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.SignEncrypt || a.Decrypt {
		return nil, fmt.Errorf("%w: the key is not a restricted signing key that was made in the TPM and stays there", attest.ErrUntrusted)
	}
	if public.Type != tpm2.TPMAlgECC || public.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, fmt.Errorf("%w: the attestation key is not an ECC key with a SHA-256 name", attest.ErrUntrusted)
	}
	parms, err := public.Parameters.ECCDetail()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrFormat, err)
	}
	scheme, err := parms.Scheme.Details.ECDSA()
	if err != nil || parms.CurveID != tpm2.TPMECCNistP256 || parms.Scheme.Scheme != tpm2.TPMAlgECDSA || scheme.HashAlg != tpm2.TPMAlgSHA256 {
		return nil, fmt.Errorf("%w: the attestation key is not for ECDSA over P-256 with SHA-256", attest.ErrUntrusted)
	}
	pub, err := tpm2.Pub(*public)
	if err != nil {
		return nil, fmt.Errorf("%w: attestation key: %w", attest.ErrFormat, err)
	}
	if _, ok := pub.(*ecdsa.PublicKey); !ok {
		return nil, fmt.Errorf("%w: attestation key of type %T", attest.ErrUntrusted, pub)
	}
	return cose.NewPublicKey(pub)
}

// ekTemplate is the endorsement key of a certificate: the certificate has the modulus, the rest is
// as the TCG says (EK Credential Profile §B.3.3, L-1).
func ekTemplate(cert *x509.Certificate) (*tpm2.TPMTPublic, error) {
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || pub.N.BitLen() != 2048 || pub.E != 65537 {
		return nil, fmt.Errorf("%w: the endorsement key is not RSA 2048", attest.ErrUntrusted)
	}
	public := tpm2.RSAEKTemplate
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: pub.N.FillBytes(make([]byte, 256))})
	return &public, nil
}

// Request is what the device sends to be enrolled. intermediates are certificates between the
// endorsement key's, which is in the TPM, and a root.
func (q *Quoter) Request(intermediates ...[]byte) (*EnrolmentRequest, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	cert, err := readNV(q.c.TPM, nvRSAEKCertificate)
	if err != nil {
		return nil, fmt.Errorf("tpm: certificate of the endorsement key: %w", err)
	}
	return &EnrolmentRequest{EKChain: append([][]byte{cert}, intermediates...), AKPublic: q.public}, nil
}

// readNV reads an index that anyone may read.
func readNV(chip transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(chip)
	if err != nil {
		return nil, err
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	const step = 512
	var data []byte
	for int(contents.DataSize) > len(data) {
		part, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       min(step, contents.DataSize-uint16(len(data))), Offset: uint16(len(data)),
		}.Execute(chip)
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) == 0 {
			return nil, errors.New("the TPM returns nothing")
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}

// Activate opens a credential: the device's answer to a [Challenge].
func (q *Quoter) Activate(c Credential) (answer []byte, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(q.c.TPM)
	if err != nil {
		return nil, fmt.Errorf("tpm: derive the endorsement key: %w", err)
	}
	defer func() {
		_, flushErr := tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(q.c.TPM)
		err = errors.Join(err, flushErr)
	}()
	// The endorsement key's policy is the authorization of its hierarchy.
	policy, end, err := tpm2.PolicySession(q.c.TPM, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return nil, fmt.Errorf("tpm: policy session: %w", err)
	}
	defer func() { _ = end() }() // a session that was used is gone already
	if _, err := (tpm2.PolicySecret{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: policy.Handle(), NonceTPM: policy.NonceTPM(),
	}).Execute(q.c.TPM); err != nil {
		return nil, fmt.Errorf("tpm: authorize the endorsement key: %w", err)
	}
	opened, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: q.handle, Name: q.name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.ObjectHandle, Name: ek.Name, Auth: policy},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.IDObject},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.EncryptedSecret},
	}.Execute(q.c.TPM)
	if err != nil {
		return nil, fmt.Errorf("tpm: open the credential: %w", err)
	}
	return opened.CertInfo.Buffer, nil
}
