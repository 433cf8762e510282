package sandbox

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/cbor"
	"github.com/go-teep/teep/tee"
	"github.com/go-teep/teep/tee/sandbox/secretmem"
	"github.com/go-teep/teep/tee/seal"
)

const (
	secretFile  = "device-secret"
	secretTemp  = "device-secret.tmp"
	secretMagic = "TEEPDEV1"
	secretSize  = 32
	checkSize   = 8
)

// DeviceSecret is the key source of last resort: a random secret in a file of the folder. It keeps out
// whoever gets at the sealed files without it, and nobody who can read the folder.
type DeviceSecret struct{}

var _ seal.KeySource = DeviceSecret{}

// Open implements seal.KeySource. There is no counter.
func (DeviceSecret) Open(disk seal.Disk, rand io.Reader) ([]byte, seal.MonotonicCounter, error) {
	secret, err := deviceSecret(disk, rand)
	return secret, nil, err
}

// Weaknesses implements seal.KeySource.
func (DeviceSecret) Weaknesses() []string {
	return []string{"sealing key from a device secret in a file: whoever reads that file can read and forge the sealed state"}
}

// deviceSecret reads the device secret, or makes it at first start.
//
//	file = magic (8) / secret (32) / first 8 bytes of SHA-256 of what is before
//
// The checksum tells a damaged file from a foreign one; it protects nothing.
func deviceSecret(disk seal.Disk, rand io.Reader) ([]byte, error) {
	f, err := disk.Open(secretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecret(disk, rand)
	}
	if err != nil {
		return nil, fmt.Errorf("read the device secret: %w", err)
	}
	const size = len(secretMagic) + secretSize + checkSize
	b := make([]byte, size+1)
	n, err := f.ReadAt(b, 0)
	if err = errors.Join(ignoreEOF(err), f.Close()); err != nil {
		return nil, fmt.Errorf("read the device secret: %w", err)
	}
	body, check := b[:size-checkSize], b[size-checkSize:size]
	sum := sha256.Sum256(body)
	if n != size || string(body[:len(secretMagic)]) != secretMagic || !bytes.Equal(sum[:checkSize], check) {
		return nil, fmt.Errorf("%w: the file %s is damaged: restore it from a backup, or empty the folder to begin anew with a new identity", tee.ErrCorrupt, secretFile)
	}
	return body[len(secretMagic):], nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// makeSecret makes a new device secret, unless there is state that another one has sealed.
func makeSecret(disk seal.Disk, rand io.Reader) ([]byte, error) {
	begun, err := seal.HasStore(disk)
	if err != nil {
		return nil, err
	}
	if begun {
		return nil, fmt.Errorf("%w: the file %s is missing but there is sealed state: restore it from a backup, or empty the folder to begin anew with a new identity", tee.ErrCorrupt, secretFile)
	}
	secret := make([]byte, secretSize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("make the device secret: no randomness: %w", err)
	}
	content := append(append(make([]byte, 0, len(secretMagic)+secretSize+checkSize), secretMagic...), secret...)
	defer func() { clear(content[:cap(content)]) }()
	sum := sha256.Sum256(content)
	if err := writeDurably(disk, append(content, sum[:checkSize]...)); err != nil {
		return nil, fmt.Errorf("make the device secret: %w", err)
	}
	return secret, nil
}

func writeDurably(disk seal.Disk, content []byte) error {
	if err := disk.Remove(secretTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := disk.Create(secretTemp)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(secretTemp, secretFile); err != nil {
		return err
	}
	return disk.SyncDir(".")
}

// birth is what the TEE made of itself at first start; one sealed item, so that there is all of
// it or nothing.
//
// What the device's maker says about it is sealed as a digest: it is the same at every start, or
// whoever writes the configuration could pass one device off as another.
//
//	birth = { 1: ueid: bstr, 2: { * key-use: tstr => COSE_Key: bstr }, 3: sha256 of the identity: bstr }
type birth struct {
	UEID     []byte            `cbor:"1,keyasint"`
	Keys     map[string][]byte `cbor:"2,keyasint"`
	Identity []byte            `cbor:"3,keyasint"`

	keys *keys
}

// wipe zeroes the private keys.
func (b *birth) wipe() {
	for _, key := range b.Keys {
		clear(key)
	}
}

const birthItem = "birth"

// loadBirth moves the private keys into secrets.
func loadBirth(store *seal.Store, secrets *secretmem.Page, cfg Config) (*birth, error) {
	var b birth
	content, err := store.Item(birthItem)
	switch {
	case errors.Is(err, tee.ErrNotExist):
		content, err = makeBirth(store, cfg)
		if err != nil {
			return nil, fmt.Errorf("first start: %w", err)
		}
	case err != nil:
		return nil, err
	}
	defer clear(content)
	defer b.wipe()
	if err := cbor.Unmarshal(content, &b); err != nil {
		return nil, fmt.Errorf("%w: keys of the TEE: %w", tee.ErrCorrupt, err)
	}
	if b.keys, err = parseKeys(b.Keys, secrets); err != nil {
		return nil, err
	}
	if want, have := cfg.agentAlgorithm(), b.keys.public[tee.KeyAgent].Alg(); want != have {
		return nil, fmt.Errorf("the agent key is for %v but the configuration says %v: a key cannot change its algorithm; set it back, or empty the folder to begin anew with a new identity", have, want)
	}
	stated, err := cfg.Identity.digest()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b.Identity, stated) {
		return nil, fmt.Errorf("%w: vendor, class, oemid, hwmodel and hwversion are sealed at the first start: set them back, or empty the folder to begin anew with a new identity", ErrIdentity)
	}
	if ueid := cfg.Identity.UEID; len(ueid) > 0 && !bytes.Equal(ueid, b.UEID) {
		return nil, fmt.Errorf("%w: it has another UEID", ErrIdentity)
	}
	if n := len(b.UEID); n < 7 || n > 33 {
		return nil, fmt.Errorf("the UEID has %d bytes: it has 7 to 33, the first being its type (RFC 9711 §4.2.1)", n)
	}
	return &b, nil
}

// ErrIdentity says that the TEE was made for another device than the configuration describes.
var ErrIdentity = errors.New("the configuration describes another device than the one this TEE was made for")

// digest is what of the identity must stay as it is, the UEID aside, which is sealed as such. The
// agent's name and version come with the program.
func (id Identity) digest() ([]byte, error) {
	encoded, err := cbor.Marshal([]any{id.OEMID, id.HWModel, id.HWVersion, id.VendorID[:], id.ClassID[:], id.DeviceID[:]})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	sum := sha256.Sum256(encoded)
	return sum[:], nil
}

func (cfg Config) agentAlgorithm() cose.Algorithm {
	if cfg.AgentAlgorithm == 0 {
		return cose.AlgESP256
	}
	return cfg.AgentAlgorithm
}

func makeBirth(store *seal.Store, cfg Config) ([]byte, error) {
	const ueidRAND = 1 // RFC 9711 §4.2.1.1
	stated, err := cfg.Identity.digest()
	if err != nil {
		return nil, err
	}
	b := birth{UEID: make([]byte, 17), Keys: map[string][]byte{}, Identity: stated}
	b.UEID[0] = ueidRAND
	if _, err := io.ReadFull(cfg.Rand, b.UEID[1:]); err != nil {
		return nil, fmt.Errorf("no randomness: %w", err)
	}
	if given := cfg.Identity.UEID; len(given) > 0 {
		b.UEID = clone(given)
	}
	for use, alg := range map[tee.KeyUse]cose.Algorithm{
		tee.KeyAgent:       cfg.agentAlgorithm(),
		tee.KeyAttestation: cose.AlgESP256,
		tee.KeyReport:      cose.AlgESP256,
		tee.KeyEncryption:  cose.AlgECDHESA128KW,
	} {
		key, err := cose.GenerateKey(cfg.Rand, alg)
		if err != nil {
			return nil, fmt.Errorf("make the %s key: %w", use, err)
		}
		if b.Keys[string(use)], err = key.MarshalCBOR(); err != nil {
			return nil, fmt.Errorf("make the %s key: %w", use, err)
		}
	}
	defer b.wipe()
	content, err := cbor.Marshal(b)
	if err != nil {
		return nil, err
	}
	return content, store.PutItem(birthItem, content)
}
