package cose_test

import (
	"testing"

	"github.com/go-teep/teep/cose"
)

// What a PEM file is for is said in front of it, and disturbs nobody.
func TestPEMLabel(t *testing.T) {
	k := newKey(t, cose.AlgESP256, 1)
	block, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	labelled := cose.LabelPEM(cose.AlgESP256, block)
	if got := cose.PEMLabel(labelled); got != cose.AlgESP256 {
		t.Errorf("the label reads %v", got)
	}
	if back, err := cose.ParsePEM(labelled); err != nil || string(back.Thumbprint()) != string(k.Thumbprint()) || back.SignsOnly() {
		t.Errorf("the key reads %v, %v", back, err)
	}
	for _, none := range []string{string(block), "", "COSE alg: dance\n" + string(block), string(block) + "COSE alg: ESP256\n", "\xff\x00"} {
		if got := cose.PEMLabel([]byte(none)); got != 0 {
			t.Errorf("%q has the label %v", none, got)
		}
	}
}

func TestSignsOnly(t *testing.T) {
	fromPEM := func() *cose.Key {
		block, err := newKey(t, cose.AlgESP256, 1).Public().MarshalPEM()
		if err != nil {
			t.Fatal(err)
		}
		k, err := cose.ParsePEM(block)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	restricted := func(alg cose.Algorithm) *cose.Key {
		k, err := fromPEM().WithAlgorithm(alg)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	withOps := func(ops ...int64) *cose.Key {
		data, err := fromPEM().MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if data[0] != 0xa4 || data[1] != 1 || data[2] != 2 {
			t.Fatalf("the key is encoded as %x", data)
		}
		list := append([]byte{0xa5, 1, 2, 4, 0x80 + byte(len(ops))}, make([]byte, 0, len(ops))...)
		for _, op := range ops {
			list = append(list, byte(op))
		}
		k, err := cose.ParseKey(append(list, data[3:]...))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name, c := range map[string]struct {
		key  *cose.Key
		want bool
	}{
		"Ed25519":           {newKey(t, cose.AlgEd25519, 1), true},
		"ML-DSA-65":         {newKey(t, cose.AlgMLDSA65, 1), true},
		"P-256 in PEM":      {fromPEM(), false},
		"P-256":             {newKey(t, cose.AlgECDHESA128KW, 1), false},
		"P-256 for ESP256":  {restricted(cose.AlgESP256), true},
		"P-256 for ECDH":    {restricted(cose.AlgECDHESA128KW), false},
		"key_ops verify":    {withOps(2), true},
		"key_ops derive":    {withOps(7), false},
		"verify and derive": {withOps(2, 7), false},
		"symmetric":         {cose.NewSymmetricKey(make([]byte, 16)), false},
		"none":              {nil, false},
	} {
		if got := c.key.SignsOnly(); got != c.want {
			t.Errorf("%s: signs only: %v", name, got)
		}
	}
}
