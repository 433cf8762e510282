package suit

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit/internal/scan"
)

// reportKDFOther is SuppPubInfo.other of encrypted reports (TEEP §9).
const reportKDFOther = "SUIT Report Encryption"

// Errors of [OpenReport].
var (
	// ErrReportUnsigned says that a report is not signed where a signature is required.
	ErrReportUnsigned = errors.New("suit: report is neither signed nor MACed: set AuthenticatedByContainer if what carried it was")
	// ErrReportPlain says that a report is not encrypted where encryption is required.
	ErrReportPlain = errors.New("suit: report is not encrypted")
)

// SignReport protects a report with a COSE_Sign1 (SUIT report §7). The report is an encoded
// [Report] or what [EncryptReport] made of it.
//
//	SUIT_Report_COSE_Sign1_Tagged = #6.18([
//	  protected : bstr, unprotected : {* int => any},
//	  payload : bstr .cbor SUIT_Report_Unprotected, signature : bstr
//	])
func SignReport(rand io.Reader, report []byte, signer cose.Signer) ([]byte, error) {
	msg, err := cose.Sign1(rand, report, signer, cose.SignOptions{})
	if err != nil {
		return nil, fmt.Errorf("suit: cannot sign report: %w", err)
	}
	return msg, nil
}

// MACReport protects a report with a COSE_Mac0, as [SignReport] does with a signature.
func MACReport(report []byte, key *cose.Key) ([]byte, error) {
	msg, err := cose.Mac0(report, key, cose.SignOptions{})
	if err != nil {
		return nil, fmt.Errorf("suit: cannot MAC report: %w", err)
	}
	return msg, nil
}

// EncryptReport encrypts a report for receivers with P-256 or X25519 keys by ECDH-ES+A128KW, the
// ciphertext embedded (TEEP §9). A128CTR keeps a report confidential only: sign it as well, or
// send it in something that is authenticated.
func EncryptReport(rand io.Reader, r *Report, alg cose.Algorithm, to ...*cose.Key) ([]byte, error) {
	plaintext, err := r.Encode()
	if err != nil {
		return nil, err
	}
	recipients := make([]cose.Recipient, len(to))
	for i, k := range to {
		recipients[i] = cose.ECDHESRecipient(k.Public(), reportKDFOther)
	}
	msg, _, err := cose.Encrypt(rand, plaintext, alg, recipients, cose.EncryptOptions{})
	if err != nil {
		return nil, fmt.Errorf("suit: cannot encrypt report: %w", err)
	}
	return msg, nil
}

// EncryptReport0 encrypts a report with a content key that both sides have.
func EncryptReport0(rand io.Reader, r *Report, alg cose.Algorithm, key *cose.Key) ([]byte, error) {
	plaintext, err := r.Encode()
	if err != nil {
		return nil, err
	}
	msg, _, err := cose.Encrypt0(rand, plaintext, key, alg, cose.EncryptOptions{})
	if err != nil {
		return nil, fmt.Errorf("suit: cannot encrypt report: %w", err)
	}
	return msg, nil
}

// OpenReportOptions says which protection [OpenReport] accepts and demands. The zero value
// demands a signature by Keys, of which there are none.
type OpenReportOptions struct {
	// Keys may have signed; Algorithms replaces the default of package cose.
	Keys       cose.KeySource
	Algorithms []cose.Algorithm
	// MACKeys may have made a MAC; nil refuses MACs.
	MACKeys cose.KeySource
	// DecryptKeys decrypt reports for their holders.
	DecryptKeys cose.DecryptKeys
	// ContentKey decrypts a COSE_Encrypt0; nil refuses it.
	ContentKey *cose.Key
	// RequireEncryption refuses reports in the clear.
	RequireEncryption bool
	// AuthenticatedByContainer tells that what carried the report was authenticated already,
	// as a TEEP message or an attestation token is. Without it the report must be signed.
	AuthenticatedByContainer bool
}

// OpenedReport is a report and what protected it.
type OpenedReport struct {
	Report *Report
	// Signer is nil if the report was neither signed nor MACed.
	Signer    *cose.Key
	Algorithm cose.Algorithm
	Encrypted bool
}

// OpenReport checks and removes the protection of a report, then parses it: a signature or MAC
// first if there is one, then encryption if there is one.
func OpenReport(data []byte, o OpenReportOptions) (*OpenedReport, error) {
	var opened OpenedReport
	inner, err := opened.authenticate(data, o)
	if err != nil {
		return nil, err
	}
	if inner, err = opened.decrypt(inner, o); err != nil {
		return nil, err
	}
	if !opened.Encrypted && o.RequireEncryption {
		return nil, ErrReportPlain
	}
	opened.Report, err = ParseReport(inner)
	return &opened, err
}

func tagOf(data []byte) uint64 {
	r := scan.New(data)
	tag, err := r.Tag()
	if err != nil {
		return 0
	}
	return tag
}

// ReportTag tells which COSE structure protects a report, by its tag, which need not be there
// (SUIT report §7): a COSE_Sign1 and a COSE_Mac0 without it differ in their algorithms alone. 0 is a report
// as it is, or what is none. Nothing of it is verified.
func ReportTag(data []byte) uint64 {
	r := scan.New(data)
	if r.Peek() == scan.Tag {
		return tagOf(data)
	}
	n, err := r.Array()
	if err != nil {
		return 0
	}
	var last scan.Kind
	for range n {
		last = r.Peek()
		if _, err := r.Item(); err != nil {
			return 0
		}
	}
	switch {
	case n == 3:
		return tagEncrypt0
	case n == 4 && last == scan.Array:
		return tagEncrypt
	case n != 4 || last != scan.Bytes:
		return 0
	}
	if body, _, err := cose.UnverifiedHeaders(data); err == nil && body.Protected.Algorithm() == cose.AlgHMAC256 {
		return tagMac0
	}
	return tagSign1
}

// authenticate returns the payload of a signed report, or the report itself.
func (opened *OpenedReport) authenticate(data []byte, o OpenReportOptions) ([]byte, error) {
	var (
		v   *cose.Verified
		err error
	)
	switch ReportTag(data) {
	case tagSign1:
		if o.Keys == nil {
			return nil, fmt.Errorf("%w: no key is trusted for reports", ErrUnauthorized)
		}
		v, err = cose.Verify(data, o.Keys, cose.VerifyOptions{Algorithms: o.Algorithms})
	case tagMac0:
		if o.MACKeys == nil {
			return nil, fmt.Errorf("%w: %w", ErrUnauthorized, errNoMACKeys)
		}
		v, err = cose.VerifyMac0(data, o.MACKeys, cose.VerifyOptions{})
	default:
		if !o.AuthenticatedByContainer {
			return nil, ErrReportUnsigned
		}
		return data, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	opened.Signer, opened.Algorithm = v.Key, v.Algorithm
	return v.Payload, nil
}

const tagEncrypt0 = 16

// reportEncryption are the content encryption algorithms of the profiles in SUIT MTI. Those
// without a tag are accepted because the report is authenticated by the time they are used.
var reportEncryption = []cose.Algorithm{cose.AlgA128GCM, cose.AlgChaCha20Poly1305, cose.AlgA256GCM,
	cose.AlgA128CTR, cose.AlgA256CTR}

func (opened *OpenedReport) decrypt(data []byte, o OpenReportOptions) (plaintext []byte, err error) {
	options := cose.DecryptOptions{Algorithms: reportEncryption, KDFOther: reportKDFOther}
	switch ReportTag(data) {
	case tagEncrypt:
		plaintext, err = cose.Decrypt(data, nil, o.DecryptKeys, options)
	case tagEncrypt0:
		if o.ContentKey == nil {
			return nil, fmt.Errorf("suit: cannot decrypt report: %w: no content key is configured", cose.ErrNoKey)
		}
		plaintext, err = cose.Decrypt0(data, nil, o.ContentKey, options)
	default:
		return data, nil
	}
	if err != nil {
		return nil, fmt.Errorf("suit: cannot decrypt report: %w", err)
	}
	opened.Encrypted = true
	// The text can be read as encrypting the report or a byte string around it; both open.
	if r := scan.New(plaintext); r.Peek() == scan.Bytes {
		if content, err := r.Bytes(); err == nil && r.Done() == nil {
			return content, nil
		}
	}
	return plaintext, nil
}
