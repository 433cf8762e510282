package cose_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/hsstest"
)

func TestHSSLMSMessages(t *testing.T) {
	for _, width := range []uint{1, 2, 4, 8} {
		t.Run(fmt.Sprintf("W%d", width), func(t *testing.T) {
			s := hsstest.New(t, width, 1)
			msg, err := cose.Sign1(nil, []byte("firmware"), s, cose.SignOptions{})
			if err != nil {
				t.Fatal(err)
			}
			o := cose.VerifyOptions{Algorithms: []cose.Algorithm{cose.AlgHSSLMS}}
			v, err := cose.Verify(msg, newSet(t, s.Public()), o)
			if err != nil || v.Algorithm != cose.AlgHSSLMS || string(v.Payload) != "firmware" {
				t.Fatalf("%+v, %v", v, err)
			}
			_, err = cose.Verify(msg, newSet(t, s.Public()), cose.VerifyOptions{})
			wantErr(t, err, cose.ErrAlgorithm)
			_, err = cose.Verify(flip(msg, len(msg)-1, 0), newSet(t, s.Public()), o)
			wantErr(t, err, cose.ErrSignature)
			_, err = cose.Verify(bytes.Replace(msg, []byte("firmware"), []byte("Firmware"), 1), newSet(t, s.Public()), o)
			wantErr(t, err, cose.ErrSignature)
		})
	}
	k := hsstest.New(t, 8, 1).Public()
	if back, err := cose.ParseKey(mustEncode(t, k)); err != nil || !back.Equal(k) || back.IsPrivate() || back.Alg() != cose.AlgHSSLMS {
		t.Errorf("%v, %v", back, err)
	}
	_, err := k.Signer()
	wantErr(t, err, cose.ErrKey)
	_, err = cose.ParseKey(mustEncode(t, map[int]any{1: 5, -1: make([]byte, 60)}))
	wantErr(t, err, cose.ErrKey)
}
