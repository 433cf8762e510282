package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/go-teep/teep/cose/revocation"
)

// readCertificates reads what the agent cannot reach from inside: the certificates of its own key, and
// the revocation lists that those of TAMs are held against. The agent checks both again.
func (t *serveTask) readCertificates(c *configuration) error {
	if c.Certificates != "" {
		data, err := os.ReadFile(c.Certificates)
		if err != nil {
			return fmt.Errorf("%s: certificates: %w", c.Path, err)
		}
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				return fmt.Errorf("%s: certificates: a PEM block of type %q: keep certificates alone in the file", c.Path, block.Type)
			}
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return fmt.Errorf("%s: certificates: certificate %d: %w", c.Path, len(t.Certificates)+1, err)
			}
			t.Certificates = append(t.Certificates, block.Bytes)
		}
		if t.Certificates == nil {
			return fmt.Errorf("%s: certificates: %s holds no PEM block of type CERTIFICATE", c.Path, c.Certificates)
		}
	}
	for _, path := range c.RevocationLists {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s: revocation-lists: %w", c.Path, err)
		}
		if _, err := revocation.Parse(data); err != nil {
			return fmt.Errorf("%s: revocation-lists: %s: %w", c.Path, path, err)
		}
		t.RevocationLists = append(t.RevocationLists, data)
	}
	return nil
}
