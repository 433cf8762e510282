package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/identity"
	"github.com/go-teep/teep/tam/tracing"
)

// operators says who may use the operator API and the console, beside those with a token.
type operators struct {
	// ClientCertificates are asked for where ca is set; they need TLS.
	ClientCertificates struct {
		CA     []string    `yaml:"ca"`
		CRL    []string    `yaml:"crl"`
		Grants []grantRule `yaml:"grants"`
	} `yaml:"client-certificates"`
	OIDC struct {
		Issuer           string      `yaml:"issuer"`
		InsecureHTTP     bool        `yaml:"insecure-plain-http"`
		Audience         string      `yaml:"audience"`
		ClientID         string      `yaml:"client-id"`
		ClientSecretFile string      `yaml:"client-secret-file"`
		RedirectURL      string      `yaml:"redirect-url"`
		Scopes           []string    `yaml:"scopes"`
		Claim            string      `yaml:"claim"`
		Grants           []grantRule `yaml:"grants"`
	} `yaml:"oidc"`
}

// grantRule gives scopes to a value of a claim or a name in a certificate.
type grantRule struct {
	Match     string   `yaml:"match"`
	Scopes    []string `yaml:"scopes"`
	Publisher string   `yaml:"publisher"`
}

func grants(rules []grantRule) []identity.Grant {
	list := make([]identity.Grant, len(rules))
	for i, r := range rules {
		list[i] = identity.Grant{Match: r.Match, Publisher: r.Publisher}
		for _, s := range r.Scopes {
			list[i].Scopes = append(list[i].Scopes, api.Scope(s))
		}
	}
	return list
}

// relative makes the paths relative to the file that names them.
func (o *operators) relative(path string) {
	for _, list := range [][]string{o.ClientCertificates.CA, o.ClientCertificates.CRL} {
		for i := range list {
			list[i] = config.Relative(path, list[i])
		}
	}
	o.OIDC.ClientSecretFile = config.Relative(path, o.OIDC.ClientSecretFile)
}

func (o *operators) check(tls bool) error {
	certificates := o.ClientCertificates
	if len(certificates.CA) == 0 && len(certificates.CRL)+len(certificates.Grants) > 0 {
		return errors.New("api.client-certificates has no ca: name a file with the certificates that issue them")
	}
	if len(certificates.CA) > 0 && !tls {
		return errors.New("api.client-certificates needs TLS: set api.tls")
	}
	if o.OIDC.Issuer == "" && (o.OIDC.ClientID != "" || o.OIDC.Audience != "" || len(o.OIDC.Grants) > 0) {
		return errors.New("api.oidc has no issuer: name the URL of the identity provider")
	}
	return nil
}

// oidcTimeout bounds one request to the identity provider.
const oidcTimeout = 10 * time.Second

// recognized is what the configuration makes of it.
type recognized struct {
	authenticators []api.Authenticator
	provider       *identity.Provider     // nil: none
	certificates   *identity.Certificates // nil: none
}

func (o *operators) open(traces *tracing.Tracing, log *slog.Logger) (r recognized, err error) {
	if c := o.ClientCertificates; len(c.CA) > 0 {
		if len(c.CRL) == 0 {
			log.Warn("api.client-certificates has no crl: a certificate that was lost stays good until it expires")
		}
		r.certificates, err = identity.NewCertificates(identity.CertificatesConfig{CAs: c.CA, CRLs: c.CRL, Grants: grants(c.Grants), Logger: log})
		if err != nil {
			return r, err
		}
		r.authenticators = append(r.authenticators, r.certificates)
	}
	if o.OIDC.Issuer == "" {
		return r, nil
	}
	secret := ""
	if o.OIDC.ClientSecretFile != "" {
		data, err := os.ReadFile(o.OIDC.ClientSecretFile)
		if err != nil {
			return r, fmt.Errorf("api.oidc.client-secret-file: %w", err)
		}
		secret = strings.TrimSpace(string(data))
	}
	if o.OIDC.InsecureHTTP {
		log.Warn("insecure: the identity provider is reached without TLS, and whoever sits between can log in as anybody")
	}
	r.provider, err = identity.NewProvider(identity.ProviderConfig{
		Issuer: o.OIDC.Issuer, InsecureHTTP: o.OIDC.InsecureHTTP, Audience: o.OIDC.Audience, ClientID: o.OIDC.ClientID,
		ClientSecret: secret, RedirectURL: o.OIDC.RedirectURL, ExtraScopes: o.OIDC.Scopes, Claim: o.OIDC.Claim,
		Grants: grants(o.OIDC.Grants), Logger: log,
		HTTP: &http.Client{Timeout: oidcTimeout, Transport: traces.Transport("oidc", nil)},
	})
	r.authenticators = append(r.authenticators, r.provider)
	return r, err
}
