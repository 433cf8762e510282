package tdx_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	tdxtest "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"
	"github.com/google/go-tdx-guest/verify"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/tdx"
)

// testNow is when the sample quote and its collateral were valid.
var testNow = time.Date(2023, time.July, 1, 1, 0, 0, 0, time.UTC)

// sample is a quote of a production machine, without what follows it in the file.
func sample(t testing.TB) []byte {
	t.Helper()
	return testdata.RawQuote[:len(testdata.RawQuote)-len(quoteOf(t).ExtraBytes)]
}

func quoteOf(t testing.TB) *pb.QuoteV4 {
	t.Helper()
	q, err := abi.QuoteToProto(testdata.RawQuote)
	if err != nil {
		t.Fatal(err)
	}
	return q.(*pb.QuoteV4)
}

// makers know the root of the sample quote as that of a vendor, until an end.
func makers(t testing.TB, oemid []byte, end time.Time) *appraisal.Store {
	t.Helper()
	chain, err := verify.ExtractChainFromQuote(quoteOf(t))
	if err != nil {
		t.Fatal(err)
	}
	store, err := appraisal.NewStore(&appraisal.Collateral{Owner: "Operator", Expires: end,
		Manufacturers: []appraisal.Manufacturer{{OEMID: oemid, Roots: []*x509.Certificate{chain.RootCertificate}}}})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func root(t testing.TB) *appraisal.Store { return makers(t, tdx.OEMID(), testNow.AddDate(50, 0, 0)) }

// cache is Intel's sample collateral, without what is named.
type cache struct{ without string }

func (c cache) Get(url string) (map[string][]string, []byte, error) {
	if c.without != "" && bytes.Contains([]byte(url), []byte(c.without)) {
		return nil, nil, errors.New("not in the cache")
	}
	return tdxtest.TestGetter.Get(url)
}

func reports(t testing.TB, c tdx.Cache) *tdx.Reports {
	t.Helper()
	r, err := tdx.NewReports(tdx.Config{Makers: root(t), Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(r *tdx.Reports, data []byte, now time.Time) (*bound.Report, error) {
	return r.Read(context.Background(), data, bound.Beside{Now: now})
}

func TestSampleQuote(t *testing.T) {
	got, err := read(reports(t, cache{}), sample(t), testNow)
	if err != nil {
		t.Fatal(err)
	}
	body := quoteOf(t).GetTdQuoteBody()
	if !bytes.Equal(got.Bound, body.GetReportData()) || len(got.Measurements) != 5 || got.Measurements[0].Name != tdx.MeasurementName ||
		!bytes.Equal(got.Measurements[0].Digest.Value, body.GetMrTd()) || got.Measurements[4].Name != tdx.RuntimeName(3) {
		t.Errorf("%+v", got)
	}
	if len(got.Authority.UEID) != 33 || got.Authority.Owner != "Operator" || !bytes.Equal(got.Authority.Class.HWModel, []byte{0x50, 0x80, 0x6f, 0, 0, 0}) || got.Debug != eat.DebugDisabledSinceBoot {
		t.Errorf("%+v", got.Authority)
	}
	if bound.Bind([]byte("claims")).Matches(got.Bound) {
		t.Error("the sample is bound to claims")
	}
}

// TestTCB: the sample's platform reaches none of the levels in Intel's sample TCB info. Without
// current collateral nobody says that the platform is good either.
func TestTCB(t *testing.T) {
	for without, says := range map[string]string{"": "no matching TCB level", "tcb?": "not in the cache", "qe/identity": "not in the cache", "pckcrl": "not in the cache", "RootCA": "not in the cache"} {
		got, err := read(reports(t, cache{without}), sample(t), testNow)
		if err != nil {
			t.Fatal(err)
		}
		if f := got.Findings[0]; attest.StatusOf(f.Value) != attest.StatusContraindicated || !strings.Contains(f.Text, says) {
			t.Errorf("without %q: %+v", without, f)
		}
	}
	got, err := read(reports(t, cache{}), sample(t), testNow.AddDate(0, 6, 0))
	if err != nil || attest.StatusOf(got.Findings[0].Value) != attest.StatusContraindicated {
		t.Errorf("outdated collateral: %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	good := sample(t)
	for name, c := range map[string]struct {
		data  []byte
		cache cache
		now   time.Time
		want  error
	}{
		"years later":    {good, cache{}, testNow.AddDate(30, 0, 0), attest.ErrUntrusted},
		"bytes after it": {append(bytes.Clone(good), 1), cache{}, testNow, attest.ErrFormat},
		"too large":      {make([]byte, tdx.MaxQuoteBytes+1), cache{}, testNow, attest.ErrFormat},
		"empty":          {nil, cache{}, testNow, attest.ErrFormat},
	} {
		if r, err := read(reports(t, c.cache), c.data, c.now); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: appraised: %t, %v", name, r != nil, err)
		}
	}
	for name, c := range map[string]tdx.Config{"nothing": {}, "no cache": {Makers: root(t)}, "no roots": {Cache: cache{}}} {
		if r, err := tdx.NewReports(c); err == nil {
			t.Errorf("%s: %v", name, r)
		}
	}
	nobody, err := appraisal.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range map[string]*appraisal.Store{"no roots": nobody, "another vendor's root": makers(t, []byte{0x19, 0x0e, 0x78}, time.Time{}),
		"a root that expired": makers(t, tdx.OEMID(), testNow)} {
		other, err := tdx.NewReports(tdx.Config{Makers: known, Cache: cache{}})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := read(other, good, testNow); !errors.Is(err, attest.ErrUntrusted) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMutations flips a bit in, and cuts the quote at, positions all over it.
func TestMutations(t *testing.T) {
	good, r := sample(t), reports(t, cache{})
	step := 7 // every position of a quote of ours: TestBoundMutations
	if testing.Short() {
		step = 61
	}
	for at := 0; at < len(good); at += step {
		flipped := bytes.Clone(good)
		flipped[at] ^= 1 << (at % 8)
		for what, data := range map[string][]byte{"flipped": flipped, "cut": good[:at]} {
			if got, err := read(r, data, testNow); err == nil || (!errors.Is(err, attest.ErrFormat) && !errors.Is(err, attest.ErrUntrusted)) {
				t.Errorf("%s at %d: appraised: %t, %v", what, at, got != nil, err)
			}
		}
	}
}

// FuzzRead: no mutation crashes the reader, and what it accepts is the sample.
func FuzzRead(f *testing.F) {
	good, r := sample(f), reports(f, cache{})
	f.Add(good)
	f.Add(mustQuote(f, newPlatform(f)))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := read(r, data, testNow)
		if (got == nil) == (err == nil) {
			t.Fatal(got, err)
		}
	})
}
