package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-teep/teep/internal/filewatch"
	"github.com/go-teep/teep/tam/api"
)

// CertificatesConfig says which client certificates are known.
type CertificatesConfig struct {
	// CAs are files of PEM certificates that issue client certificates; at least one.
	CAs []string
	// CRLs are files of revocation lists, PEM or DER. With any, every issuer in a chain needs one that
	// is in date: a list that was not renewed must not let in who was revoked since. Without, nothing
	// is ever revoked but by a new CA.
	CRLs []string
	// Grants match a name of a certificate: a URI, DNS name or e-mail address of its subjectAltName
	// or, where it has none of these, its common name.
	Grants []Grant
	// Clock defaults to time.Now, Logger to slog.Default().
	Clock  func() time.Time
	Logger *slog.Logger
}

// Certificates recognizes callers by the client certificate of their connection. The files are read again
// when they change. It implements [api.Authenticator].
type Certificates struct {
	config CertificatesConfig
	cas    *filewatch.Value[[]*x509.Certificate]
	crls   *filewatch.Value[[]*x509.RevocationList]
}

// NewCertificates reads the files. The server has to ask for certificates (tls.RequestClientCert); they are
// verified here, for each request, so that a revocation counts at once on connections that are open.
func NewCertificates(c CertificatesConfig) (*Certificates, error) {
	if len(c.CAs) == 0 {
		return nil, errors.New("identity: client certificates need a CA: name a file with the certificates that issue them")
	}
	if err := CheckGrants(c.Grants); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	a := &Certificates{config: c}
	var err error
	if a.cas, err = filewatch.New(c.CAs, parseCAs, c.Logger); err != nil {
		return nil, fmt.Errorf("identity: client CA: %w", err)
	}
	if a.crls, err = filewatch.New(c.CRLs, parseCRLs, c.Logger); err != nil {
		return nil, fmt.Errorf("identity: revocation list: %w", err)
	}
	return a, nil
}

func parseCAs(contents [][]byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, data := range contents {
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("a PEM block %q is among the certificates: keep certificates only", block.Type)
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			if !c.IsCA {
				return nil, fmt.Errorf("certificate of %q is no CA: name those that issue client certificates", c.Subject)
			}
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no PEM certificate in it")
	}
	return all, nil
}

func parseCRLs(contents [][]byte) ([]*x509.RevocationList, error) {
	var all []*x509.RevocationList
	for _, data := range contents {
		list := [][]byte{data}
		if block, rest := pem.Decode(data); block != nil {
			list = nil
			for ; block != nil; block, rest = pem.Decode(rest) {
				list = append(list, block.Bytes)
			}
		}
		for _, der := range list {
			crl, err := x509.ParseRevocationList(der)
			if err != nil {
				return nil, err
			}
			all = append(all, crl)
		}
	}
	return all, nil
}

// CAs are those that count now, for the server to tell clients which certificates make sense.
func (a *Certificates) CAs() []*x509.Certificate { return a.cas.Get() }

func noCertificate() *api.Problem {
	return &api.Problem{Status: http.StatusUnauthorized, Code: "certificate", Detail: "The client certificate is not accepted.",
		Next: "Use one that the TAM's operators issue, in date and not revoked, or send a token."}
}

// Authenticate implements [api.Authenticator].
func (a *Certificates) Authenticate(r *http.Request) (*api.Caller, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.Header.Get("Authorization") != "" {
		return nil, nil
	}
	leaf, now := r.TLS.PeerCertificates[0], a.config.Clock()
	if err := a.verify(r.TLS.PeerCertificates, now); err != nil {
		a.config.Logger.WarnContext(r.Context(), "client certificate refused", "subject", leaf.Subject.String(), "err", err)
		return nil, noCertificate()
	}
	names := certificateNames(leaf)
	c, err := grant(a.config.Grants, names)
	if err != nil || c == nil {
		a.config.Logger.WarnContext(r.Context(), "client certificate without a grant", "subject", leaf.Subject.String(), "err", err)
		return nil, &api.Problem{Status: http.StatusForbidden, Code: "no-role", Detail: "The client certificate is known and allows nothing here.",
			Next: "Ask the TAM's administrator for a role."}
	}
	sum := sha256.Sum256(leaf.Raw)
	c.Subjects = names
	c.ID, c.Name, c.Expires = "certificate:"+hex.EncodeToString(sum[:16]), names[0], leaf.NotAfter
	return c, nil
}

// certificateNames are what grants can match: never empty.
func certificateNames(c *x509.Certificate) []string {
	var names []string
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	names = append(append(names, c.DNSNames...), c.EmailAddresses...)
	if len(names) == 0 {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// verify looks for a chain to a CA of which nothing is revoked.
func (a *Certificates) verify(presented []*x509.Certificate, now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range a.cas.Get() {
		roots.AddCert(c)
	}
	for _, c := range presented[1:] {
		intermediates.AddCert(c)
	}
	chains, err := presented[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	if len(a.config.CRLs) == 0 {
		return nil
	}
	for _, chain := range chains {
		if err = a.notRevoked(chain, now); err == nil {
			return nil
		}
	}
	return err
}

func (a *Certificates) notRevoked(chain []*x509.Certificate, now time.Time) error {
	for i := range len(chain) - 1 {
		if err := a.checkCRLs(chain[i], chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

// checkCRLs wants a list of the issuer that is in date, and none that has the certificate.
func (a *Certificates) checkCRLs(c, issuer *x509.Certificate, now time.Time) error {
	current := false
	for _, crl := range a.crls.Get() {
		if string(crl.RawIssuer) != string(issuer.RawSubject) || crl.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, e := range crl.RevokedCertificateEntries {
			// An old list that has it is as good as a new one.
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 && e.ReasonCode != removeFromCRL {
				return fmt.Errorf("certificate %x of %q is revoked", c.SerialNumber, c.Subject)
			}
		}
		current = current || !now.Before(crl.ThisUpdate) && now.Before(crl.NextUpdate)
	}
	if !current {
		return fmt.Errorf("there is no revocation list of %q that is in date", issuer.Subject)
	}
	return nil
}

// removeFromCRL is the reason code of an entry that takes a certificate off hold (RFC 5280 §5.3.1).
const removeFromCRL = 8
