package revocation_test

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/internal/testca"
)

type authority struct{ *testca.Authority }

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	return authority{testca.New(t, name, time.Unix(0, 0), time.Unix(1<<32, 0))}
}

func (a authority) list(t *testing.T, day int) []byte {
	t.Helper()
	at := time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
	return a.Revoke(t, int64(day), at, at.AddDate(0, 1, 0))
}

func TestRenew(t *testing.T) {
	one, two, below, forger := newAuthority(t, "one"), newAuthority(t, "two"), newAuthority(t, "below"), newAuthority(t, "one")
	anchors := []*x509.Certificate{one.Cert, two.Cert}
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
		r, err := revocation.Renew(c.before, c.lists, anchors, nil)
		if c.inForce < 0 {
			if !errors.Is(err, revocation.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(r.InForce) != c.inForce || len(r.Kept) != c.kept {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := revocation.Renew(first, [][]byte{one.list(t, 4)}, anchors, nil); !errors.Is(err, revocation.ErrOlder) {
		t.Errorf("an older list: %v", err)
	}
	// An authority that is trusted no longer: its list is in force until a restart, and not kept.
	if r, err := revocation.Renew(first, nil, anchors[:1], nil); err != nil || len(r.InForce) != 2 || len(r.Kept) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	var many [][]byte
	for i := range 65 {
		many = append(many, newAuthority(t, fmt.Sprint("authority ", i)).list(t, 1))
	}
	if _, err := revocation.Renew(many[:32], many[32:], nil, nil); !errors.Is(err, revocation.ErrInvalid) {
		t.Errorf("65 lists: %v", err)
	}
	if _, err := revocation.Renew(many[:32], many[32:64], nil, nil); err != nil {
		t.Errorf("64 lists: %v", err)
	}
}

// TestCRLNumbers: a list with a lower number is older whatever its date says (RFC 5280 §5.2.3).
func TestCRLNumbers(t *testing.T) {
	one := newAuthority(t, "one")
	at := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	list := func(number int64, days int) []byte {
		template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: at.AddDate(0, 0, days), NextUpdate: at.AddDate(0, 1, 0)}
		der, err := x509.CreateRevocationList(rand.Reader, template, one.Cert, one.Key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	now := [][]byte{list(5, 0)}
	for name, c := range map[string]struct {
		list []byte
		ok   bool
	}{
		"higher, later": {list(6, 1), true}, "higher, same date": {list(6, 0), true}, "same, later": {list(5, 1), true},
		"lower, later": {list(4, 1), false}, "higher, earlier": {list(6, -1), false},
	} {
		if _, err := revocation.Renew(now, [][]byte{c.list}, []*x509.Certificate{one.Cert}, nil); (err == nil) != c.ok || err != nil && !errors.Is(err, revocation.ErrOlder) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
