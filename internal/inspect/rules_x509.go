package inspect

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/go-teep/teep/cose"
)

// chain inspects the certificates in a layer's header (RFC 9360 §2). Whether they lead to somebody who is
// trusted is for receivers to say; what is wrong with them by themselves shows here.
//
//	COSE_X509 = bstr / [ 2*certs: bstr ]
func (n *inspector) chain(layer *item, path string) {
	const section = "RFC 9360 §2"
	value := headerOf(layer, cose.LabelX5Chain)
	if value == nil {
		return
	}
	path = under(path, "x5chain")
	list := []item{*value}
	if value.is(majorArray) {
		if list = value.kids; len(list) < 2 {
			n.error(section, path, "an array of %d certificates; a single one is a byte string by itself", len(list))
		}
	}
	var certs []*x509.Certificate
	for i := range list {
		at := path
		if value.is(majorArray) {
			at += index(i)
		}
		if !list[i].is(majorBytes) {
			n.error(section, at, "not a byte string with a certificate in DER")
			return
		}
		cert, err := x509.ParseCertificate(list[i].content)
		if err != nil {
			n.error(section, at, "not an X.509 certificate in DER: %v", err)
			return
		}
		certs = append(certs, cert)
		n.certificate(cert, at)
	}
	if len(certs) == 0 {
		return
	}
	n.chained(certs, path)
	n.certifiedKey(certs[0], headerOf(layer, cose.LabelKeyID), path)
}

// certificate adds a part for a certificate, and judges its time.
func (n *inspector) certificate(c *x509.Certificate, path string) {
	summary := fmt.Sprintf("X.509 certificate of %q by %q, serial %x, %s to %s", c.Subject, c.Issuer, c.SerialNumber,
		c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
	n.report.Parts = append(n.report.Parts, Part{Path: path, Kind: KindCertificate, Summary: summary, Bytes: len(c.Raw)})
	switch now := n.o.Now; {
	case now.IsZero():
	case now.After(c.NotAfter):
		n.error("TEEP §4.6", path, "the certificate expired on %s: receivers answer ERR_CERTIFICATE_EXPIRED", c.NotAfter.UTC().Format(time.DateTime))
	case now.Before(c.NotBefore):
		n.error("TEEP §4.6", path, "the certificate is not valid before %s: receivers answer ERR_CERTIFICATE_EXPIRED", c.NotBefore.UTC().Format(time.DateTime))
	}
}

// chained checks that each certificate is signed by the next one.
func (n *inspector) chained(certs []*x509.Certificate, path string) {
	if leaf := certs[0]; leaf.IsCA {
		n.error("RFC 9360 §2", path, "the first certificate is that of a certification authority: the end entity comes first")
	} else if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		n.error("RFC 5280 §4.2.1.3", path, "the key usage of the first certificate does not include digital signatures")
	}
	for i := 0; i+1 < len(certs); i++ {
		if err := certs[i].CheckSignatureFrom(certs[i+1]); err != nil {
			n.error("RFC 9360 §2", path+index(i), "not signed by the certificate that follows: %v", err)
		}
	}
}

// certifiedKey compares the certified key with the kid.
func (n *inspector) certifiedKey(leaf *x509.Certificate, kid *item, path string) {
	key, err := cose.NewPublicKey(leaf.PublicKey)
	if err != nil {
		n.error("RFC 9360 §2", path, "the certified key is of no use here: %v", err)
		return
	}
	if kid != nil && kid.is(majorBytes) && !bytes.Equal(kid.content, key.Thumbprint()) {
		n.warn("TEEP §5", path, "the kid is not the thumbprint of the certified key, which is %x", key.Thumbprint())
	}
}
