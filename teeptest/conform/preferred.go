package conform

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/internal/cbor"
)

func cborText(s string) ([]byte, error) { return cbor.Marshal(s) }

// preferred checks that an item has definite lengths, heads as short as can be, and no tags
// (TEEP §5). It looks into byte strings as little as CBOR does.
func preferred(b []byte) error {
	if err := cbor.Wellformed(b); err != nil {
		return err
	}
	for len(b) > 0 {
		major, info := b[0]>>5, b[0]&0x1f
		if info == 31 {
			return errors.New("indefinite length")
		}
		rest, n := body(b)
		size := len(b) - len(rest)
		switch {
		case major == 6:
			return fmt.Errorf("tag %d", n)
		case major != 7 && size != len(head(0, n)):
			return fmt.Errorf("the number %d in %d bytes", n, size)
		}
		if major == 2 || major == 3 {
			rest = rest[n:]
		}
		b = rest
	}
	return nil
}
