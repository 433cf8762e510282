package inspect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-teep/teep/attest/eat"
)

// claims inspects an EAT claims set.
func (n *inspector) claims(it *item, data []byte, path string, x expectation) string {
	const labelConfirmation, confirmKey = 8, 1
	if k := it.untag().value(labelConfirmation).value(confirmKey); k != nil && secretKeyType(k) != 0 {
		n.error("RFC 8747 §3.2", under(path, "cnf"), "the confirmation key is not a public one (not shown)")
	}
	c, err := eat.ParseClaims(it.untag().raw)
	if err != nil {
		n.error("RFC 9711 §4", path, "%s", strings.TrimPrefix(err.Error(), "attest: "))
		return ""
	}
	if it.is(majorTag) && x.inTEEP {
		n.error("TEEP §5", path, "CBOR tags are not used in EATs for TEEP")
	}
	n.profile(c, path, x)
	n.validity(c, path)
	if k := len(c.Unknown); k > 0 {
		n.note("RFC 9711 §4", path, "%d claims that this tool does not know: %v", k, labels(c))
	}
	for _, name := range sortedSubmods(c) {
		if token := c.Submods[name].Token; len(token) > 0 {
			n.structure(token, under(path, "submods["+name+"]"), expectation{kinds: []Kind{KindClaims, KindBundle}})
		}
	}
	return claimsSummary(c)
}

func labels(c *eat.Claims) []int64 {
	var l []int64
	for label := range c.Unknown {
		l = append(l, label)
	}
	slices.Sort(l)
	return l
}

func sortedSubmods(c *eat.Claims) []string {
	var names []string
	for name := range c.Submods {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// profile checks what the TEEP profile requires. It is required where the token says that it
// follows it, and where a TEEP message carries a token without saying otherwise.
func (n *inspector) profile(c *eat.Claims, path string, x expectation) {
	err := c.CheckProfile()
	if err == nil {
		return
	}
	problem, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "attest: "), "\n")
	if c.Profile == eat.Profile || x.inTEEP {
		n.error("TEEP §5", path, "%s", problem)
		return
	}
	n.note("TEEP §5", path, "not an EAT of the TEEP profile: %s", problem)
}

func (n *inspector) validity(c *eat.Claims, path string) {
	now := n.o.Now
	if now.IsZero() {
		return
	}
	switch {
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		n.warn("RFC 8392 §3.1.4", under(path, "exp"), "expired at %s", c.Expires.UTC().Format(time.RFC3339))
	case !c.NotBefore.IsZero() && now.Before(c.NotBefore):
		n.warn("RFC 8392 §3.1.5", under(path, "nbf"), "not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case now.Add(eat.DefaultMaxSkew).Before(c.IssuedAt):
		n.warn("RFC 8392 §3.1.6", under(path, "iat"), "issued in the future, at %s", c.IssuedAt.UTC().Format(time.RFC3339))
	}
}

func claimsSummary(c *eat.Claims) string {
	kind := "EAT claims"
	if c.Appraised {
		kind = fmt.Sprintf("attestation result: %v", c.Status)
	}
	if c.Issuer != "" {
		kind += fmt.Sprintf(", issuer %q", c.Issuer)
	}
	if len(c.UEID) > 0 {
		kind += fmt.Sprintf(", ueid %x", c.UEID)
	}
	if len(c.Nonce) > 0 {
		kind += fmt.Sprintf(", nonce of %d bytes", len(c.Nonce))
	}
	return kind
}

// bundle inspects a Detached EAT Bundle.
func (n *inspector) bundle(data []byte, path string, x expectation) string {
	b, err := eat.ParseBundle(data)
	if err != nil {
		n.error("RFC 9711 §5", path, "%s", strings.TrimPrefix(err.Error(), "attest: "))
		return ""
	}
	x.top, x.decrypted, x.kinds = x.top && n.depth == 1, false, []Kind{KindClaims}
	n.structure(b.Token, under(path, "main-token"), x)
	names := make([]string, 0, len(b.Detached))
	for name := range b.Detached {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n.structure(b.Detached[name], under(path, "detached["+name+"]"), expectation{kinds: []Kind{KindClaims}})
	}
	return fmt.Sprintf("Detached EAT Bundle with %d detached claims sets", len(names))
}
