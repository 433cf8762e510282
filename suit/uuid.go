package suit

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 §5.5 defines version 5 by SHA-1; nothing rests on its strength
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID is an RFC 9562 UUID, in the byte order of its text form.
type UUID [16]byte

// Namespaces of SUIT §8.4.8.1 and §8.4.8.2.
var (
	namespaceDNS = UUID{0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	namespacePEN = UUID{0x47, 0xfb, 0xda, 0xbb, 0xf2, 0xe4, 0x55, 0xf0, 0xbb, 0x39, 0x36, 0x20, 0xc2, 0xf6, 0xdf, 0x4e}
)

// NewUUIDv5 is the name-based UUID of RFC 9562 §5.5.
func NewUUIDv5(namespace UUID, name []byte) UUID {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(namespace[:])
	h.Write(name)
	u := UUID(h.Sum(nil)[:16])
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return u
}

// NewVendorID is the recommended vendor identifier of a domain name (SUIT §8.4.8.2). The name is
// used as it is: no lower-casing, no IDNA.
func NewVendorID(domain string) UUID { return NewUUIDv5(namespaceDNS, []byte(domain)) }

// NewClassID is the recommended class identifier within a vendor (SUIT §8.4.8.2). Information is
// whatever tells the vendor's classes apart, such as model and revision.
func NewClassID(vendor VendorID, information []byte) UUID {
	return NewUUIDv5(vendor.Namespace(), information)
}

// ParseUUID reads the 36-character text form, in either case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("suit: %q is not a UUID such as fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe", s)
	}
	digits := strings.ReplaceAll(s, "-", "")
	if n, err := hex.Decode(u[:], []byte(digits)); err != nil || n != len(u) {
		return UUID{}, fmt.Errorf("suit: %q is not a UUID: 32 hexadecimal digits are needed", s)
	}
	return u, nil
}

// String is the text form in lower case.
func (u UUID) String() string {
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// IsZero tells whether all bits are zero. A zero UUID matches nothing.
func (u UUID) IsZero() bool { return u == UUID{} }

// VendorID is the value of suit-parameter-vendor-identifier (SUIT §8.4.8.3): a UUID, or a private
// enterprise number as a relative object identifier.
//
//	RFC4122_UUID / cbor-pen
//	cbor-pen = #6.112(bstr)
type VendorID struct {
	// UUID is the identifier if PEN is nil.
	UUID UUID
	// PEN is the X.690 §8.20 encoding of the number, relative to 1.3.6.1.4.1.
	PEN []byte
}

// Namespace is the UUID that stands for the vendor: what a recipient compares with its own, and
// what class identifiers derive from.
func (v VendorID) Namespace() UUID {
	if v.PEN == nil {
		return v.UUID
	}
	return NewUUIDv5(namespacePEN, v.appendCBOR(nil))
}

// NewPEN is the vendor identifier of a private enterprise number.
func NewPEN(number uint32) VendorID {
	pen := []byte{byte(number & 0x7f)}
	for number >>= 7; number > 0; number >>= 7 {
		pen = append([]byte{byte(number&0x7f) | 0x80}, pen...)
	}
	return VendorID{PEN: pen}
}

func (v VendorID) appendCBOR(b []byte) []byte {
	if v.PEN == nil {
		return appendBytes(b, v.UUID[:])
	}
	return appendBytes(append(b, 0xd8, tagPEN), v.PEN)
}

const tagPEN = 112
