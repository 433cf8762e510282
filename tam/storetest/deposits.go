package storetest

import (
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

func deposit(id, device string) tam.Deposit {
	return tam.Deposit{
		ID: id, Kind: tam.DepositData, Manifest: manifest("a"), Component: suit.NewComponentID("a", "data"), Device: device,
		EncryptionInfo: []byte{1, 0, 0xff}, Ciphertext: []byte("ciphertext of " + id), Deposited: start,
	}
}

func testDeposits(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	want(t, s.RemoveDeposit(ctx, "1"), tam.ErrNotFound)
	key := tam.Deposit{ID: "0", Kind: tam.DepositContentKey, Manifest: manifest("a"), Sequence: 1<<64 - 1, EncryptionInfo: []byte{2}, Deposited: start}
	revision := func() int64 {
		t.Helper()
		n, err := s.CatalogueRevision(ctx)
		must(t, err)
		return n
	}
	before := revision()
	for _, d := range []tam.Deposit{key, deposit("3", "x"), deposit("1", ""), deposit("2", "x")} {
		must(t, s.PutDeposit(ctx, d))
		if now := revision(); now <= before {
			t.Errorf("the revision stayed %d after a deposit", now)
		} else {
			before = now
		}
	}
	lists := func(device string, all ...tam.Deposit) {
		t.Helper()
		list, err := b.Open(t).DepositsFor(ctx, device)
		must(t, err)
		equal(t, list, all)
	}
	lists("", key, deposit("1", ""))
	lists("x", deposit("2", "x"), deposit("3", "x"))
	lists("y")
	replaced := deposit("2", "x")
	replaced.Ciphertext = []byte("new")
	must(t, s.PutDeposit(ctx, replaced))
	lists("x", replaced, deposit("3", "x"))
	page, err := s.ListDeposits(ctx, "0", 2)
	must(t, err)
	equal(t, page, []tam.Deposit{deposit("1", ""), replaced})
	before = revision()
	must(t, s.RemoveDeposit(ctx, "2"))
	if revision() <= before {
		t.Error("the revision did not rise with a removal")
	}
	want(t, s.RemoveDeposit(ctx, "2"), tam.ErrNotFound)
	lists("x", deposit("3", "x"))
}
