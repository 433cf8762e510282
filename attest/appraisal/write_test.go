package appraisal_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"reflect"
	"testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

func TestWrittenReadsBack(t *testing.T) {
	c, err := appraisal.ParseYAML([]byte(sample(t, newKey(t))))
	if err != nil {
		t.Fatal(err)
	}
	root, _, crl := authority(t)
	block, _ := pem.Decode([]byte(root))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode([]byte(crl))
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c.Manufacturers = []appraisal.Manufacturer{{Owner: c.Owner, OEMID: []byte{1}, Roots: []*x509.Certificate{cert}, CRLs: []*x509.RevocationList{list}, Expires: c.Expires}}
	c.Endorsements[0].Revoked = "lost: \"twice\"\n"
	c.References[0].Name = "0x12" // a scalar that YAML would read as a number
	data, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := appraisal.ParseYAML(data)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Endorsements[0].Key.Equal(c.Endorsements[0].Key) || again.Endorsements[0].Revoked != c.Endorsements[0].Revoked {
		t.Errorf("%+v", again.Endorsements)
	}
	if !reflect.DeepEqual(again.References, c.References) {
		t.Errorf("\n got %+v\nwant %+v", again.References, c.References)
	}
	if !again.Manufacturers[0].Roots[0].Equal(cert) || !bytes.Equal(again.Manufacturers[0].CRLs[0].Raw, list.Raw) {
		t.Error("certificates changed")
	}
}

func TestYAMLRefuses(t *testing.T) {
	key := newKey(t)
	good := appraisal.Endorsement{UEID: []byte("device1"), Key: key}
	for name, c := range map[string]appraisal.Collateral{
		"no owner":         {Expires: now, Endorsements: []appraisal.Endorsement{good}},
		"nothing":          {Owner: "a", Expires: now},
		"no key":           {Owner: "a", Expires: now, Endorsements: []appraisal.Endorsement{{UEID: []byte("device1")}}},
		"symmetric key":    {Owner: "a", Expires: now, Endorsements: []appraisal.Endorsement{{UEID: []byte("device1"), Key: cose.NewSymmetricKey(make([]byte, 16))}}},
		"short ueid":       {Owner: "a", Expires: now, Endorsements: []appraisal.Endorsement{{UEID: []byte("x"), Key: key}}},
		"bad class":        {Owner: "a", Expires: now, References: []appraisal.Reference{{Name: "a"}}},
		"bad vendor":       {Owner: "a", Expires: now, Manufacturers: []appraisal.Manufacturer{{}}},
		"bad class of key": {Owner: "a", Expires: now, Endorsements: []appraisal.Endorsement{{UEID: []byte("device1"), Key: key, Class: appraisal.Class{OEMID: []byte{0xf6}}}}},
	} {
		if data, err := c.YAML(); !errors.Is(err, appraisal.ErrCollateral) && !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %s, %v", name, data, err)
		}
	}
	// The private key does not go into the file.
	data, err := (&appraisal.Collateral{Owner: "a", Expires: now, Endorsements: []appraisal.Endorsement{good}}).YAML()
	if err != nil || bytes.Contains(data, []byte("PRIVATE")) {
		t.Errorf("%s, %v", data, err)
	}
}
