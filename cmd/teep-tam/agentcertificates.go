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
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/filewatch"
)

// agentOptions are what a TAM knows of agents beforehand.
type agentOptions struct {
	// Authorities are PEM files with the certificates of those who certify agents' keys. Without
	// one, certificate chains of agents are not looked at.
	Authorities []string `yaml:"authorities"`
	// RevocationLists are X.509 CRLs, in DER or PEM; read again when the files change.
	RevocationLists []string `yaml:"revocation-lists"`
	// RevocationMemory is where the lists in force are kept, so that an older one does not come
	// back with a restart.
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
	follower *filewatch.Follower
	current  atomic.Pointer[cose.CertificateKeys]
}

// openAgentCertificates reads the files; nil if there are no authorities.
func openAgentCertificates(o agentOptions, log *slog.Logger) (*agentCertificates, error) {
	if len(o.Authorities) == 0 {
		return nil, nil
	}
	a := &agentCertificates{options: o}
	var err error
	a.follower, err = filewatch.NewFollower("agents' certificate authorities and revocation lists", a.files, a.read, log)
	return a, err
}

// Validate implements tam.CertificateValidator.
func (a *agentCertificates) Validate(chain [][]byte) (*x509.Certificate, error) {
	return a.current.Load().Validate(chain)
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
	lists, err := a.renewed(authorities)
	if err != nil {
		return fmt.Errorf("agents.revocation-lists: %w", err)
	}
	keys, err := cose.NewCertificateKeys(cose.CertificateOptions{Roots: pool, Now: time.Now, RevocationLists: lists})
	if err != nil {
		return err
	}
	a.current.Store(keys)
	return nil
}

// renewed reads the lists and adds them to those that are remembered.
func (a *agentCertificates) renewed(authorities []*x509.Certificate) ([][]byte, error) {
	var lists [][]byte
	for _, path := range a.options.RevocationLists {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		more, err := trust.ParseRevocationLists(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		lists = append(lists, more...)
	}
	var remembered [][]byte
	before, err := os.ReadFile(a.options.RevocationMemory)
	if err == nil {
		remembered, err = trust.ParseRevocationLists(before)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("the lists that were in force before: %w", err)
	}
	r, err := trust.RenewRevocationLists(remembered, lists, authorities, nil)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, der := range r.Kept {
		if err := pem.Encode(&text, &pem.Block{Type: "X509 CRL", Bytes: der}); err != nil {
			return nil, err
		}
	}
	if text.Len() == 0 || bytes.Equal(text.Bytes(), before) {
		return r.InForce, nil
	}
	return r.InForce, replaceFile(a.options.RevocationMemory, text.Bytes())
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
