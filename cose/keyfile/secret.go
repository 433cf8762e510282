package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Errors that callers tell apart.
var (
	// ErrSecret says that a key file is encrypted, and the secret is missing or another one.
	ErrSecret = errors.New("keyfile: the key file cannot be decrypted")
	// ErrReadable says that others can read what nobody else should.
	ErrReadable = errors.New("keyfile: readable by others")
)

// Source says where the secret is that key files are encrypted with; at most one of the fields. None: there is
// no secret.
type Source struct {
	// File has the secret in its first line, or is a file of age identities.
	File string `yaml:"file"`
	// Environment names an environment variable.
	Environment string `yaml:"environment"`
	// Credential names a credential that systemd gives the service (LoadCredential=, or
	// LoadCredentialEncrypted=).
	Credential string `yaml:"credential"`
}

const (
	// credentialsFolder is the variable in which systemd names the folder of credentials.
	credentialsFolder = "CREDENTIALS_DIRECTORY"
	maxSecret         = 64 << 10
	minPassphrase     = 12
	identityPrefix    = "AGE-SECRET-KEY-"
	// workFactor is the logarithm of scrypt's N: 32 MiB and a tenth of a second for each file, which a
	// service that reads several can bear.
	workFactor = 15
	// maxWorkFactor bounds what a file may ask for: a gigabyte.
	maxWorkFactor = 20
)

// Secret decrypts and encrypts key files: a passphrase, or an age identity. Its text forms show nothing of it.
type Secret struct {
	identities []age.Identity
	recipient  age.Recipient
}

// String keeps the secret out of logs.
func (*Secret) String() string { return "secret of key files" }

// GoString keeps the secret out of %#v.
func (*Secret) GoString() string { return "keyfile.Secret" }

// Read gets the secret; nil where the source names none.
func (s Source) Read() (*Secret, error) {
	set := 0
	for _, field := range []string{s.File, s.Environment, s.Credential} {
		if field != "" {
			set++
		}
	}
	switch {
	case set == 0:
		return nil, nil
	case set > 1:
		return nil, errors.New("keyfile: the secret of key files has several sources: name one of file, environment and credential")
	case s.Environment != "":
		text, ok := os.LookupEnv(s.Environment)
		if !ok {
			return nil, fmt.Errorf("keyfile: the environment has no variable %s, which should hold the secret of the key files", s.Environment)
		}
		return ParseSecret([]byte(text))
	case s.Credential != "":
		folder := os.Getenv(credentialsFolder)
		if folder == "" {
			return nil, fmt.Errorf("keyfile: credential %q: systemd gave this service none: add LoadCredential=%s:PATH to its unit", s.Credential, s.Credential)
		}
		if s.Credential != filepath.Base(s.Credential) {
			return nil, fmt.Errorf("keyfile: credential %q is no name of a credential", s.Credential)
		}
		return readSecret(filepath.Join(folder, s.Credential))
	}
	return readSecret(s.File)
}

func readSecret(path string) (*Secret, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	secret, err := ParseSecret(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s can be read by others (mode %o): run 'chmod 600 %s'", ErrReadable, path, st.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(data) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes: it is no key", path, maxSecret)
	}
	return data, err
}

// ParseSecret takes a passphrase, which is the first line, or age identities (AGE-SECRET-KEY-1…, as
// age-keygen writes them).
func ParseSecret(text []byte) (*Secret, error) {
	if bytes.Contains(text, []byte(identityPrefix)) {
		identities, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil {
			return nil, errors.New("keyfile: the age identity cannot be read: give it as age-keygen wrote it")
		}
		first, ok := identities[0].(*age.X25519Identity)
		if !ok {
			return nil, errors.New("keyfile: the first age identity is not an X25519 one (AGE-SECRET-KEY-1…)")
		}
		return &Secret{identities, first.Recipient()}, nil
	}
	line, _, _ := strings.Cut(string(text), "\n")
	passphrase := strings.TrimSuffix(line, "\r")
	if len(passphrase) < minPassphrase {
		return nil, fmt.Errorf("keyfile: the passphrase is shorter than %d bytes: take one from 'openssl rand -base64 24', or an age identity", minPassphrase)
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	recipient.SetWorkFactor(workFactor)
	return &Secret{[]age.Identity{identity}, recipient}, nil
}

// Encrypt encrypts the content of a key file, in age's armor.
func (s *Secret) Encrypt(content []byte) ([]byte, error) {
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, s.recipient)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	_, err = w.Write(content)
	if err = errors.Join(err, w.Close(), a.Close()); err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	return out.Bytes(), nil
}

// IsEncrypted tells whether the content of a file is encrypted with age.
func IsEncrypted(content []byte) bool {
	return bytes.HasPrefix(content, []byte("age-encryption.org/")) || bytes.HasPrefix(bytes.TrimSpace(content), []byte(armor.Header))
}

// decrypt opens what Encrypt, or age, made. s may be nil.
func (s *Secret) decrypt(content []byte) ([]byte, error) {
	if s == nil {
		return nil, fmt.Errorf("%w: it is encrypted, and no secret is configured", ErrSecret)
	}
	var in io.Reader = bytes.NewReader(content)
	if !bytes.HasPrefix(content, []byte("age-encryption.org/")) {
		in = armor.NewReader(in)
	}
	var other *age.NoIdentityMatchError
	plain, err := age.Decrypt(in, s.identities...)
	switch {
	case errors.As(err, &other):
		return nil, fmt.Errorf("%w: it was encrypted with another secret than the one that is configured", ErrSecret)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	data, err := io.ReadAll(io.LimitReader(plain, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	return data, nil
}
