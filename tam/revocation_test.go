package tam_test

import (
	"crypto/x509"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/blobfs"
)

// list makes a revocation list that is due for renewal after a week.
func (a *authority) list(number int64, now time.Time, serials ...int64) []byte {
	a.t.Helper()
	return a.Revoke(a.t, number, now, now.AddDate(0, 0, 7), serials...)
}

// below makes an authority that this one certifies.
func (a *authority) below(name string, serial int64) *authority {
	a.t.Helper()
	return &authority{a.Below(a.t, name, serial), a.t}
}

// lasting certifies a signer for longer than revocation lists last.
func (a *authority) lasting(k *cose.Key, serial int64, now time.Time) [][]byte {
	return a.certifySigner(k, now, func(c *x509.Certificate) { c.SerialNumber, c.NotAfter = big.NewInt(serial), now.AddDate(1, 0, 0) })
}

func (w *world) renew(remove *bool, lists ...[]byte) {
	w.t.Helper()
	must(w.t, w.tam.RenewRevocationLists(ctx(), "certified", lists, remove))
}

// gone are the sequence numbers of versions that are not offered for a list.
func (w *world) gone() (all []uint64) {
	w.t.Helper()
	_, versions, err := w.tam.RevocationsOf(ctx(), "certified")
	must(w.t, err)
	for _, v := range versions {
		all = append(all, v.Sequence)
	}
	return all
}

// offered tells whether a new device that asks gets something.
func (w *world) offered() bool {
	w.t.Helper()
	a := w.agent(cose.AlgEd25519)
	a.requests(componentID("app"))
	u, ok := a.session().(*teep.Update)
	return ok && len(u.Manifests) > 0
}

// refuses checks that an upload by a certificate is refused.
func (w *world) refuses(by *cose.Key, chain [][]byte, says string) {
	w.t.Helper()
	_, err := w.tam.Publish(ctx(), w.envelope(release{name: "app", sequence: 99, payload: "next", by: by, chain: chain}), "")
	if !errors.Is(err, tam.ErrUnknownSigner) || !strings.Contains(err.Error(), says) {
		w.t.Errorf("an upload: %v, want one that says %q", err, says)
	}
}

// What a certificate signed that is revoked is refused, not offered, and taken off devices where that is wanted;
// another certificate of the same key counts.
func TestRevokedSigners(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	now := w.clock.read()
	chain := ca.lasting(by, 2, now)
	w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: chain})
	a := w.agent(cose.AlgESP256)
	a.requests(componentID("app"))
	a.succeed(a.update())
	a.requested = nil
	a.has(componentID("app"), "one")

	w.renew(nil, ca.list(1, now, 7))
	if !w.offered() || len(w.gone()) != 0 {
		t.Error("somebody else's certificate is revoked, and this one does not count")
	}
	w.renew(nil, ca.list(2, now, 7, 2))
	w.refuses(by, chain, "revoked")
	if w.offered() || len(w.gone()) != 1 {
		t.Errorf("offered after its certificate was revoked; gone: %v", w.gone())
	}
	if reply := a.session(); reply != nil {
		t.Errorf("a device that has it was sent %v, but nobody wants it removed", reply.Type())
	}
	remove := true
	w.renew(&remove)
	if u, ok := a.session().(*teep.Update); !ok || len(u.UnneededManifests) != 1 {
		t.Errorf("not removed: %+v", u)
	}
	// A new certificate for the same key is another one.
	w.publish(release{name: "app", sequence: 2, payload: "two", by: by, chain: ca.lasting(by, 3, now)})
	if u := a.update(); len(u.Manifests) != 1 || len(u.UnneededManifests) != 0 {
		t.Errorf("not replaced: %+v", u)
	}
	// Nothing that is left out comes back, and an older list does not either.
	w.renew(nil)
	if err := w.tam.RenewRevocationLists(ctx(), "certified", [][]byte{ca.list(1, now)}, nil); !errors.Is(err, tam.ErrRevocationLists) {
		t.Errorf("an older list: %v", err)
	}
	if gone := w.gone(); len(gone) != 1 || gone[0] != 1 {
		t.Errorf("gone: %v", gone)
	}
	// What the authority takes back itself counts again.
	w.renew(nil, ca.list(3, now))
	if len(w.gone()) != 0 {
		t.Errorf("gone, though no longer revoked: %v", w.gone())
	}
}

// A list that was not renewed in time might name everybody; that takes nothing off devices.
func TestOverdueRevocationList(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	chain := ca.lasting(by, 2, w.clock.read())
	w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: chain})
	a := w.agent(cose.AlgESP256)
	a.requests(componentID("app"))
	a.succeed(a.update())
	a.requested = nil
	a.has(componentID("app"), "one")
	remove := true
	w.renew(&remove, ca.list(1, w.clock.read()))
	w.clock.advance(7 * 24 * time.Hour)
	if !w.offered() {
		t.Error("not offered on the day when the list is due")
	}
	w.clock.advance(time.Second)
	w.refuses(by, chain, "due for renewal")
	if w.offered() || len(w.gone()) != 1 {
		t.Errorf("offered under a list that is overdue; gone: %v", w.gone())
	}
	if u, ok := a.session().(*teep.Update); ok && len(u.UnneededManifests) > 0 {
		t.Errorf("removed under a list that is overdue: %+v", u)
	}
	w.renew(nil, ca.list(2, w.clock.read()))
	if !w.offered() {
		t.Error("not offered under a new list")
	}
}

// What was revoked is removed, also when the certificate ended meanwhile.
func TestRevokedAndEnded(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: ca.certifySigner(by, w.clock.read(), nil)})
	a := w.agent(cose.AlgESP256)
	a.requests(componentID("app"))
	a.succeed(a.update())
	a.requested = nil
	a.has(componentID("app"), "one")
	w.clock.advance(2 * time.Hour)
	remove := true
	w.renew(&remove, ca.list(1, w.clock.read(), 2))
	if u, ok := a.session().(*teep.Update); !ok || len(u.UnneededManifests) != 1 {
		t.Errorf("%+v", u)
	}
}

// Lists of authorities below an anchor count, and so do those that revoke such an authority.
func TestRevokedBelowAnIntermediate(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	now := w.clock.read()
	middle := ca.below("middle", 5)
	chain := append(middle.lasting(by, 2, now), middle.Cert.Raw)
	w.renew(nil, middle.list(1, now, 2), ca.list(1, now)) // before anybody showed the intermediate
	w.refuses(by, chain, "revoked")
	good := append(middle.lasting(by, 3, now), middle.Cert.Raw)
	w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: good})
	forged := newAuthority(t, now)
	forged.Cert = &x509.Certificate{RawSubject: middle.Cert.RawSubject, SubjectKeyId: middle.Cert.SubjectKeyId, Subject: middle.Cert.Subject,
		KeyUsage: x509.KeyUsageCRLSign, PublicKey: &forged.Key.PublicKey}
	if err := w.tam.RenewRevocationLists(ctx(), "certified", [][]byte{forged.list(9, now)}, nil); !errors.Is(err, tam.ErrRevocationLists) {
		t.Errorf("a forged list: %v", err)
	}
	if !w.offered() {
		t.Error("a good certificate does not count")
	}
	w.renew(nil, ca.list(2, now, 5))
	w.refuses(by, good, "revoked")
	if w.offered() {
		t.Error("offered after the authority between was revoked")
	}
}

// A version of an older release does not say its chain: it is read from the envelope.
func TestRevokedVersionOfAnOlderRelease(t *testing.T) {
	w, ca := certified(t)
	by := key(t, cose.AlgESP256)
	now := w.clock.read()
	v := w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: ca.lasting(by, 2, now)})
	blobs, err := blobfs.Open(filepath.Join(w.dir, "blobs"))
	must(t, err)
	defer blobs.Close()
	older := *v
	older.Sequence, older.Chain = 2, nil
	older.Envelope, err = blobs.Put(ctx(), w.envelope(release{name: "app", sequence: 2, payload: "two", by: by, chain: ca.lasting(by, 3, now)}))
	must(t, err)
	must(t, w.store.AddVersion(ctx(), older))
	w.renew(nil, ca.list(1, now, 2))
	if gone := w.gone(); len(gone) != 1 || gone[0] != 1 {
		t.Errorf("gone: %v, want the first alone", gone)
	}
	w.renew(nil, ca.list(2, now, 3))
	if gone := w.gone(); len(gone) != 1 || gone[0] != 2 {
		t.Errorf("gone: %v, want the second alone", gone)
	}
	// One whose chain is not known yet is not offered, and stays where it is.
	older.Sequence, older.Digest = 3, []byte("x")
	older.Envelope, err = blobs.Put(ctx(), w.envelope(release{name: "app", sequence: 3, payload: "three", by: by, chain: ca.lasting(by, 4, now)}))
	must(t, err)
	must(t, w.store.AddVersion(ctx(), older))
	if gone := w.gone(); len(gone) != 2 {
		t.Errorf("gone: %v", gone)
	}
	w.renew(nil, ca.list(3, now, 3))
	if gone := w.gone(); len(gone) != 1 || gone[0] != 2 {
		t.Errorf("gone: %v, want the second alone", gone)
	}
}

func TestRenewRevocationListsRefuses(t *testing.T) {
	w, ca := certified(t)
	now := w.clock.read()
	other := newAuthority(t, now) // of the same name
	other.Cert.SubjectKeyId = ca.Cert.SubjectKeyId
	for name, c := range map[string]struct {
		publisher string
		list      []byte
		want      error
	}{
		"nobody":         {"nobody", ca.list(1, now), tam.ErrNotFound},
		"without anchor": {"acme", ca.list(1, now), tam.ErrRevocationLists},
		"forged":         {"certified", other.list(1, now), tam.ErrRevocationLists},
		"garbage":        {"certified", []byte("list"), tam.ErrRevocationLists},
	} {
		if err := w.tam.RenewRevocationLists(ctx(), c.publisher, [][]byte{c.list}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := w.tam.RevocationsOf(ctx(), "nobody"); !errors.Is(err, tam.ErrNotFound) {
		t.Error(err)
	}
	by := key(t, cose.AlgESP256)
	w.publish(release{name: "app", sequence: 1, payload: "one", by: by, chain: ca.lasting(by, 2, now)})
	if r, gone, err := w.tam.RevocationsOf(ctx(), "certified"); err != nil || len(r.Lists) != 0 || len(gone) != 0 {
		t.Errorf("%+v, %v, %v", r, gone, err)
	}
}
