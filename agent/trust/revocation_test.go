package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/go-teep/teep/agent/trust"
)

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

func (a authority) list(t *testing.T, day int) []byte {
	t.Helper()
	at := time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(int64(day)), ThisUpdate: at, NextUpdate: at.AddDate(0, 1, 0),
	}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRenewRevocationLists(t *testing.T) {
	one, two, below, forger := newAuthority(t, "one"), newAuthority(t, "two"), newAuthority(t, "below"), newAuthority(t, "one")
	anchors := []*x509.Certificate{one.cert, two.cert}
	first := [][]byte{one.list(t, 5), two.list(t, 5)}
	for name, c := range map[string]struct {
		before, lists [][]byte
		inForce, kept int // -1: refused
	}{
		"first":                     {nil, first, 2, 2},
		"again":                     {first, first, 2, 2},
		"none":                      {first, nil, 2, 2},
		"newer, of one":             {first, [][]byte{one.list(t, 6)}, 2, 2},
		"older, of one":             {first, [][]byte{one.list(t, 4)}, -1, -1},
		"one newer, one older":      {first, [][]byte{one.list(t, 6), two.list(t, 4)}, -1, -1},
		"forged, and newer":         {first, [][]byte{forger.list(t, 9)}, -1, -1},
		"forged, at first":          {nil, [][]byte{forger.list(t, 9)}, -1, -1},
		"of one below an authority": {first, [][]byte{below.list(t, 1)}, 3, 2},
		"garbage":                   {first, [][]byte{[]byte("list")}, -1, -1},
	} {
		inForce, kept, err := trust.RenewRevocationLists(c.before, c.lists, anchors)
		if c.inForce < 0 {
			if !errors.Is(err, trust.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(inForce) != c.inForce || len(kept) != c.kept {
			t.Errorf("%s: %d in force, %d kept, %v", name, len(inForce), len(kept), err)
		}
	}
	if _, _, err := trust.RenewRevocationLists(first, [][]byte{one.list(t, 4)}, anchors); !errors.Is(err, trust.ErrOlderList) {
		t.Errorf("an older list: %v", err)
	}
	// An authority that is trusted no longer: its list is in force until a restart, and not kept.
	if inForce, kept, err := trust.RenewRevocationLists(first, nil, anchors[:1]); err != nil || len(inForce) != 2 || len(kept) != 1 {
		t.Errorf("%d in force, %d kept, %v", len(inForce), len(kept), err)
	}
	var many [][]byte
	for i := range 65 {
		many = append(many, newAuthority(t, fmt.Sprint("authority ", i)).list(t, 1))
	}
	if _, _, err := trust.RenewRevocationLists(many[:32], many[32:], nil); !errors.Is(err, trust.ErrInvalid) {
		t.Errorf("65 lists: %v", err)
	}
	if _, _, err := trust.RenewRevocationLists(many[:32], many[32:64], nil); err != nil {
		t.Errorf("64 lists: %v", err)
	}
}
