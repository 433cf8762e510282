package inspect

import (
	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// Kind is what a data item is. The strings are part of the JSON output and do not change.
type Kind string

// The kinds. KindCBOR is any other data item.
const (
	KindTEEP     Kind = "teep-message"
	KindEnvelope Kind = "suit-envelope"
	KindManifest Kind = "suit-manifest"
	KindReport   Kind = "suit-report"
	KindClaims   Kind = "eat-claims"
	KindBundle   Kind = "eat-bundle"
	KindKey      Kind = "cose-key"
	KindKeySet   Kind = "cose-key-set"
	KindSign1    Kind = "cose-sign1"
	KindSign     Kind = "cose-sign"
	KindMac0     Kind = "cose-mac0"
	KindMac      Kind = "cose-mac"
	KindEncrypt0 Kind = "cose-encrypt0"
	KindEncrypt  Kind = "cose-encrypt"
	// KindCertificate is an X.509 certificate in a COSE header.
	KindCertificate Kind = "x509-certificate"
	KindCBOR        Kind = "cbor"
	KindUnreadable  Kind = "unreadable"
)

// Title names the kind in a sentence.
func (k Kind) Title() string {
	switch k {
	case KindTEEP:
		return "TEEP message"
	case KindEnvelope:
		return "SUIT_Envelope"
	case KindManifest:
		return "SUIT_Manifest"
	case KindReport:
		return "SUIT_Report"
	case KindClaims:
		return "EAT claims set"
	case KindBundle:
		return "Detached EAT Bundle"
	case KindKey:
		return "COSE_Key"
	case KindKeySet:
		return "COSE_KeySet"
	case KindSign1:
		return "COSE_Sign1"
	case KindSign:
		return "COSE_Sign"
	case KindMac0:
		return "COSE_Mac0"
	case KindMac:
		return "COSE_Mac"
	case KindEncrypt0:
		return "COSE_Encrypt0"
	case KindEncrypt:
		return "COSE_Encrypt"
	case KindCertificate:
		return "X.509 certificate"
	case KindUnreadable:
		return "not CBOR"
	}
	return "CBOR data item"
}

// IsCOSE tells whether the kind is a COSE message.
func (k Kind) IsCOSE() bool {
	switch k {
	case KindSign1, KindSign, KindMac0, KindMac, KindEncrypt0, KindEncrypt:
		return true
	}
	return false
}

// Tags that say what they hold, beside those of package cose.
const (
	tagMac      = 97
	tagCWT      = 61
	tagEnvelope = 107
	tagBundle   = 602
	tagManifest = 1070
)

var tagKinds = map[uint64]Kind{
	cose.TagSign1: KindSign1, cose.TagSign: KindSign, cose.TagMac0: KindMac0, tagMac: KindMac,
	cose.TagEncrypt0: KindEncrypt0, cose.TagEncrypt: KindEncrypt,
	tagEnvelope: KindEnvelope, tagManifest: KindManifest, tagBundle: KindBundle,
}

// kindOf tells what an item is by its tag and, without one, by its form. A tag around something
// of an obvious other form loses: the form is what can be shown.
func kindOf(it *item) Kind {
	switch it.major {
	case majorTag:
		inner := kindOf(&it.kids[0])
		k, known := tagKinds[it.arg]
		if !known || (inner != KindCBOR && k.IsCOSE() != inner.IsCOSE()) {
			return inner
		}
		return k
	case majorArray:
		return kindOfArray(it)
	case majorMap:
		return kindOfMap(it)
	}
	return KindCBOR
}

func kindOfArray(it *item) Kind {
	n := len(it.kids)
	switch {
	case n >= 3 && n <= 5 && it.kids[0].is(majorBytes) && it.kids[1].is(majorMap) && isPayload(&it.kids[2]):
		return kindOfCOSE(it)
	case n >= 2 && n <= 5 && it.kids[0].is(majorUint) && it.kids[1].is(majorMap):
		return KindTEEP
	case n == 2 && it.kids[0].is(majorBytes) && it.kids[1].is(majorMap) && wrapsToken(&it.kids[0]):
		return KindBundle
	}
	for i := range it.kids {
		if kindOf(&it.kids[i]) != KindKey {
			return KindCBOR
		}
	}
	if n == 0 {
		return KindCBOR
	}
	return KindKeySet
}

func isPayload(it *item) bool { return it.is(majorBytes) || it.isNull() }

func wrapsToken(it *item) bool {
	token, err := parse(it.content)
	return err == nil && kindOf(&token).IsCOSE()
}

// kindOfCOSE tells untagged COSE messages apart: by their length and, where that leaves two, by
// the algorithm.
func kindOfCOSE(it *item) Kind {
	alg := headerAlgorithm(it)
	switch n := len(it.kids); {
	case n == 3:
		return KindEncrypt0
	case n == 5:
		return KindMac
	case it.kids[3].is(majorArray) && alg.KeySize() > 0:
		return KindEncrypt
	case it.kids[3].is(majorArray):
		return KindSign
	case alg == cose.AlgHMAC256:
		return KindMac0
	}
	return KindSign1
}

// headerAlgorithm reads alg from a COSE message or one of its layers, the protected header first;
// 0 if there is none.
func headerAlgorithm(layer *item) cose.Algorithm {
	layer = layer.untag()
	if !layer.is(majorArray) || len(layer.kids) < 2 {
		return 0
	}
	header, err := parse(layer.kids[0].content)
	if err != nil {
		header = item{}
	}
	for _, h := range []*item{&header, &layer.kids[1]} {
		if v := h.value(cose.LabelAlgorithm); v != nil {
			alg, _ := v.int64()
			return cose.Algorithm(alg)
		}
	}
	return 0
}

// Labels that tell maps apart.
const (
	reportReference = 99
	reportRecords   = 3
	reportResult    = 4
	claimNonce      = 10
	claimUEID       = 256
	claimProfile    = 265
	claimSubmods    = 266
)

func kindOfMap(it *item) Kind {
	has := func(label int64, majors ...byte) bool { return it.value(label).is(majors...) }
	switch {
	case has(reportReference, majorArray), has(reportRecords, majorArray) && it.value(reportResult) != nil:
		return KindReport
	case has(2, majorBytes) && has(3, majorBytes) && it.value(keyType) == nil:
		return KindEnvelope
	case has(1, majorUint) && has(2, majorUint) && has(3, majorBytes):
		return KindManifest
	case has(claimProfile, majorText), has(claimUEID, majorBytes), has(claimSubmods, majorMap),
		has(claimNonce, majorBytes, majorArray):
		return KindClaims
	case has(keyType, majorUint) && (secretKeyType(it) != 0 || it.value(keyCurve) != nil):
		return KindKey
	}
	return KindCBOR
}

// messageType returns the type of a TEEP message.
func messageType(it *item) teep.MessageType {
	it = it.untag()
	if !it.is(majorArray) || len(it.kids) == 0 || !it.kids[0].is(majorUint) {
		return 0
	}
	return teep.MessageType(it.kids[0].arg)
}
