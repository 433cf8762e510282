package identity

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/sqlite"
	"github.com/go-teep/teep/tam/sqlite/sqlitetest"
)

// guarded is a whole operator API behind TLS that knows an identity provider and an authority.
type guarded struct {
	*setting
	server *httptest.Server
	ca     *authority
	routes []guardedRoute
}

// guardedRoute is a route that needs credentials, and the scopes that its description grants it to.
type guardedRoute struct {
	method, path string
	scopes       []string
}

// noTAM is none: nobody gets that far here but with reading what is in the store.
type noTAM struct{ api.Managing }

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{setting: newSetting(t), ca: newAuthority(t, "operators")}
	store, err := sqlite.Open(t.Context(), sqlitetest.Database(t, t.TempDir()), sqlite.Options{RelaxedDurability: true})
	must(t, err)
	lost := g.ca.client(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }) // see certificates
	certificates := newCertificates(t, CertificatesConfig{CAs: []string{file(t, "CERTIFICATE", g.ca.cert.Raw)},
		CRLs: []string{file(t, "X509 CRL", g.ca.crl(time.Now().Add(time.Hour), lost.Leaf))}})
	h, err := api.NewHandler(api.Config{TAM: noTAM{}, Store: store, Authenticators: []api.Authenticator{certificates, g.provider},
		Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	g.server = httptest.NewUnstartedServer(h)
	g.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	g.server.StartTLS()
	t.Cleanup(func() { g.server.Close(); store.Close() })
	g.readRoutes(t)
	return g
}

func (g *guarded) readRoutes(t *testing.T) {
	t.Helper()
	res, err := g.server.Client().Get(g.server.URL + "/v1/openapi.json")
	must(t, err)
	defer res.Body.Close()
	var doc struct {
		Paths map[string]map[string]struct {
			Description string
			Security    []any
		}
	}
	must(t, json.NewDecoder(res.Body).Decode(&doc))
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if len(op.Security) == 0 {
				continue
			}
			list := regexp.MustCompile(`scopes (.+)\.$`).FindStringSubmatch(op.Description)
			if list == nil {
				t.Fatalf("%s %s does not say whom it is for: %s", method, path, op.Description)
			}
			g.routes = append(g.routes, guardedRoute{strings.ToUpper(method), regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "1"), strings.Split(list[1], ", ")})
		}
	}
	if len(g.routes) < 50 {
		t.Fatalf("only %d routes", len(g.routes))
	}
}

// as is a client that sends a certificate, or none.
func (g *guarded) as(cert *tls.Certificate) *http.Client {
	transport := g.server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cert == nil {
			return &tls.Certificate{}, nil
		}
		return cert, nil
	}
	return &http.Client{Transport: transport}
}

func (g *guarded) ask(t *testing.T, c *http.Client, r guardedRoute, bearer string) (int, api.Problem) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, g.server.URL+r.path, nil)
	must(t, err)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := c.Do(req)
	must(t, err)
	defer res.Body.Close()
	var p api.Problem
	data, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode >= 400 {
		must(t, json.Unmarshal(data, &p))
	}
	return res.StatusCode, p
}

// TestEveryRouteWithWrongIdentities: no route of the API takes what the provider did not say, or the authority did not
// certify, nor a certificate beside a worthless token.
func TestEveryRouteWithWrongIdentities(t *testing.T) {
	g := newGuarded(t)
	good := g.issuer.Sign(t, g.issuer.Token("teep-tam"))
	token := func(change func(map[string]any)) string {
		claims := g.issuer.Token("teep-tam")
		change(claims)
		return g.issuer.Sign(t, claims)
	}
	g.issuer.ForeignKey = true
	foreign := token(func(map[string]any) {})
	g.issuer.ForeignKey = false
	cert := func(a *authority, change func(*x509.Certificate)) *tls.Certificate { c := a.client(change); return &c }
	mine, other := cert(g.ca, nil), newAuthority(t, "operators") // of the same name
	for name, wrong := range map[string]struct {
		bearer string
		cert   *tls.Certificate
		status int
	}{
		"nothing":                         {status: http.StatusUnauthorized},
		"a token by another key":          {bearer: foreign, status: http.StatusUnauthorized},
		"a token for another program":     {bearer: token(func(c map[string]any) { c["aud"] = "another-program" }), status: http.StatusUnauthorized},
		"a token of another provider":     {bearer: token(func(c map[string]any) { c["iss"] = "https://evil.example" }), status: http.StatusUnauthorized},
		"an old token":                    {bearer: token(func(c map[string]any) { c["exp"] = g.now.Add(-time.Minute).Unix() }), status: http.StatusUnauthorized},
		"an unsigned token":               {bearer: strings.Join(append(strings.Split(good, ".")[:2], ""), "."), status: http.StatusUnauthorized},
		"somebody without a role":         {bearer: token(func(c map[string]any) { c["groups"] = []string{"staff"} }), status: http.StatusForbidden},
		"a certificate of another CA":     {cert: cert(other, nil), status: http.StatusUnauthorized},
		"an old certificate":              {cert: cert(g.ca, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = g.now.Add(-2*time.Hour), g.now.Add(-time.Hour) }), status: http.StatusUnauthorized},
		"a revoked certificate":           {cert: cert(g.ca, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }), status: http.StatusUnauthorized},
		"a server's certificate":          {cert: cert(g.ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), status: http.StatusUnauthorized},
		"a certificate without a role":    {cert: cert(g.ca, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "nobody"} }), status: http.StatusForbidden},
		"a certificate and a wrong token": {bearer: foreign, cert: mine, status: http.StatusUnauthorized},
		"a certificate and half a token":  {bearer: "teep_x", cert: mine, status: http.StatusUnauthorized},
	} {
		c := g.as(wrong.cert)
		for _, r := range g.routes {
			status, p := g.ask(t, c, r, wrong.bearer)
			if status != wrong.status || p.Next == "" || p.Code == "scope" {
				t.Errorf("%s %s with %s: %d %+v", r.method, r.path, name, status, p)
			}
		}
		c.CloseIdleConnections()
	}
}

// TestEveryRouteWithEachRole: each role that the provider or a certificate gives opens what the document says, and
// nothing else. What it opens is tried where only reading the store is behind it.
func TestEveryRouteWithEachRole(t *testing.T) {
	g := newGuarded(t)
	g.provider.config.Grants = append(g.provider.config.Grants, Grant{Match: "admins", Scopes: []api.Scope{api.ScopeAdministrator}})
	uri, err := url.Parse("spiffe://example/operator")
	must(t, err)
	operator := g.ca.client(func(c *x509.Certificate) { c.URIs = []*url.URL{uri} })
	publisher := g.ca.client(nil)
	as := func(group string) string {
		claims := g.issuer.Token("teep-tam")
		claims["groups"] = []string{group}
		return g.issuer.Sign(t, claims)
	}
	reading := []string{"/v1/devices", "/v1/publishers", "/v1/tokens", "/v1/audit", "/v1/audit/head", "/v1/events", "/v1/webhooks", "/v1/groups", "/v1/installed"}
	opened := 0
	for name, who := range map[string]struct {
		scope, bearer string
		cert          *tls.Certificate
	}{
		"an account with the role administrator": {scope: "administrator", bearer: as("admins")},
		"an account with the role operator":      {scope: "operator", bearer: as("ops")},
		"an account with the role auditor":       {scope: "auditor", bearer: as("auditors")},
		"an account with the role publisher":     {scope: "publisher", bearer: as("acme")},
		"a certificate with the role operator":   {scope: "operator", cert: &operator},
		"a certificate with the role publisher":  {scope: "publisher", cert: &publisher},
	} {
		c := g.as(who.cert)
		for _, r := range g.routes {
			may := slices.Contains(r.scopes, who.scope)
			if may && (r.method != http.MethodGet || !slices.Contains(reading, r.path)) {
				continue
			}
			status, p := g.ask(t, c, r, who.bearer)
			if may && status != http.StatusOK || !may && (status != http.StatusForbidden || p.Code != "scope") {
				t.Errorf("%s %s as %s: %d %+v", r.method, r.path, name, status, p)
			}
			if may {
				opened++
			}
		}
		c.CloseIdleConnections()
	}
	if opened < 20 {
		t.Errorf("only %d requests were let in: the test proves little", opened)
	}
}
