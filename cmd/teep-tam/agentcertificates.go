package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/internal/filewatch"
)

// agentOptions are what a TAM knows of agents beforehand.
type agentOptions struct {
	// Authorities are PEM files with the certificates of those who certify agents' keys. Without
	// one, certificate chains of agents are not looked at.
	Authorities []string `yaml:"authorities"`
	// RevocationLists are X.509 CRLs, in DER or PEM; read again when the files change.
	RevocationLists []string `yaml:"revocation-lists"`
	// RevocationMemory is where the lists in force are kept, so that neither an older one comes back with a
	// restart nor one goes out of force that is left out.
	RevocationMemory string `yaml:"revocation-memory"`
	// EncryptionKeys say which key an agent's own messages can be encrypted to.
	EncryptionKeys []agentEncryptionKey `yaml:"encryption-keys"`
}

// agentEncryptionKey ties an agent's key for encryption to the key of its messages, as files.
type agentEncryptionKey struct {
	Agent      string `yaml:"agent"`
	Encryption string `yaml:"encryption"`
}

// defaultRevocationMemory lies beside the configuration.
const defaultRevocationMemory = "revocation-lists.seen.pem"

func (o *agentOptions) check() error {
	if len(o.Authorities) == 0 && len(o.RevocationLists) > 0 {
		return errors.New("agents.revocation-lists without agents.authorities: name whom they are by, or remove them")
	}
	for i, k := range o.EncryptionKeys {
		if k.Agent == "" || k.Encryption == "" {
			return fmt.Errorf("agents.encryption-keys: entry %d needs both agent and encryption: 'teep-agent keys --use agent' and '--use encryption' print them", i+1)
		}
	}
	return nil
}

// encryption finds the key that can be encrypted to by the thumbprint of an agent's message key.
func (o *agentOptions) encryption() (func(agent []byte) *cose.Key, error) {
	if len(o.EncryptionKeys) == 0 {
		return nil, nil
	}
	known := map[string]*cose.Key{}
	for _, k := range o.EncryptionKeys {
		agent, err := publicKey(k.Agent)
		if err != nil {
			return nil, err
		}
		if known[string(agent.Thumbprint())], err = publicKey(k.Encryption); err != nil {
			return nil, err
		}
	}
	return func(agent []byte) *cose.Key { return known[string(agent)] }, nil
}

// agentCertificates validates the certificate chains of agents, by authorities and revocation lists
// that follow their files. Safe for concurrent use.
type agentCertificates struct {
	options  agentOptions
	log      *slog.Logger
	follower *filewatch.Follower
	current  atomic.Pointer[certificatesInForce]
	// memory is held by who reads and replaces the file that remembers.
	memory sync.Mutex
}

// certificatesInForce is what one reading of the files amounts to. It does not change, but for looked.
type certificatesInForce struct {
	keys        *cose.CertificateKeys
	authorities []*x509.Certificate
	lists       []*x509.RevocationList
	// looked are the certificates of issuers, in DER, whose lists are remembered or could not be.
	looked sync.Map
}

// openAgentCertificates reads the files; nil if there are no authorities.
func openAgentCertificates(o agentOptions, log *slog.Logger) (*agentCertificates, error) {
	if len(o.Authorities) == 0 {
		return nil, nil
	}
	a := &agentCertificates{options: o, log: log}
	var err error
	a.follower, err = filewatch.NewFollower("agents' certificate authorities and revocation lists", a.files, a.read, log)
	return a, err
}

// Validate implements tam.CertificateValidator.
func (a *agentCertificates) Validate(chain [][]byte) (*x509.Certificate, error) {
	now := a.current.Load()
	leaf, err := now.keys.Validate(chain)
	a.noteIssuers(now, chain)
	return leaf, err
}

// noteIssuers remembers the lists in force of issuers below an authority that a chain has shown, whatever
// became of the chain: until then, nobody can tell whose the lists are.
func (a *agentCertificates) noteIssuers(now *certificatesInForce, chain [][]byte) {
	if len(now.lists) == 0 || len(chain) > cose.MaxCertificates {
		return
	}
	var lists [][]byte
	var issuers []*x509.Certificate
	for _, der := range chain[min(1, len(chain)):] {
		if _, done := now.looked.Load(string(der)); done {
			continue
		}
		signed := now.signedBy(der)
		if signed == nil {
			continue
		}
		// What leads nowhere is not noted: strangers' certificates have no end.
		if issuers == nil {
			issuers = revocation.Issuers(now.authorities, chain)
		}
		if slices.ContainsFunc(issuers, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) }) {
			now.looked.Store(string(der), true)
			lists = append(lists, signed...)
		}
	}
	if lists == nil {
		return
	}
	if _, err := a.remember(lists, now.authorities, issuers...); err != nil && !errors.Is(err, revocation.ErrOlder) {
		a.log.Error("revocation lists of an issuer below an authority are in force, and not remembered", "err", err)
	}
}

// signedBy are the lists in force of an issuer.
func (c *certificatesInForce) signedBy(issuer []byte) (all [][]byte) {
	cert, err := x509.ParseCertificate(issuer)
	if err != nil {
		return nil
	}
	for _, l := range c.lists {
		if cose.IsIssuer(cert, l) && l.CheckSignatureFrom(cert) == nil {
			all = append(all, l.Raw)
		}
	}
	return all
}

func (a *agentCertificates) files() []string {
	return slices.Concat(a.options.Authorities, a.options.RevocationLists)
}

// follow keeps what is in force true to the files, until ctx ends.
func (a *agentCertificates) follow(ctx context.Context) error {
	if a == nil {
		return nil
	}
	return a.follower.Follow(ctx)
}

func (a *agentCertificates) read() error {
	pool := x509.NewCertPool()
	var authorities []*x509.Certificate
	for _, path := range a.options.Authorities {
		chain, err := readChain(path)
		if err != nil {
			return fmt.Errorf("agents.authorities: %w", err)
		}
		for _, der := range chain {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return fmt.Errorf("agents.authorities: %s: %w", path, err)
			}
			if !cert.IsCA {
				return fmt.Errorf("agents.authorities: %s: %q is no certification authority", path, cert.Subject)
			}
			pool.AddCert(cert)
			authorities = append(authorities, cert)
		}
	}
	lists, err := a.listed()
	if err != nil {
		return fmt.Errorf("agents.revocation-lists: %w", err)
	}
	r, err := a.remember(lists, authorities)
	if err != nil {
		return fmt.Errorf("agents.revocation-lists: %w", err)
	}
	next := &certificatesInForce{authorities: authorities}
	if next.keys, err = cose.NewCertificateKeys(cose.CertificateOptions{Roots: pool, Now: time.Now, RevocationLists: r.InForce}); err != nil {
		return err
	}
	for _, der := range r.InForce {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		next.lists = append(next.lists, list)
	}
	a.current.Store(next)
	return nil
}

// listed reads the lists of the files.
func (a *agentCertificates) listed() (lists [][]byte, err error) {
	for _, path := range a.options.RevocationLists {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		more, err := revocation.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		lists = append(lists, more...)
	}
	return lists, nil
}

// remember puts lists in the place of those that are remembered, and keeps what is in force then and whose
// issuer is known: an authority, one that was remembered, or one that a chain has just shown.
func (a *agentCertificates) remember(lists [][]byte, authorities []*x509.Certificate, shown ...*x509.Certificate) (*revocation.Lists, error) {
	a.memory.Lock()
	defer a.memory.Unlock()
	before, err := os.ReadFile(a.options.RevocationMemory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the lists that were in force before: %w", err)
	}
	remembered, issuers, err := parseMemory(before)
	if err != nil {
		return nil, fmt.Errorf("the lists that were in force before: %s: %w", a.options.RevocationMemory, err)
	}
	r, err := revocation.Renew(remembered, lists, authorities, append(issuers, shown...))
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, kept := range []struct {
		blockType string
		all       [][]byte
	}{{crlBlock, r.Kept}, {certificateBlock, r.Issuers}} {
		for _, der := range kept.all {
			if err := pem.Encode(&text, &pem.Block{Type: kept.blockType, Bytes: der}); err != nil {
				return nil, err
			}
		}
	}
	if text.Len() == 0 || bytes.Equal(text.Bytes(), before) {
		return r, nil
	}
	return r, replaceFile(a.options.RevocationMemory, text.Bytes())
}

// The blocks of the file that remembers: lists, and the certificates of their issuers below authorities.
const (
	crlBlock         = "X509 CRL"
	certificateBlock = "CERTIFICATE"
)

func parseMemory(text []byte) (lists [][]byte, issuers []*x509.Certificate, err error) {
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, nil, errors.New("not PEM: restore it, or remove it, which forgets them")
		}
		text = rest
		switch block.Type {
		case crlBlock:
			lists = append(lists, block.Bytes)
		case certificateBlock:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			issuers = append(issuers, c)
		default:
			return nil, nil, fmt.Errorf("a PEM block of type %q", block.Type)
		}
	}
	return lists, issuers, nil
}

// replaceFile writes a file so that a crash leaves the old or the new one.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
