package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/pkcs11"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/suit"
)

func suitSign() *cobra.Command {
	var keyFiles []string
	var certificates, out string
	c := &cobra.Command{
		Use:   "sign --key KEY ENVELOPE",
		Short: "Sign an envelope",
		Long: `Adds a COSE_Sign1 over the digest of the manifest to the authentication wrapper. The envelope is
replaced in one step, or written elsewhere with -o. Signing again with another key adds a signature; several keys
at once make one COSE_Sign. A shared key (teep key generate --alg "HMAC 256/256") makes a COSE_Mac0, which only devices
that have that key can check, and any of them could have made.

With --certificates the signature carries the certificates of its key (x5chain), for those who trust an authority and not the
key: the end entity first, then what leads to the authority. It is made for signatures, and if it has extended key usages,
for signing code.`,
		Example: `  teep suit sign --key dev.pem hello.suit
  teep suit sign --key dev.pem --key release.pem hello.suit -o signed.suit
  teep suit sign --key dev.pem --certificates dev-chain.pem hello.suit
  teep suit sign --key 'pkcs11:token=developer;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=pin.txt' hello.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(_ *cobra.Command, args []string) error {
			by, done, err := openSigners(keyFiles)
			if err != nil {
				return err
			}
			defer done()
			if err := by.certify(certificates); err != nil {
				return err
			}
			envelope, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			if err := by.sign(envelope); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if out == "" {
				out = args[0]
			}
			return replaceFile(out, envelope.Encode())
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "private key of the signer: a file (PEM or COSE_Key), or a PKCS#11 URI; may be repeated")
	c.Flags().StringVar(&certificates, "certificates", "", "certificates of the key in PEM, that of the key first")
	c.Flags().StringVarP(&out, "output", "o", "", "write here instead of replacing ENVELOPE")
	return require(c, "key")
}

// certify adds the certificates in a file to the one signer.
func (a *authenticators) certify(file string) error {
	if file == "" {
		return nil
	}
	if len(a.signers) != 1 {
		return &program.Usage{Err: errors.New("--certificates go with one --key that is no shared one")}
	}
	chain, err := readCertificates(file)
	if err != nil {
		return err
	}
	certified, err := cose.NewCertified(a.signers[0], chain)
	if err != nil {
		return fmt.Errorf("--certificates %s: %w", file, err)
	}
	a.signers[0] = certified
	return nil
}

// readCertificates reads certificates in PEM, and returns them in DER.
func readCertificates(file string) ([][]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: a PEM block of type %q: keep certificates alone in the file", file, block.Type)
		}
		all = append(all, block.Bytes)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no PEM block of type CERTIFICATE", file)
	}
	return all, nil
}

// authenticators are what one block is made with: signers, or a shared key.
type authenticators struct {
	signers []cose.Signer
	shared  *cose.Key
}

// openSigners opens keys from files and tokens. done lets go of them.
func openSigners(names []string) (a authenticators, done func(), err error) {
	var open []func()
	closeAll := func() {
		for _, f := range open {
			f()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	for _, name := range names {
		if !pkcs11.IsURI(name) {
			key, err := readKey(name)
			if err != nil {
				return a, nil, err
			}
			if key.Type() == cose.KeyTypeSymmetric {
				if len(names) > 1 {
					return a, nil, &program.Usage{Err: fmt.Errorf("%s is a shared key, which makes a MAC by itself: use it alone", name)}
				}
				a.shared = key
				continue
			}
		}
		signer, closeSigner, err := openSigner(name)
		if err != nil {
			return a, nil, err
		}
		open, a.signers = append(open, closeSigner), append(a.signers, signer)
	}
	return a, closeAll, nil
}

// sign adds one block: a COSE_Sign1, a COSE_Sign of several keys, or a COSE_Mac0.
func (a authenticators) sign(envelope *suit.Envelope) error {
	for _, signer := range a.signers {
		if signedBy(envelope, signer) {
			return fmt.Errorf("it is signed with this key already: %x", signer.Public().Thumbprint())
		}
	}
	switch {
	case a.shared != nil:
		return envelope.Mac(a.shared)
	case len(a.signers) == 1:
		return envelope.Sign(rand.Reader, a.signers[0])
	}
	return envelope.SignMulti(rand.Reader, a.signers...)
}

func suitVerify() *cobra.Command {
	var keyFiles, authorities []string
	var older bool
	c := &cobra.Command{
		Use:   "verify (--key KEY | --authority CERTIFICATE) ENVELOPE",
		Short: "Check the signature, the digests and the format of an envelope",
		Long: `Checks that the manifest has the digest that was signed, that one of the keys signed it, that
severed members have the digests in the manifest, and that the manifest is well-formed. The keys say which algorithms
count: ESP256, ESP384 and Ed25519, and ML-DSA-65, HSS-LMS and HMAC where a key for them is given.`,
		Example: `  teep suit verify --key dev.pub.pem hello.suit
  teep suit verify --authority ca.pem hello.suit
  teep suit verify --key shared.cosekey hello.suit`,
		Args: program.ExactArgs("ENVELOPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, o, err := readTrusted(keyFiles)
			if err != nil {
				return err
			}
			keys, err := withAuthorities(known, authorities)
			if err != nil {
				return err
			}
			envelope, err := readEnvelope(args[0])
			if err != nil {
				return err
			}
			if older {
				o.Algorithms = append(o.Algorithms, cose.AlgES256, cose.AlgES384, cose.AlgEdDSA)
			}
			verified, err := envelope.Verify(keys, o)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			m := verified.Manifest
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: manifest %v, sequence number %d, signed with %v by %x\n",
				args[0], m.ComponentID, m.SequenceNumber, verified.Algorithm, verified.Signer.Thumbprint())
			return err
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "public key to trust (PEM or COSE_Key), or a shared one; may be repeated")
	c.Flags().StringArrayVar(&authorities, "authority", nil, "certificate of an authority whose signers to trust, by the certificates beside the signature; may be repeated")
	c.Flags().BoolVar(&older, "insecure-older-algorithms", false, "also accept ES256, ES384 and EdDSA, whose identifiers leave the curve open")
	c.MarkFlagsOneRequired("key", "authority")
	return c
}

// withAuthorities adds those to the keys whom authorities certify to sign code, as of now.
func withAuthorities(keys cose.KeySource, files []string) (cose.KeySource, error) {
	if len(files) == 0 {
		return keys, nil
	}
	roots := x509.NewCertPool()
	for _, file := range files {
		chain, err := readCertificates(file)
		if err != nil {
			return nil, err
		}
		for _, der := range chain {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if !cert.IsCA {
				return nil, fmt.Errorf("%s: %q is no certification authority", file, cert.Subject)
			}
			roots.AddCert(cert)
		}
	}
	certified, err := cose.NewCertificateKeys(cose.CertificateOptions{
		Roots: roots, Now: time.Now, ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return nil, err
	}
	return cose.AnyOf(keys, certified), nil
}

// readTrusted reads public and shared keys. Algorithms beyond the default count if a key is for them.
func readTrusted(files []string) (keys cose.KeySet, o suit.VerifyOptions, err error) {
	o.Algorithms = cose.DefaultSignatureAlgorithms()
	var public, shared []*cose.Key
	for _, name := range files {
		key, err := readKey(name)
		if err != nil {
			return nil, o, err
		}
		switch {
		case key.Type() == cose.KeyTypeSymmetric && key.Alg() != cose.AlgHMAC256:
			return nil, o, fmt.Errorf("%s is a symmetric key for %v: signatures are checked with a public key, MACs with one for HMAC 256/256", name, key.Alg())
		case key.Type() == cose.KeyTypeSymmetric:
			shared = append(shared, key)
			continue
		case key.Alg() == cose.AlgMLDSA65, key.Alg() == cose.AlgHSSLMS:
			o.Algorithms = append(o.Algorithms, key.Alg())
		}
		public = append(public, key.Public())
	}
	if len(shared) > 0 {
		set, err := cose.NewKeySet(shared...)
		if err != nil {
			return nil, o, err
		}
		o.MACKeys = set
	}
	keys, err = cose.NewKeySet(public...)
	return keys, o, err
}

// signedBy tells whether a key has signed an envelope before. A second signature says nothing new.
func signedBy(envelope *suit.Envelope, signer cose.Signer) bool {
	keys, err := cose.NewKeySet(signer.Public())
	if err != nil {
		return false
	}
	_, err = envelope.Verify(keys, suit.VerifyOptions{Algorithms: []cose.Algorithm{signer.Algorithm()}})
	return err == nil
}

// openSigner opens a private key from a file, or the key in a token that a PKCS#11 URI names.
func openSigner(name string) (signer cose.Signer, done func(), err error) {
	if pkcs11.IsURI(name) {
		return openTokenSigner(name)
	}
	key, err := readKey(name)
	if err != nil {
		return nil, nil, err
	}
	if !key.IsPrivate() {
		return nil, nil, fmt.Errorf("%s is a public key: signing takes the private one", name)
	}
	if signer, err = key.Signer(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return signer, func() {}, nil
}

func openTokenSigner(name string) (signer cose.Signer, done func(), err error) {
	where, err := pkcs11.ParseURI(name)
	if err != nil {
		return nil, nil, err
	}
	key, err := pkcs11.Open(where)
	if err != nil {
		return nil, nil, err
	}
	public, err := cose.NewPublicKey(key.Public())
	if err == nil {
		signer, err = cose.NewSigner(public.Alg(), key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, errors.Join(err, key.Close()))
	}
	return signer, func() { _ = key.Close() }, nil // nothing is left to lose when a token is let go
}
