package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// ErrAddress says that a URL leads to where webhooks must not go.
var ErrAddress = errors.New("webhook: the URL cannot be used")

// CheckURL refuses URLs that are no absolute https URL. private allows http too.
func CheckURL(text string, private bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || len(text) > 2048:
		return fmt.Errorf("%w: write https://HOST/PATH", ErrAddress)
	case u.User != nil:
		return fmt.Errorf("%w: it has a password in it; the signature is what authenticates", ErrAddress)
	case u.Scheme != "https" && (u.Scheme != "http" || !private):
		return fmt.Errorf("%w: it is not https", ErrAddress)
	case u.Fragment != "":
		return fmt.Errorf("%w: it has a fragment, which is never sent", ErrAddress)
	}
	return nil
}

// reserved are networks that are global by netip's rules and lead elsewhere than to the Internet, or into
// private networks by translation.
var reserved = func() (list []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}()

// public tells whether an address is one of the Internet at large.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// refusePrivate is called with the address that a connection goes to, after names were resolved: what a
// name leads to may change between a check and its use.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if !public(a.Addr()) {
		return fmt.Errorf("%w: it leads to %s, which is not an address of the Internet", ErrAddress, a.Addr())
	}
	return nil
}

// newClient makes the client that posts. It follows no redirect and uses no proxy: either would decide
// where it goes.
func newClient(insecurePrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if !insecurePrivate {
		dialer.Control = refusePrivate
	}
	return &http.Client{
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
	}
}
