package inspect

import "bytes"

// Labels and key types of COSE_Key (RFC 9052 §7, RFC 9053 §7).
const (
	keyType       = 1
	keyCurve      = -1 // OKP, EC2
	keyPrivate    = -4 // d of OKP, EC2
	keySecret     = -1 // k of Symmetric
	keyAKPPrivate = -2 // priv of AKP
	keyRSAPrivate = -3 // d of RSA, and everything below: primes, exponents, coefficient

	ktyOKP       = 1
	ktyEC2       = 2
	ktyRSA       = 3
	ktySymmetric = 4
	ktyAKP       = 7
)

// What is shown in place of key material.
const (
	hiddenPrivate   = "private key, not shown"
	hiddenSymmetric = "symmetric key, not shown"
)

// redact replaces the private and symmetric keys in data, however deeply byte strings wrap them,
// by a text that says so. Data without any is returned as it is. The walk looks for keys by their
// form, not by where they are expected: a key in the wrong place must not be shown either.
func redact(data []byte) []byte {
	if out, changed := redactData(data, 0); changed {
		return out
	}
	return data
}

func redactData(data []byte, depth int) ([]byte, bool) {
	it, err := parse(data)
	if err != nil || depth > maxDepth {
		return nil, false
	}
	return redactItem(nil, &it, depth)
}

// redactItem appends the item to b, and tells whether it differs from what it was.
func redactItem(b []byte, it *item, depth int) ([]byte, bool) {
	switch it.major {
	case majorBytes:
		if inner, ok := redactWrapped(it, depth); ok {
			return append(appendHead(b, majorBytes, uint64(len(inner))), inner...), true
		}
	case majorArray, majorMap, majorTag:
		return redactKids(b, it, depth)
	}
	return append(b, it.raw...), false
}

// redactWrapped opens byte strings that may hold a key: whatever is exactly one item with a map
// somewhere. Chunks of an indefinite-length string are joined, or a key could hide between them.
func redactWrapped(it *item, depth int) ([]byte, bool) {
	content := it.content
	if it.indefinite {
		var joined bytes.Buffer
		for i := range it.kids {
			joined.Write(it.kids[i].content)
		}
		content = joined.Bytes()
	}
	if len(content) == 0 || content[0]>>5 < majorBytes || content[0]>>5 == majorText {
		return nil, false
	}
	return redactData(content, depth+1)
}

func redactKids(b []byte, it *item, depth int) ([]byte, bool) {
	start := len(b)
	n := uint64(len(it.kids))
	if it.major == majorMap {
		n /= 2
	}
	if it.major == majorTag {
		n = it.arg
	}
	b = appendHead(b, it.major, n)
	changed := false
	for i := range it.kids {
		kid := &it.kids[i]
		if it.major == majorMap && i%2 == 1 {
			if text := hiddenMember(it, &it.kids[i-1], kid); text != "" {
				b = append(appendHead(b, majorText, uint64(len(text))), text...)
				changed = true
				continue
			}
		}
		var c bool
		b, c = redactItem(b, kid, depth)
		changed = changed || c
	}
	if !changed {
		return append(b[:start], it.raw...), false
	}
	return b, true
}

// hiddenMember returns what to show instead of a member of a map that holds key material, or "".
func hiddenMember(m, key, value *item) string {
	label, ok := key.int64()
	if !ok || label >= 0 || !value.is(majorBytes) {
		return ""
	}
	switch kty := secretKeyType(m); {
	case kty == ktySymmetric && label == keySecret:
		return hiddenSymmetric
	case (kty == ktyOKP || kty == ktyEC2) && label == keyPrivate,
		kty == ktyAKP && label == keyAKPPrivate,
		kty == ktyRSA && label <= keyRSAPrivate:
		return hiddenPrivate
	}
	return ""
}

// secretKeyType returns the key type of a map that has the form of a COSE_Key with secret parts,
// or 0.
func secretKeyType(m *item) int64 {
	kty, ok := int64(0), false
	if v := m.value(keyType); v != nil {
		kty, ok = v.int64()
	}
	if !ok {
		return 0
	}
	secret := map[int64]int64{ktyOKP: keyPrivate, ktyEC2: keyPrivate, ktyRSA: keyRSAPrivate,
		ktySymmetric: keySecret, ktyAKP: keyAKPPrivate}[kty]
	if secret == 0 || !m.value(secret).is(majorBytes) {
		return 0
	}
	return kty
}
