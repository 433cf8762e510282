package tdx_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/bound/boundtest"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/tdx"
	"github.com/go-teep/teep/cose"
)

// authority is a certificate and its key, with the names that Intel's have.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

const rootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

func issue(t testing.TB, serial int64, name string, parent *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"Intel Corporation"}},
		NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(10, 0, 0), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: []byte{byte(serial)}, CRLDistributionPoints: []string{rootCRL}}
	change(template)
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func isCA(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign }

// platform is a TDX machine whose quotes are made here, after Intel's "TDX DCAP Quote Generation
// Library" (appendix A.3), and what Intel would publish about it. Changes are made before it is asked.
type platform struct {
	t                            testing.TB
	root, platformCA, tcbSigning *authority
	pck                          *authority
	attestation                  *ecdsa.PrivateKey
	ppid, fmspc                  []byte
	debug                        bool
	mrtd                         []byte
	status                       string // of the TCB level that the platform reaches
	leastTCB                     int
	revoked                      []int64 // serial numbers
	body                         func(quote []byte)
	claimsTo                     *platform // whose certificate it shows
	qeSigner                     *ecdsa.PrivateKey
}

var intel struct{ root, platformCA, tcbSigning *authority }

func newPlatform(t testing.TB) *platform {
	t.Helper()
	if intel.root == nil {
		intel.root = issue(t, 1, "Intel SGX Root CA", nil, isCA)
		intel.platformCA = issue(t, 2, "Intel SGX PCK Platform CA", intel.root, isCA)
		intel.tcbSigning = issue(t, 3, "Intel SGX TCB Signing", intel.root, func(*x509.Certificate) {})
	}
	p := &platform{t: t, root: intel.root, platformCA: intel.platformCA, tcbSigning: intel.tcbSigning,
		ppid: make([]byte, 16), fmspc: []byte{0x50, 0x80, 0x6f, 0, 0, 1}, mrtd: bytes.Repeat([]byte{0x4d}, 48), status: "UpToDate", leastTCB: 3}
	if _, err := rand.Read(p.ppid); err != nil {
		t.Fatal(err)
	}
	p.pck = issue(t, 10, "Intel SGX PCK Certificate", p.platformCA, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: pcs.OidSgxExtension, Value: p.sgxExtension()}}
	})
	var err error
	if p.attestation, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.qeSigner = p.pck.key
	return p
}

type oidValue struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// sgxExtension names the platform and its TCB, which is 5 in each component.
func (p *platform) sgxExtension() []byte {
	var tcb []oidValue
	sub := func(n int) asn1.ObjectIdentifier { return append(append(asn1.ObjectIdentifier{}, pcs.OidTCB...), n) }
	for i := 1; i <= 16; i++ {
		tcb = append(tcb, oidValue{sub(i), 5})
	}
	tcb = append(tcb, oidValue{pcs.OidPCESvn, 5}, oidValue{pcs.OidCPUSvn, make([]byte, 16)})
	der, err := asn1.Marshal([]oidValue{{pcs.OidPPID, p.ppid}, {pcs.OidTCB, tcb}, {pcs.OidPCEID, []byte{0, 0}}, {pcs.OidFMSPC, p.fmspc}})
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

func sign(t testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func chainPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func sized(kind uint16, content []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(content))), content...)
}

// MediaType implements bound.Reporter.
func (p *platform) MediaType() string { return bound.TDXQuote }

// Report implements bound.Reporter.
func (p *platform) Report(_ context.Context, b bound.Binding) ([]byte, error) {
	quote := make([]byte, 0x278)
	binary.LittleEndian.PutUint16(quote, 4)
	binary.LittleEndian.PutUint16(quote[2:], 2)
	binary.LittleEndian.PutUint32(quote[4:], 0x81)
	body := quote[0x30:]
	for i := range 16 {
		body[i] = 5
	}
	body[1] = 0 // the TDX module of version 0 has no levels of its own
	if p.debug {
		body[0x78] = 1
	}
	copy(body[0x88:], p.mrtd)
	copy(body[0x208:], b[:])
	if p.body != nil {
		p.body(quote)
	}
	key, err := p.attestation.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	key = key[1:]
	authData := bytes.Repeat([]byte{7}, 32)
	qe := make([]byte, 0x180)
	copy(qe[0x80:], bytes.Repeat([]byte{0xee}, 32)) // MRSIGNER
	qe[0x100], qe[0x102] = 2, 8                     // ISVPRODID, ISVSVN
	named := sha256.Sum256(append(bytes.Clone(key), authData...))
	copy(qe[0x140:], named[:])
	shown := p
	if p.claimsTo != nil {
		shown = p.claimsTo
	}
	certification := append(bytes.Clone(qe), sign(p.t, p.qeSigner, qe)...)
	certification = append(binary.LittleEndian.AppendUint16(certification, uint16(len(authData))), authData...)
	certification = append(certification, sized(5, chainPEM(shown.pck.cert, p.platformCA.cert, p.root.cert))...)
	signed := append(append(sign(p.t, p.attestation, quote), key...), sized(6, certification)...)
	return append(binary.LittleEndian.AppendUint32(quote, uint32(len(signed))), signed...), nil
}

func (p *platform) crl(issuer *authority) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow.AddDate(0, 0, -1), NextUpdate: testNow.AddDate(0, 1, 0)}
	for _, serial := range p.revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: testNow})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer.cert, issuer.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

// Get implements tdx.Cache: what Intel publishes.
func (p *platform) Get(u string) (map[string][]string, []byte, error) {
	chain := func(name string, certs ...*x509.Certificate) map[string][]string {
		return map[string][]string{name: {url.QueryEscape(string(chainPEM(certs...)))}}
	}
	levels := func(svn string) []any {
		return []any{map[string]any{"tcb": json.RawMessage(svn), "tcbDate": "2023-01-01T00:00:00Z", "tcbStatus": p.status}}
	}
	end := testNow.AddDate(0, 1, 0)
	switch u {
	case pcs.TcbInfoURL(hex.EncodeToString(p.fmspc)):
		component := fmt.Sprintf(`{"svn": %d}`, p.leastTCB)
		list := "[" + component
		tdxList := "[" + component + `,{"svn": 0}`
		for i := 1; i < 16; i++ {
			list += "," + component
			if i > 1 {
				tdxList += "," + component
			}
		}
		list, tdxList = list+"]", tdxList+"]"
		body := map[string]any{"id": "TDX", "version": 3, "issueDate": testNow, "nextUpdate": end, "fmspc": hex.EncodeToString(p.fmspc), "pceId": "0000",
			"tdxModule": map[string]string{"mrsigner": hex.EncodeToString(make([]byte, 48)), "attributes": "0000000000000000", "attributesMask": "ffffffffffffffff"},
			"tcbLevels": levels(fmt.Sprintf(`{"sgxtcbcomponents": %s, "pcesvn": 5, "tdxtcbcomponents": %s}`, list, tdxList))}
		return p.published(chain(pcs.TcbInfoIssuerChainPhrase, p.tcbSigning.cert, p.root.cert), "tcbInfo", body)
	case pcs.QeIdentityURL():
		body := map[string]any{"id": "TD_QE", "version": 2, "issueDate": testNow, "nextUpdate": end, "miscselect": "00000000", "miscselectMask": "ffffffff",
			"attributes": hex.EncodeToString(make([]byte, 16)), "attributesMask": hex.EncodeToString(bytes.Repeat([]byte{255}, 16)),
			"mrsigner": hex.EncodeToString(bytes.Repeat([]byte{0xee}, 32)), "isvprodid": 2, "tcbLevels": []any{map[string]any{"tcb": map[string]int{"isvsvn": 8}, "tcbDate": "2023-01-01T00:00:00Z", "tcbStatus": "UpToDate"}}}
		return p.published(chain(pcs.SgxQeIdentityIssuerChainPhrase, p.tcbSigning.cert, p.root.cert), "enclaveIdentity", body)
	case pcs.PckCrlURL("platform"):
		return chain(pcs.SgxPckCrlIssuerChainPhrase, p.platformCA.cert, p.root.cert), p.crl(p.platformCA), nil
	case rootCRL:
		return nil, p.crl(p.root), nil
	}
	return nil, nil, errors.New("not published: " + u)
}

func (p *platform) published(header map[string][]string, name string, body any) (map[string][]string, []byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(map[string]any{name: json.RawMessage(raw), "signature": hex.EncodeToString(sign(p.t, p.tcbSigning.key, raw))})
	return header, text, err
}

func (p *platform) class() appraisal.Class {
	return appraisal.Class{OEMID: tdx.OEMID(), HWModel: p.fmspc}
}

// device is the platform and what a verifier knows of it.
func (p *platform) device() boundtest.Device {
	references := []appraisal.Reference{{Class: p.class(), Name: tdx.MeasurementName, Algorithm: cose.AlgSHA384, Digest: bytes.Repeat([]byte{0x4d}, 48), Status: attest.StatusAffirming}}
	for i := range 4 {
		references = append(references, appraisal.Reference{Class: p.class(), Name: tdx.RuntimeName(i), Algorithm: cose.AlgSHA384, Digest: make([]byte, 48), Status: attest.StatusAffirming})
	}
	return boundtest.Device{UEID: tdx.UEID(p.ppid), Class: p.class(), Reporter: p, Now: testNow,
		Reports: func(s *appraisal.Store) (bound.Reports, error) {
			return tdx.NewReports(tdx.Config{Makers: s, Cache: p})
		},
		Collateral: appraisal.Collateral{Owner: "Operator", References: references,
			Manufacturers: []appraisal.Manufacturer{{OEMID: tdx.OEMID(), Roots: []*x509.Certificate{p.root.cert}}}}}
}

func TestBindings(t *testing.T) { boundtest.New(t, newPlatform(t).device()).Bindings() }

func TestBoundMutations(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 61
	}
	boundtest.New(t, newPlatform(t).device()).Mutations(step, false)
}

// TestSpellingOfCertificates: base64 has bits that nobody reads. No bit of the certificates' text may
// be changed unnoticed.
func TestSpellingOfCertificates(t *testing.T) {
	p := newPlatform(t)
	r, quote := mustReports(t, p), mustQuote(t, p)
	at := bytes.Index(quote, []byte("-----BEGIN"))
	if testing.Short() {
		at = len(quote) - 128
	}
	for ; at < len(quote); at++ {
		if quote[at] != '=' && (at+1 == len(quote) || quote[at+1] != '=' && quote[at+1] != '\n' && quote[at+1] != '-') {
			continue // what TestBoundMutations flips one bit of is enough for the rest
		}
		for bit := range 8 {
			flipped := bytes.Clone(quote)
			flipped[at] ^= 1 << bit
			if got, err := read(r, flipped, testNow); err == nil || got != nil {
				t.Errorf("bit %d of byte %d, %q, flipped: accepted", bit, at, quote[at])
			}
		}
	}
}

// TestVerdicts walks what an authentic quote and Intel's collateral may say.
func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(*platform)
		status      attest.Status
		claim, says string
	}{
		"up to date":          {func(*platform) {}, attest.StatusAffirming, "tcb", "up to date"},
		"debug mode":          {func(p *platform) { p.debug = true }, attest.StatusContraindicated, "dbgstat", "debugging is enabled"},
		"profiled":            {func(p *platform) { p.body = func(q []byte) { q[0x30+0x78] |= 1 << 5 } }, attest.StatusContraindicated, "dbgstat", "debugging is enabled"},
		"may be migrated":     {func(p *platform) { p.body = func(q []byte) { q[0x30+0x7b] |= 1 << 5 } }, attest.StatusWarning, "attributes", "migration"},
		"TCB out of date":     {func(p *platform) { p.status = "OutOfDate" }, attest.StatusContraindicated, "tcb", "OutOfDate"},
		"TCB revoked":         {func(p *platform) { p.status = "Revoked" }, attest.StatusContraindicated, "tcb", "Revoked"},
		"TCB too old":         {func(p *platform) { p.leastTCB = 6 }, attest.StatusContraindicated, "tcb", "no matching TCB level"},
		"PCK revoked":         {func(p *platform) { p.revoked = []int64{10} }, attest.StatusContraindicated, "tcb", "revoked"},
		"platform CA revoked": {func(p *platform) { p.revoked = []int64{2} }, attest.StatusContraindicated, "tcb", "revoked"},
		"TCB signer revoked":  {func(p *platform) { p.revoked = []int64{3} }, attest.StatusContraindicated, "tcb", "revoked"},
		"unknown guest":       {func(p *platform) { p.mrtd = make([]byte, 48) }, attest.StatusContraindicated, "measurements " + tdx.MeasurementName, "not among"},
		"unknown at run time": {func(p *platform) { p.body = func(q []byte) { q[0x30+0x148] = 1 } }, attest.StatusContraindicated, "measurements " + tdx.RuntimeName(0), "not among"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t)
			c.change(p)
			boundtest.Says(t, boundtest.New(t, p.device()).Result(), c.status, c.claim, c.status, c.says)
		})
	}
}

// TestForged: quotes that are not what they say.
func TestForged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*platform)
		want   error
	}{
		"another machine's certificate": {func(p *platform) { p.claimsTo = newPlatform(p.t) }, attest.ErrUntrusted},
		"another quoting enclave's key": {func(p *platform) { p.qeSigner = newPlatform(p.t).pck.key }, attest.ErrUntrusted},
		"another root": {func(p *platform) {
			p.root = issue(p.t, 1, "Intel SGX Root CA", nil, isCA)
		}, attest.ErrUntrusted},
		"another version":   {func(p *platform) { p.body = func(q []byte) { q[0] = 3 } }, attest.ErrFormat},
		"another algorithm": {func(p *platform) { p.body = func(q []byte) { q[2] = 3 } }, attest.ErrFormat},
		"an SGX quote":      {func(p *platform) { p.body = func(q []byte) { q[4] = 0 } }, attest.ErrFormat},
	} {
		p := newPlatform(t)
		d := p.device()
		c.change(p)
		b := boundtest.New(t, d)
		b.Refused(name, b.Evidence(), c.want)
	}
	// Another machine of the same model cannot speak for this one.
	p, other := newPlatform(t), newPlatform(t)
	d := p.device()
	d.Reporter = other
	b := boundtest.New(t, d)
	b.Refused("another device", b.Evidence(), attest.ErrUntrusted)
	if got, err := read(mustReports(t, p), mustQuote(t, p), testNow.Add(time.Minute)); err != nil || got.Debug != eat.DebugDisabledSinceBoot {
		t.Errorf("%+v, %v", got, err)
	}
}

func mustReports(t testing.TB, p *platform) *tdx.Reports {
	t.Helper()
	store, err := appraisal.NewStore(&appraisal.Collateral{Owner: "Operator", Manufacturers: []appraisal.Manufacturer{{OEMID: tdx.OEMID(), Roots: []*x509.Certificate{p.root.cert}}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := tdx.NewReports(tdx.Config{Makers: store, Cache: p})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustQuote(t testing.TB, p *platform) []byte {
	t.Helper()
	q, err := p.Report(context.Background(), bound.Binding{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}
