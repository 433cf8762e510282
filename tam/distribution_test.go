package tam

import "testing"

// What another key signed is owed anew; of deliveries of older releases nobody knows who signed them.
func TestDeliveriesOfAnotherSigner(t *testing.T) {
	for name, c := range map[string]struct {
		last, now []byte
		owed      bool
	}{
		"same": {[]byte("a"), []byte("a"), false}, "another": {[]byte("a"), []byte("b"), true}, "not said": {nil, []byte("b"), false},
	} {
		v := &delivery{offered: 1, fingerprint: []byte("f"), signer: c.now, last: Delivery{Version: 1, Deposits: []byte("f"), Signer: c.last, Done: true}}
		if v.owes() != c.owed || v.renewed() != c.owed {
			t.Errorf("%s: owed %v, renewed %v", name, v.owes(), v.renewed())
		}
	}
}
