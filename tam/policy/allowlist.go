package policy

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// AllowList names devices that are accepted without asking: by the SHA-256 thumbprint (RFC 9679) of the
// agent's key, or by UEID. It is immutable.
type AllowList struct {
	entries map[string]bool
}

// maxAllowList bounds a list, in bytes: some million entries.
const maxAllowList = 128 << 20

// ParseAllowList reads one entry a line: “key HEX” or “ueid HEX”, with comments after #.
func ParseAllowList(data []byte) (*AllowList, error) {
	if len(data) > maxAllowList {
		return nil, fmt.Errorf("policy: the allow-list has %d bytes: at most %d are read", len(data), maxAllowList)
	}
	l := &AllowList{entries: make(map[string]bool)}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("policy: allow-list, line %d: write “key HEX” or “ueid HEX”", n)
		}
		value, err := hex.DecodeString(fields[1])
		switch {
		case err != nil:
			return nil, fmt.Errorf("policy: allow-list, line %d: %q is not hexadecimal", n, fields[1])
		case fields[0] == "key" && len(value) == 32, fields[0] == "ueid" && len(value) >= 7 && len(value) <= 33: // RFC 9711 §4.2.1
			l.entries[fields[0]+string(value)] = true
		case fields[0] == "key" || fields[0] == "ueid":
			return nil, fmt.Errorf("policy: allow-list, line %d: a thumbprint has 32 bytes and a UEID 7 to 33, not %d", n, len(value))
		default:
			return nil, fmt.Errorf("policy: allow-list, line %d: %q is neither key nor ueid", n, fields[0])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("policy: allow-list: %w", err)
	}
	return l, nil
}

// Allows tells whether the list names a device.
func (l *AllowList) Allows(thumbprint, ueid []byte) bool {
	return l.entries["key"+string(thumbprint)] || len(ueid) > 0 && l.entries["ueid"+string(ueid)]
}

// Len is the number of entries.
func (l *AllowList) Len() int { return len(l.entries) }
