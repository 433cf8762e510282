package main

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/tracing"
)

// configuration is tam.yaml. Paths are relative to the file.
type configuration struct {
	// Name is what the TAM calls itself in the trust files of agents.
	Name string `yaml:"name"`
	TEEP struct {
		Listen string    `yaml:"listen"`
		Path   string    `yaml:"path"`
		URI    string    `yaml:"uri"`
		TLS    serverTLS `yaml:"tls"`
		// Limits protect the TAM from agents, and from those who are none.
		Limits httpLimits `yaml:"limits"`
	} `yaml:"teep"`
	API struct {
		Listen string    `yaml:"listen"`
		TLS    serverTLS `yaml:"tls"`
		// InsecureHTTP lets tokens cross a network in the clear, because something in front
		// of the TAM ends TLS.
		InsecureHTTP bool `yaml:"insecure-plain-http"`
		// Timeout bounds the work on a request; 0 means 15 seconds.
		Timeout   time.Duration `yaml:"timeout"`
		Operators operators     `yaml:",inline"`
	} `yaml:"api"`
	// ACME gets the certificates of listeners whose tls says so.
	ACME    acmeConfig `yaml:"acme"`
	Console struct {
		// TLSInFront says that a proxy in front of api.listen speaks TLS with browsers.
		TLSInFront bool `yaml:"tls-in-front"`
	} `yaml:"console"`
	// Recording bounds the messages that are kept for people to look at.
	Recording struct {
		Off       bool `yaml:"off"`
		PerDevice int  `yaml:"per-device"`
		PerSecond int  `yaml:"per-second"`
	} `yaml:"recording"`
	Metrics struct {
		// Listen is the address of /metrics, without authentication; empty: there is none.
		Listen string `yaml:"listen"`
	} `yaml:"metrics"`
	Tracing  tracingConfig `yaml:"tracing"`
	Webhooks struct {
		// InsecurePrivate lets them go to loopback and private addresses, and over plain HTTP.
		InsecurePrivate bool `yaml:"insecure-private-addresses"`
	} `yaml:"webhooks"`
	// Store is the path of a SQLite file, or the URL of a PostgreSQL database.
	Store string `yaml:"store"`
	// InsecureStore lets the connection to PostgreSQL cross a network unprotected.
	InsecureStore bool `yaml:"insecure-store-connection"`
	// Blobs is the folder of the envelopes, or the URL of an S3 bucket.
	Blobs string `yaml:"blobs"`
	// S3 is for blobs in a bucket.
	S3 s3Config `yaml:"s3"`
	// Payloads are those that lie beside their envelopes.
	Payloads payloadsConfig `yaml:"payloads"`
	// SignKeys and DecryptKey are files or PKCS #11 URIs. Where the key ring Keys exists, they are those of it
	// that count.
	SignKeys   []string `yaml:"signing-keys"`
	DecryptKey []string `yaml:"decryption-keys"`
	Keys       string   `yaml:"keys"`
	// KeySecret decrypts the files of all private keys that are encrypted.
	KeySecret keyfile.Source `yaml:"key-secret"`
	// Distribution lets the TAM bring devices keys and data in manifests of its own.
	Distribution distribution   `yaml:"distribution"`
	Verifier     verifierConfig `yaml:"verifier"`
	Policy       policy         `yaml:"policy"`
	// Tenants is the folder of the tenants, each in a folder with its own configuration; TenantOf leads
	// from there back to this file.
	Tenants  string `yaml:"tenants"`
	TenantOf string `yaml:"tenant-of"`

	protocolOptions `yaml:",inline"`

	path string
	// read is which version of the file this is.
	read fileStamp
	// announced are the signing keys that new devices are to know.
	announced []string
	// opener is there once the first key was opened.
	opener *keyfile.Opener
	// allowed is the allow-list in force, once it was opened.
	allowed *allowList
	// traces follows requests and messages; nil: nobody does.
	traces *tracing.Tracing
	// tenant is the name of one; "" for the service itself.
	tenant string
	// unused is the SQLite file of a tenant whose service has a database.
	unused string
}

// distribution is how the TAM signs manifests of its own; without a key it signs none.
type distribution struct {
	Key string `yaml:"signing-key"`
	// FurtherKeys are public keys that agents are to trust beside it: the one to come, or the one before.
	FurtherKeys []string `yaml:"further-keys"`
	// Prefix begins their identifiers, Components are where data may be put.
	Prefix     string   `yaml:"prefix"`
	Components []string `yaml:"components"`
}

type policy struct {
	Admission      string        `yaml:"admission"`
	AcceptWarning  bool          `yaml:"insecure-accept-warning"`
	PassResults    bool          `yaml:"pass-results"`
	TokenLifetime  time.Duration `yaml:"token-lifetime"`
	PermanentPause time.Duration `yaml:"permanent-pause"`
	TemporaryPause time.Duration `yaml:"temporary-pause"`
	KeepHistory    time.Duration `yaml:"keep-history"`

	protocolPolicy `yaml:",inline"`
	fleetPolicy    `yaml:",inline"`
}

func defaults() configuration {
	c := configuration{Name: "tam", Store: "tam.db", Blobs: "envelopes", Keys: defaultRing}
	c.TEEP.Listen, c.TEEP.Path = "127.0.0.1:8080", "/tam"
	c.API.Listen = "127.0.0.1:8081"
	c.Policy.Admission = "attested"
	c.Policy.KeepHistory = 90 * 24 * time.Hour
	c.Agents.RevocationMemory = defaultRevocationMemory
	return c
}

func load(path string) (*configuration, error) {
	c := defaults()
	c.read = stampOf(path)
	if err := config.Load(path, &c); err != nil {
		return nil, err
	}
	c.path = path
	for _, p := range []*string{
		&c.S3.Credentials, &c.S3.Spool, &c.KeySecret.File, &c.Policy.AllowList, &c.Tenants, &c.TenantOf,
		&c.TEEP.TLS.Certificate, &c.TEEP.TLS.Key, &c.API.TLS.Certificate, &c.API.TLS.Key,
	} {
		*p = config.Relative(path, *p)
	}
	c.API.Operators.relative(path)
	c.ACME.relative(path)
	c.Tracing.relative(path)
	if !isS3(c.Blobs) {
		c.Blobs = config.Relative(path, c.Blobs)
	}
	if !isPostgres(c.Store) {
		c.Store = config.Relative(path, c.Store)
	}
	for _, list := range [][]string{c.SignKeys, c.DecryptKey, c.Distribution.FurtherKeys} {
		for i := range list {
			list[i] = keyName(path, list[i])
		}
	}
	c.Distribution.Key = keyName(path, c.Distribution.Key)
	if err := c.useRing(time.Now()); err != nil {
		return nil, err
	}
	c.Verifier.relative(path)
	if err := errors.Join(c.protocolOptions.resolve(path), c.TEEP.Limits.check(), c.Payloads.check(), c.checkBucket()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if c.TenantOf != "" {
		if err := c.joinService(); err != nil {
			return nil, err
		}
	}
	return &c, c.check()
}

func (c *configuration) check() error {
	switch {
	case len(c.SignKeys) == 0:
		return fmt.Errorf("%s: signing-keys is empty: name one ESP256 and one Ed25519 key file ('teep-tam init' makes them)", c.path)
	case !plainPath.MatchString(c.TEEP.Path):
		return fmt.Errorf("%s: teep.path %q is no plain path: write a slash and then letters, digits, and - . _ ~ /, such as /tam", c.path, c.TEEP.Path)
	case c.Payloads.Path != "" && strings.HasPrefix(c.TEEP.Path+"/", c.Payloads.Path+"/"):
		return fmt.Errorf("%s: teep.path %q is at payloads.path: choose another for one of them", c.path, c.TEEP.Path)
	case c.API.Timeout < 0:
		return fmt.Errorf("%s: api.timeout is negative: leave it out for 15s", c.path)
	case c.Payloads.Path == "" && c.Payloads.MaxTotalBytes != 0 && c.TenantOf == "":
		return fmt.Errorf("%s: payloads.path is missing: without it no payloads are served", c.path)
	case c.Recording.PerDevice < 0 || c.Recording.PerSecond < 0:
		return fmt.Errorf("%s: recording: a number is negative: write recording.off: true to record nothing", c.path)
	}
	if err := errors.Join(c.Verifier.check(), checkListen("teep.listen", c.TEEP.Listen), checkListen("api.listen", c.API.Listen), c.checkMetrics(),
		c.TEEP.TLS.check("teep.tls"), c.API.TLS.check("api.tls"), c.checkACME(), c.checkTracing(), c.API.Operators.check(c.API.TLS.on())); err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	if !c.API.InsecureHTTP && !c.API.TLS.on() && !loopback(c.API.Listen) {
		return fmt.Errorf("%s: api.listen %q can be reached from the network, and tokens would cross it in the clear: "+
			"set api.tls, or, if something in front of it ends TLS, api.insecure-plain-http: true", c.path, c.API.Listen)
	}
	if c.Distribution.Key != "" && len(c.DecryptKey) == 0 {
		return fmt.Errorf("%s: distribution needs decryption-keys: what is deposited is encrypted to the first of them", c.path)
	}
	if _, _, err := c.distributed(); err != nil {
		return err
	}
	_, err := c.policy()
	return err
}

// loopback tells whether an address can be reached from this host only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (c *configuration) policy() (tam.Policy, error) {
	p := tam.Policy{
		AcceptWarning: c.Policy.AcceptWarning, PassResults: c.Policy.PassResults,
		TokenLifetime:  c.Policy.TokenLifetime,
		PermanentPause: c.Policy.PermanentPause, TemporaryPause: c.Policy.TemporaryPause,
	}
	switch c.Policy.Admission {
	case "attested":
		p.Admission = tam.AdmitAttested
	case "manual":
		p.Admission = tam.AdmitManually
	default:
		return p, fmt.Errorf("%s: policy.admission is %q: write attested or manual", c.path, c.Policy.Admission)
	}
	if err := errors.Join(c.Policy.protocolPolicy.apply(&p), c.Policy.fleetPolicy.apply(&p)); err != nil {
		return p, fmt.Errorf("%s: %w", c.path, err)
	}
	return p, nil
}

// plainPath is a path that is the same in a URI and in a multiplexer's pattern.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

// checkACME looks at the certificates that are to come by ACME. Tenants have none of their own.
func (c *configuration) checkACME() error {
	if c.TenantOf != "" {
		return nil
	}
	return c.ACME.check(c.TEEP.TLS.ACME || c.API.TLS.ACME)
}

// checkTracing looks at where traces go. Tenants have no traces of their own.
func (c *configuration) checkTracing() error {
	if c.TenantOf != "" {
		return nil
	}
	return c.Tracing.check()
}

// checkMetrics refuses a metrics.listen that is no address; none is one.
func (c *configuration) checkMetrics() error {
	if c.Metrics.Listen == "" {
		return nil
	}
	return checkListen("metrics.listen", c.Metrics.Listen)
}

// checkListen refuses a listen address that cannot be one.
func checkListen(key, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s %q is no address: write HOST:PORT, such as 127.0.0.1:8080", key, address)
	}
	return nil
}

// publicURI is uri, for those who have to reach it from elsewhere.
func (c *configuration) publicURI() (string, error) {
	host, _, err := net.SplitHostPort(c.TEEP.Listen)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.path, checkListen("teep.listen", c.TEEP.Listen))
	}
	if ip := net.ParseIP(host); c.TEEP.URI == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		return "", fmt.Errorf("%s: teep.listen %q is every address of this host: say in teep.uri where agents reach it", c.path, c.TEEP.Listen)
	}
	return c.uri(), nil
}

// uri is where agents reach the TAM.
func (c *configuration) uri() string {
	if c.TEEP.URI != "" {
		return c.TEEP.URI
	}
	scheme := "http"
	if c.TEEP.TLS.on() {
		scheme = "https"
	}
	return scheme + "://" + c.TEEP.Listen + c.TEEP.Path
}

// consoleTimeout leaves the console the time to show what the API says of its own; 0 where that has its default.
func (c *configuration) consoleTimeout() time.Duration {
	if c.API.Timeout == 0 {
		return 0
	}
	return c.API.Timeout + 5*time.Second
}
