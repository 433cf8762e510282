package tpmseal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/seal"
)

// Sentinel errors.
var (
	// ErrMeasurement says that the machine is in another state than when the secret was sealed.
	ErrMeasurement = errors.New("tpmseal: this machine booted something else than what the state is sealed to")
	// ErrTPM says that the TPM is not the one that sealed the secret, or was cleared since.
	ErrTPM = errors.New("tpmseal: the TPM is another one, or was cleared")
)

// DefaultIndex is the counter's NV index, of the range that the owner of a TPM gives out (TCG Registry
// of Reserved TPM 2.0 Handles and Localities §2.2).
const DefaultIndex = 0x01807465

// Source is a seal.KeySource. One at a time uses a TPM's counter.
type Source struct {
	// TPM is the way to it. It stays the caller's and must stay open while the store is in use.
	TPM transport.TPM
	// PCRs are those of the SHA-256 bank whose values the secret is sealed to.
	PCRs []int
	// Index is the counter's; 0 means DefaultIndex.
	Index uint32
	// Approver is whose approvals open the state to other boots than the first: the key, for ESP256, with
	// which the vendor of images signs them (Approve). It counts at the first start, and is part of what
	// the secret is sealed to from then on. nil: only what booted first ever opens the state.
	Approver *cose.Key
	// Approvals is what came with what booted, from anywhere: the TPM checks it. It matters where the
	// state names an approver, and something else booted than at the first start.
	Approvals []byte
}

var _ seal.KeySource = (*Source)(nil)

const (
	keyFile    = "tpm-sealed-key"
	keyTemp    = "tpm-sealed-key.tmp"
	maxKeyFile = 8 << 10
	secretSize = 32
	// arrayOf5 is how version 1 of the file begins (RFC 8949 §3.1).
	arrayOf5 = 0x85
)

// sealedKey is the file beside the store.
//
//	sealed-key = [ 1, to-first ] / [ 2, to-first, first: bstr .size 32, approver: bstr .size 64 ]
//	to-first   = ( pcrs: [ + 0..23 ], index: uint, public: bstr, private: bstr )
//
// public and private are TPMT_PUBLIC and the content of TPM2B_PRIVATE of the sealed object; first is
// the digest of the policy over the PCRs of the first start, approver x and y of the approver's key.
type sealedKey struct {
	_        struct{} `cbor:",toarray"`
	Version  int
	PCRs     []int
	Index    uint32
	Public   []byte
	Private  []byte
	First    []byte
	Approver []byte
}

// firstKey is version 1.
type firstKey struct {
	_       struct{} `cbor:",toarray"`
	Version int
	PCRs    []int
	Index   uint32
	Public  []byte
	Private []byte
}

// Weaknesses implements seal.KeySource.
func (s *Source) Weaknesses() []string {
	return []string{"sealing key bound to a TPM and to the measured boot: as safe as that TPM is from the host"}
}

// Open implements seal.KeySource.
func (s *Source) Open(disk seal.Disk, rand io.Reader) ([]byte, seal.MonotonicCounter, error) {
	if s.TPM == nil || len(s.PCRs) == 0 {
		return nil, nil, errors.New("tpmseal: a TPM and the PCRs to seal to are needed")
	}
	begun, err := seal.HasStore(disk)
	if err != nil {
		return nil, nil, err
	}
	root, err := openRoot(s.TPM)
	if err != nil {
		return nil, nil, err
	}
	secret, index, err := s.secret(disk, rand, root, begun)
	if err == nil {
		var c *counter
		if c, err = openCounter(s.TPM, root, index, counterAuth(secret), begun); err == nil {
			if err = root.close(); err == nil {
				return secret, c, nil
			}
		}
	}
	clear(secret)
	return nil, nil, errors.Join(err, root.close())
}

func (s *Source) secret(disk seal.Disk, rand io.Reader, root *root, begun bool) ([]byte, uint32, error) {
	file, err := readKey(disk)
	switch {
	case errors.Is(err, fs.ErrNotExist) && begun:
		return nil, 0, fmt.Errorf("%w: the file %s is missing but there is sealed state: restore it from a backup, or empty the disk to begin anew with a new identity", tee.ErrCorrupt, keyFile)
	case errors.Is(err, fs.ErrNotExist):
		return s.begin(disk, rand, root)
	case err != nil:
		return nil, 0, err
	}
	var approved []approval
	if file.Approver != nil && len(s.Approvals) > 0 {
		if approved, err = parseApprovals(s.Approvals); err != nil {
			return nil, 0, err
		}
	}
	secret, err := root.unseal(file, approved)
	return secret, file.Index, err
}

// begin makes a secret, and is done when its file is durable.
func (s *Source) begin(disk seal.Disk, rand io.Reader, root *root) ([]byte, uint32, error) {
	file := &sealedKey{Version: 1, PCRs: s.PCRs, Index: s.Index}
	if file.Index == 0 {
		file.Index = DefaultIndex
	}
	if s.Approver != nil {
		var err error
		if file.Approver, err = approverPoint(s.Approver); err != nil {
			return nil, 0, err
		}
		file.Version = 2
	}
	secret := make([]byte, secretSize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, 0, fmt.Errorf("tpmseal: make the sealing secret: no randomness: %w", err)
	}
	if err := root.seal(file, secret); err != nil {
		return nil, 0, err
	}
	if err := writeKey(disk, file); err != nil {
		return nil, 0, fmt.Errorf("tpmseal: keep the sealed secret: %w", err)
	}
	return secret, file.Index, nil
}

func readKey(disk seal.Disk) (*sealedKey, error) {
	f, err := disk.Open(keyFile)
	if err != nil {
		return nil, err
	}
	content := make([]byte, maxKeyFile+1)
	n, err := f.ReadAt(content, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("tpmseal: read the sealed secret: %w", err)
	}
	return parseKey(content[:n])
}

// parseKey reads the file. It is the host's: what is wrong in it the TPM refuses, or the store.
func parseKey(content []byte) (*sealedKey, error) {
	var k sealedKey
	var err error
	if len(content) > 0 && content[0] == arrayOf5 {
		var first firstKey
		err = cbor.Unmarshal(content, &first)
		k = sealedKey{Version: first.Version, PCRs: first.PCRs, Index: first.Index, Public: first.Public, Private: first.Private}
	} else {
		err = cbor.Unmarshal(content, &k)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the file %s is damaged: %w", tee.ErrCorrupt, keyFile, err)
	}
	approved := k.Version == 2 && len(k.First) == sha256.Size && len(k.Approver) == 2*p256Bytes
	if k.Version != 1 && !approved || k.Version == 1 && (k.First != nil || k.Approver != nil) || len(k.PCRs) == 0 {
		return nil, fmt.Errorf("%w: the file %s is of another version, names no PCRs, or no approver", tee.ErrCorrupt, keyFile)
	}
	for _, pcr := range k.PCRs {
		if pcr < 0 || pcr >= pcrCount {
			return nil, fmt.Errorf("%w: the file %s names PCR %d", tee.ErrCorrupt, keyFile, pcr)
		}
	}
	return &k, nil
}

func writeKey(disk seal.Disk, k *sealedKey) error {
	var file any = k
	if k.Version == 1 {
		file = firstKey{Version: k.Version, PCRs: k.PCRs, Index: k.Index, Public: k.Public, Private: k.Private}
	}
	content, err := cbor.Marshal(file)
	if err != nil {
		return err
	}
	if err := disk.Remove(keyTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := disk.Create(keyTemp)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(keyTemp, keyFile); err != nil {
		return err
	}
	return disk.SyncDir(".")
}

// counterAuth is the counter's authorization value: 128 bits, as text, because a value is as long as
// its name's digest at most, and libraries disagree on what zero bytes in it mean.
func counterAuth(secret []byte) []byte {
	auth, err := hkdf.Key(sha256.New, secret, nil, "go-teep tpmseal 1\x00counter", sha256.Size/2)
	if err != nil {
		panic(err) // only for more output than HKDF has
	}
	return hex.AppendEncode(nil, auth)
}
