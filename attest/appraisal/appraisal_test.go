package appraisal_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *cose.Key {
	t.Helper()
	k, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func indented(t testing.TB, k *cose.Key) string {
	t.Helper()
	text, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return "      " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n      ") + "\n"
}

const ueid = "0198f50a4ff6c05861c8860d13a638ea"

func sample(t testing.TB, k *cose.Key) string {
	t.Helper()
	return fmt.Sprintf(`owner: Example Devices
expires: 2027-06-30T00:00:00Z
endorsements:
  - ueid: %s
    oemid: ieee:89-48-23
    hwmodel: "549d"
    key: |
%s    expires: 2026-12-31T00:00:00Z
reference-values:
  - oemid: ieee:89-48-23
    hwmodel: "549d"
    components:
      - name: teep-agent
        version: 1.2.0
        digest: sha-256:%s
        status: affirming
        accepted-weaknesses: [no monotonic counter]
      - name: teep-agent
        version: 1.1.0
        digest: sha-256:%s
        status: contraindicated
        why: reads past the end of a buffer
        debug: disabled
        expires: 2028-01-01T00:00:00Z
`, ueid, indented(t, k.Public()), strings.Repeat("11", 32), strings.Repeat("22", 32))
}

func TestParseYAML(t *testing.T) {
	k := newKey(t)
	c, err := appraisal.ParseYAML([]byte(sample(t, k)))
	if err != nil {
		t.Fatal(err)
	}
	e := c.Endorsements[0]
	if hex.EncodeToString(e.UEID) != ueid || !e.Key.Equal(k) || e.Owner != "Example Devices" || e.Expires.Year() != 2026 {
		t.Errorf("%+v", e)
	}
	if !bytes.Equal(e.Class.OEMID, []byte{0x43, 0x89, 0x48, 0x23}) || !bytes.Equal(e.Class.HWModel, []byte{0x54, 0x9d}) {
		t.Errorf("%x", e.Class)
	}
	r := c.References
	if len(r) != 2 || r[0].Status != attest.StatusAffirming || r[1].Status != attest.StatusContraindicated || !r[1].RequireDebugDisabled {
		t.Fatalf("%+v", r)
	}
	// An entry ends with its file at the latest.
	if !r[0].Expires.Equal(c.Expires) || !r[1].Expires.Equal(c.Expires) {
		t.Errorf("expiry %v and %v, file %v", r[0].Expires, r[1].Expires, c.Expires)
	}
}

func TestParseYAMLRefuses(t *testing.T) {
	good := sample(t, newKey(t))
	private := indented(t, newKey(t))
	public := good[strings.Index(good, "      -----BEGIN"):strings.Index(good, "    expires: 2026")]
	for name, c := range map[string]struct{ old, new, problem string }{
		"no owner":          {"owner: Example Devices\n", "", "owner is missing"},
		"no end":            {"expires: 2027-06-30T00:00:00Z\n", "", "expires is missing"},
		"end not a time":    {"2027-06-30T00:00:00Z", "soon", "line 2"},
		"unknown key":       {"owner:", "ownr: x\nowner:", "line 1: field ownr not found"},
		"duplicate key":     {"owner:", "owner: x\nowner:", "already defined"},
		"ueid not hex":      {ueid, "xyz", `line 4: ueid "xyz"`},
		"ueid short":        {ueid, "0102", "7 to 33"},
		"ueid long":         {ueid, strings.Repeat("01", 34), "7 to 33"},
		"oemid":             {"oemid: ieee:89-48-23", "oemid: 89-48-23", "line 5"},
		"hwmodel long":      {`"549d"`, strings.Repeat("01", 33), "1 to 32"},
		"hwmodel alone":     {"    oemid: ieee:89-48-23\n", "", "oemid is missing"},
		"oemid alone":       {"    hwmodel: \"549d\"\n", "", "hwmodel is missing"},
		"no key":            {"    key: |\n" + public, "", "has no key"},
		"key not PEM":       {public, "      hello\n", "line 7"},
		"private key":       {public, private, "private"},
		"empty revocation":  {"    key:", "    revoked: ''\n    key:", "revoked is empty"},
		"no name":           {"name: teep-agent\n        version: 1.1.0", "version: 1.1.0", "no name"},
		"no digest":         {"digest: sha-256:" + strings.Repeat("11", 32), "digest: ''", "digest"},
		"weak digest":       {"sha-256:" + strings.Repeat("11", 32), "sha-1:" + strings.Repeat("11", 20), "sha-1"},
		"digest size":       {strings.Repeat("11", 32), "11", "32 bytes"},
		"digest not hex":    {strings.Repeat("11", 32), "zz", "not hexadecimal"},
		"status":            {"status: affirming", "status: fine", "line 20: attest: unknown status"},
		"status none":       {"status: affirming", "status: none", "unknown status"},
		"no status":         {"        status: affirming\n", "", "unknown status"},
		"debug":             {"debug: disabled", "debug: enabled", "only value is disabled"},
		"component end":     {"2028-01-01T00:00:00Z", "2028", "is not a time"},
		"list for a value":  {"version: 1.2.0", "version: [1]", "expected one value"},
		"mapping not list":  {"  - ueid", "    ueid", "cannot unmarshal"},
		"empty weakness":    {"[no monotonic counter]", "['']", "weakness is empty"},
		"second document":   {"reference-values:", "---\nreference-values:", "more than one document"},
		"not YAML":          {"owner:", "\t:", "yaml"},
		"component unknown": {"why:", "because:", "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, err := appraisal.ParseYAML([]byte(text))
			if !errors.Is(err, appraisal.ErrCollateral) || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%v; want %q", err, c.problem)
			}
		})
	}
	for _, text := range []string{"", "owner: a\nexpires: 2027-01-01T00:00:00Z\n", "[]", "owner: a\nexpires: 2027-01-01T00:00:00Z\nreference-values: []\n"} {
		if _, err := appraisal.ParseYAML([]byte(text)); !errors.Is(err, appraisal.ErrCollateral) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := appraisal.ParseYAML(make([]byte, appraisal.MaxFileBytes+1)); !errors.Is(err, appraisal.ErrCollateral) {
		t.Error(err)
	}
}

func cryptoSigner(t *testing.T, k *cose.Key) crypto.Signer {
	t.Helper()
	private, err := k.CryptoPrivate()
	if err != nil {
		t.Fatal(err)
	}
	return private.(crypto.Signer)
}

func TestManufacturers(t *testing.T) {
	root, leaf, crl := authority(t)
	write := func(roots, crls string) string {
		in := func(s string) string { return "      " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n      ") }
		return "owner: Maker\nexpires: 2027-01-01T00:00:00Z\nmanufacturers:\n  - oemid: pen:64242\n    roots: |\n" + in(roots) + "\n    crls: |\n" + in(crls) + "\n"
	}
	c, err := appraisal.ParseYAML([]byte(write(root, crl)))
	if err != nil || len(c.Manufacturers) != 1 || len(c.Manufacturers[0].Roots) != 1 || len(c.Manufacturers[0].CRLs) != 1 {
		t.Fatalf("%v, %+v", err, c)
	}
	for name, text := range map[string]string{
		"no roots":      write("", crl),
		"not a CA":      write(leaf, crl),
		"CRL as root":   write(crl, crl),
		"root as CRL":   write(root, root),
		"garbage":       write("hello", crl),
		"broken DER":    write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", crl),
		"broken CRL":    write(root, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----"),
		"oemid":         strings.Replace(write(root, crl), "pen:64242", "x", 1),
		"oemid missing": strings.Replace(write(root, crl), "oemid: pen:64242\n    ", "", 1),
		"time":          write(root, crl) + "    expires: now\n",
	} {
		if _, err := appraisal.ParseYAML([]byte(text)); !errors.Is(err, appraisal.ErrCollateral) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// authority makes a root certificate, a certificate that is no authority, and a list.
func authority(t *testing.T) (root, leaf, crl string) {
	t.Helper()
	signer := cryptoSigner(t, newKey(t))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	template.IsCA, template.SerialNumber = false, big.NewInt(2)
	leafDER, err := x509.CreateCertificate(rand.Reader, template, ca, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, ca, signer)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("CERTIFICATE", leafDER), encode("X509 CRL", list)
}

func TestStore(t *testing.T) {
	k, stranger := newKey(t), newKey(t)
	c, err := appraisal.ParseYAML([]byte(sample(t, k)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := appraisal.NewStore(c)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.EndorsementFor(k.Thumbprint()); err != nil || e == nil {
		t.Errorf("%v, %v", e, err)
	}
	if e, err := s.EndorsementFor(stranger.Thumbprint()); err != nil || e != nil {
		t.Errorf("%v, %v", e, err)
	}
	refs, err := s.ReferencesFor(c.References[0].Class)
	if err != nil || len(refs) != 2 {
		t.Errorf("%v, %v", refs, err)
	}
	if refs, _ := s.ReferencesFor(appraisal.Class{}); len(refs) != 0 {
		t.Errorf("references of no class: %v", refs)
	}
	if err := s.Replace(); err != nil {
		t.Fatal(err)
	}
	if e, _ := s.EndorsementFor(k.Thumbprint()); e != nil {
		t.Error("the endorsement survived the replacement")
	}
}

// TestStoreBoundsEntries: an entry without an end, made by a program, still ends with its file.
func TestStoreBoundsEntries(t *testing.T) {
	k := newKey(t)
	c := &appraisal.Collateral{Owner: "file", Expires: now, Endorsements: []appraisal.Endorsement{{Owner: "other", UEID: []byte("device1"), Key: k}}}
	s, err := appraisal.NewStore(c)
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := s.EndorsementFor(k.Thumbprint()); e.Owner != "file" || !errors.Is(e.Check(now), attest.ErrUntrusted) {
		t.Errorf("%+v", e)
	}
	if c.Endorsements[0].Owner != "other" {
		t.Error("the caller's collateral was changed")
	}
}

func TestStoreConflicts(t *testing.T) {
	k := newKey(t)
	base := appraisal.Endorsement{Owner: "a", UEID: []byte("device1"), Key: k, Expires: now.Add(time.Hour)}
	with := func(change func(*appraisal.Endorsement)) *appraisal.Collateral {
		e := base
		change(&e)
		return &appraisal.Collateral{Endorsements: []appraisal.Endorsement{e}}
	}
	same := with(func(*appraisal.Endorsement) {})
	s, err := appraisal.NewStore(same, with(func(e *appraisal.Endorsement) { e.Expires = now.Add(2 * time.Hour) }))
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := s.EndorsementFor(k.Thumbprint()); !e.Expires.Equal(now.Add(2 * time.Hour)) {
		t.Error("the later end does not count")
	}
	revoked := with(func(e *appraisal.Endorsement) { e.Revoked = "lost" })
	longer := with(func(e *appraisal.Endorsement) { e.Expires = now.Add(2 * time.Hour) })
	for _, order := range [][]*appraisal.Collateral{{same, revoked}, {revoked, same}, {revoked, longer}, {longer, revoked}} {
		if err := s.Replace(order...); err != nil {
			t.Fatal(err)
		}
		if e, _ := s.EndorsementFor(k.Thumbprint()); !errors.Is(e.Check(now), attest.ErrUntrusted) {
			t.Error("the revocation does not count")
		}
	}
	other := with(func(e *appraisal.Endorsement) { e.UEID = []byte("device2") })
	if err := s.Replace(same, other); !errors.Is(err, appraisal.ErrCollateral) {
		t.Error(err)
	}
	if err := s.Replace(with(func(e *appraisal.Endorsement) { e.Key = nil })); !errors.Is(err, appraisal.ErrCollateral) {
		t.Error(err)
	}
	if err := s.Replace(with(func(e *appraisal.Endorsement) { e.Key = cose.NewSymmetricKey(make([]byte, 16)) })); !errors.Is(err, appraisal.ErrCollateral) {
		t.Error(err)
	}
	if e, _ := s.EndorsementFor(k.Thumbprint()); e == nil {
		t.Error("a failed replacement changed the store")
	}
}

func TestCheck(t *testing.T) {
	e := appraisal.Endorsement{UEID: []byte("device1"), Expires: now}
	if err := e.Check(now.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if err := e.Check(now); !errors.Is(err, attest.ErrUntrusted) {
		t.Errorf("at its end: %v", err)
	}
	if err := (&appraisal.Endorsement{}).Check(now); err != nil {
		t.Errorf("without an end: %v", err)
	}
}

func TestMatch(t *testing.T) {
	digest := appraisal.Digest{Algorithm: cose.AlgSHA256, Value: bytes.Repeat([]byte{1}, 32)}
	ref := appraisal.Reference{Name: "agent", Version: "1", Owner: "o", Algorithm: digest.Algorithm, Digest: digest.Value, Status: attest.StatusAffirming}
	vary := func(change func(*appraisal.Reference)) appraisal.Reference {
		r := ref
		change(&r)
		return r
	}
	bad := vary(func(r *appraisal.Reference) { r.Status = attest.StatusContraindicated; r.Why = "leaks" })
	for name, c := range map[string]struct {
		refs  []appraisal.Reference
		found bool
		want  attest.Status
		text  string
	}{
		"known":           {[]appraisal.Reference{ref}, true, attest.StatusAffirming, "agent 1, known to o"},
		"worst counts":    {[]appraisal.Reference{ref, bad, ref}, true, attest.StatusContraindicated, "leaks"},
		"none":            {nil, false, attest.StatusContraindicated, "not among"},
		"other name":      {[]appraisal.Reference{vary(func(r *appraisal.Reference) { r.Name = "x" })}, false, attest.StatusContraindicated, "not among"},
		"other digest":    {[]appraisal.Reference{vary(func(r *appraisal.Reference) { r.Digest = make([]byte, 32) })}, false, attest.StatusContraindicated, "not among"},
		"empty digest":    {[]appraisal.Reference{vary(func(r *appraisal.Reference) { r.Digest = nil })}, false, attest.StatusContraindicated, "not among"},
		"other algorithm": {[]appraisal.Reference{vary(func(r *appraisal.Reference) { r.Algorithm = cose.AlgSHA512 })}, false, attest.StatusContraindicated, "not among"},
		"expired":         {[]appraisal.Reference{vary(func(r *appraisal.Reference) { r.Expires = now })}, false, attest.StatusContraindicated, "expired"},
		"one expired":     {[]appraisal.Reference{vary(func(r *appraisal.Reference) { r.Expires = now }), ref}, true, attest.StatusAffirming, "known"},
	} {
		got, reason := appraisal.Match(c.refs, "agent", digest, now)
		if (got != nil) != c.found || reason.Status != c.want || !strings.Contains(reason.Text, c.text) {
			t.Errorf("%s: %+v, %+v", name, got, reason)
		}
	}
}

func TestSigned(t *testing.T) {
	maker, rival := newKey(t), newKey(t)
	file := []byte(sample(t, newKey(t)))
	sign := func(k *cose.Key, file []byte) []byte {
		s, err := k.Signer()
		if err != nil {
			t.Fatal(err)
		}
		msg, err := appraisal.Sign(rand.Reader, file, s)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	owner := func(name string, k *cose.Key) appraisal.Owner {
		keys, err := cose.NewKeySet(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return appraisal.Owner{Name: name, Keys: keys}
	}
	owners := []appraisal.Owner{owner("Rival", rival), owner("Example Devices", maker)}
	msg := sign(maker, file)
	if c, err := appraisal.ParseSigned(msg, owners...); err != nil || len(c.Endorsements) != 1 {
		t.Fatalf("%v", err)
	}
	refused := map[string][]byte{
		"another owner's name": sign(rival, file),
		"unknown signer":       sign(newKey(t), file),
		"changed":              bytes.Replace(msg, []byte("1.2.0"), []byte("1.2.1"), 1),
		"truncated":            msg[:len(msg)-1],
		"unsigned":             file,
	}
	s, _ := maker.Signer()
	refused["other content type"], _ = cose.Sign1(rand.Reader, file, s, cose.SignOptions{ContentType: "text/plain"})
	refused["no content type"], _ = cose.Sign1(rand.Reader, file, s, cose.SignOptions{})
	refused["not collateral"], _ = cose.Sign1(rand.Reader, []byte("x: y"), s, cose.SignOptions{ContentType: appraisal.SignedContentType})
	for name, msg := range refused {
		if _, err := appraisal.ParseSigned(msg, owners...); !errors.Is(err, appraisal.ErrCollateral) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := appraisal.ParseSigned(msg); !errors.Is(err, appraisal.ErrCollateral) {
		t.Errorf("without owners: %v", err)
	}
	if _, err := appraisal.Sign(rand.Reader, []byte("nonsense"), s); !errors.Is(err, appraisal.ErrCollateral) {
		t.Errorf("nonsense was signed: %v", err)
	}
}

// TestReplaceWhileReading runs under the race detector.
func TestReplaceWhileReading(t *testing.T) {
	k := newKey(t)
	c, err := appraisal.ParseYAML([]byte(sample(t, k)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := appraisal.NewStore(c)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if e, _ := s.EndorsementFor(k.Thumbprint()); e == nil {
					t.Error("missing in between")
				}
			}
		})
	}
	for range 100 {
		if err := s.Replace(c); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestTrustVector(t *testing.T) {
	v := appraisal.TrustVector{}
	if v.Status() != attest.StatusNone {
		t.Error("an empty vector asserts something")
	}
	v.Lower(appraisal.Executables, appraisal.Affirmed)
	v.Lower(appraisal.Hardware, appraisal.HardwareUnrecognized)
	v.Lower(appraisal.Hardware, appraisal.Affirmed)
	if v.Status() != attest.StatusContraindicated || v[appraisal.Hardware] != appraisal.HardwareUnrecognized {
		t.Errorf("%v", v)
	}
	if appraisal.SourcedData.String() != "sourced-data" || appraisal.Aspect(8).Valid() {
		t.Error("aspects")
	}
}

// FuzzParseYAML: what parses is complete, and nothing crashes.
func FuzzParseYAML(f *testing.F) {
	f.Add([]byte(sample(f, newKey(f))))
	f.Add([]byte("owner: a\nexpires: 2027-01-01T00:00:00Z\nmanufacturers:\n  - oemid: pen:1\n    roots: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := appraisal.ParseYAML(data)
		if err != nil {
			if !errors.Is(err, appraisal.ErrCollateral) {
				t.Fatal(err)
			}
			return
		}
		if c.Owner == "" || c.Expires.IsZero() {
			t.Fatal("neither owner nor end")
		}
		for _, e := range c.Endorsements {
			if e.Key == nil || len(e.UEID) < 7 || e.Expires.After(c.Expires) {
				t.Fatalf("%+v", e)
			}
		}
		for _, r := range c.References {
			if len(r.Digest) < 32 || r.Status == attest.StatusNone || r.Expires.After(c.Expires) {
				t.Fatalf("%+v", r)
			}
		}
	})
}
