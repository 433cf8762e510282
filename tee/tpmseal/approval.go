package tpmseal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
)

// approvalRef qualifies what the approver's signature is for (policyRef, TPM 2.0 Part 3 §23.16).
const approvalRef = "go-teep tpmseal approval 1"

// Limits of approvals that are read.
const (
	// MaxApprovalsBytes bounds the file.
	MaxApprovalsBytes = 16 << 10
	maxApprovals      = 64
	p256Bytes         = 32
)

// ErrApproval says that approvals, or the key that they are signed with, cannot be used.
var ErrApproval = errors.New("tpmseal: unusable approval")

// approval says that a machine whose PCRs have certain values may open what is sealed to its signer.
type approval struct {
	_ struct{} `cbor:",toarray"`
	// Policy is the digest of PolicyPCR over the PCRs and their values.
	Policy []byte
	// Signature is ECDSA on P-256 with SHA-256 over policy and approvalRef: r, s.
	Signature []byte
}

// approvals is the file.
//
//	approvals = [ 1, [ 1*64 approval ] ]
//	approval  = [ policy: bstr .size 32, signature: bstr .size 64 ]
type approvals struct {
	_       struct{} `cbor:",toarray"`
	Version int
	All     []approval
}

// Approve has the holder of a key approve boots, each given by the values of the PCRs that states are
// sealed to, and returns the file for [Source].Approvals. It contains nothing secret, and is of no use
// but for machines whose states name the key. The key is for ESP256.
func Approve(rand io.Reader, signer cose.Signer, boots ...map[int][sha256.Size]byte) ([]byte, error) {
	if _, err := approverPoint(signer.Public()); err != nil {
		return nil, err
	}
	file := approvals{Version: 1}
	for _, pcrs := range boots {
		policy, err := policyOf(pcrs)
		if err != nil {
			return nil, err
		}
		signature, err := signer.Sign(rand, approvedMessage(policy))
		if err != nil {
			return nil, fmt.Errorf("tpmseal: sign an approval: %w", err)
		}
		file.All = append(file.All, approval{Policy: policy, Signature: signature})
	}
	if len(file.All) == 0 || len(file.All) > maxApprovals {
		return nil, fmt.Errorf("%w: %d boots: 1 to %d fit into a file", ErrApproval, len(file.All), maxApprovals)
	}
	return cbor.Marshal(file)
}

func approvedMessage(policy []byte) []byte { return append(slices.Clone(policy), approvalRef...) }

// policyOf is what the TPM computes in a session in which the PCRs have these values (Part 3 §23.7).
func policyOf(pcrs map[int][sha256.Size]byte) ([]byte, error) {
	numbers := slices.Sorted(maps.Keys(pcrs))
	if len(numbers) == 0 || numbers[0] < 0 || numbers[len(numbers)-1] >= pcrCount {
		return nil, fmt.Errorf("%w: PCRs %v: write 0 to %d", ErrApproval, numbers, pcrCount-1)
	}
	values := sha256.New()
	for _, n := range numbers {
		value := pcrs[n]
		values.Write(value[:])
	}
	return calculate(tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: values.Sum(nil)}, Pcrs: selection(numbers)})
}

// calculate is the digest of a policy of one command.
func calculate(command tpm2.PolicyCommand) ([]byte, error) {
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	if err := command.Update(c); err != nil {
		return nil, err
	}
	return c.Hash().Digest, nil
}

// parseApprovals reads the file, which comes from the host: behind it there may be zero bytes, where a
// block device carried it. Whether the approver signed what is in it, the TPM checks.
func parseApprovals(data []byte) ([]approval, error) {
	if len(data) > MaxApprovalsBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrApproval, len(data), MaxApprovalsBytes)
	}
	var file approvals
	rest, err := cbor.UnmarshalFirst(data, &file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrApproval, err)
	}
	if slices.ContainsFunc(rest, func(b byte) bool { return b != 0 }) {
		return nil, fmt.Errorf("%w: there is something behind it", ErrApproval)
	}
	if file.Version != 1 || len(file.All) == 0 || len(file.All) > maxApprovals {
		return nil, fmt.Errorf("%w: version %d with %d approvals", ErrApproval, file.Version, len(file.All))
	}
	for _, a := range file.All {
		if len(a.Policy) != sha256.Size || len(a.Signature) != 2*p256Bytes {
			return nil, fmt.Errorf("%w: a policy of %d bytes with a signature of %d", ErrApproval, len(a.Policy), len(a.Signature))
		}
	}
	return file.All, nil
}

// approverPoint is x and y of a key that can approve.
func approverPoint(key *cose.Key) ([]byte, error) {
	public, err := key.CryptoPublic()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrApproval, err)
	}
	ec, is := public.(*ecdsa.PublicKey)
	if !is || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: a TPM checks signatures of ECDSA on P-256: use a key for ESP256", ErrApproval)
	}
	point, err := ec.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrApproval, err)
	}
	return point[1:], nil // behind the byte that says "uncompressed"
}

// approverPublic is the key as the TPM loads it: its name is a digest of exactly this.
func approverPublic(point []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[:p256Bytes]}, Y: tpm2.TPM2BECCParameter{Buffer: point[p256Bytes:]},
		}),
	}
}

// eitherPolicy is met by what booted when the secret was sealed, and by what the approver approves
// (PolicyOR, PolicyAuthorize: Part 3 §23.6, §23.16).
func eitherPolicy(first, point []byte) ([]byte, tpm2.TPMLDigest, error) {
	public := approverPublic(point)
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return nil, tpm2.TPMLDigest{}, err
	}
	approved, err := calculate(tpm2.PolicyAuthorize{KeySign: *name, PolicyRef: tpm2.TPM2BDigest{Buffer: []byte(approvalRef)}})
	if err != nil {
		return nil, tpm2.TPMLDigest{}, err
	}
	either := tpm2.TPMLDigest{Digests: []tpm2.TPM2BDigest{{Buffer: first}, {Buffer: approved}}}
	policy, err := calculate(tpm2.PolicyOr{PHashList: either})
	return policy, either, err
}

// authorize replaces the digest of a session, which is that of the PCRs, by the approver's, with a
// signature of the approver's over it.
func (r *root) authorize(session tpm2.Session, policy, point []byte, all []approval) error {
	i := slices.IndexFunc(all, func(a approval) bool { return string(a.Policy) == string(policy) })
	if i < 0 {
		return fmt.Errorf("%w: no approval is for it: of %d beside the image", ErrMeasurement, len(all))
	}
	a := all[i]
	// A key in no hierarchy would give a ticket that is worth nothing.
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(approverPublic(point)), Hierarchy: tpm2.TPMRHOwner}.Execute(r.chip)
	if err != nil {
		return fmt.Errorf("%w: the approver's key does not load: %w", tee.ErrCorrupt, err)
	}
	digest := sha256.Sum256(approvedMessage(policy))
	verified, err := tpm2.VerifySignature{
		KeyHandle: loaded.ObjectHandle, Digest: tpm2.TPM2BDigest{Buffer: digest[:]},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash:       tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: a.Signature[:p256Bytes]}, SignatureS: tpm2.TPM2BECCParameter{Buffer: a.Signature[p256Bytes:]},
		})},
	}.Execute(r.chip)
	if err = errors.Join(err, flush(r.chip, loaded.ObjectHandle)); err != nil {
		return fmt.Errorf("%w: the approval for it is not signed by the approver that the state names: %w", ErrMeasurement, err)
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: session.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: policy},
		PolicyRef: tpm2.TPM2BDigest{Buffer: []byte(approvalRef)}, KeySign: loaded.Name, CheckTicket: verified.Validation,
	}.Execute(r.chip)
	return err
}
