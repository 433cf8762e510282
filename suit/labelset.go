package suit

import (
	"errors"
	"slices"

	"github.com/go-teep/teep/suit/internal/scan"
)

// labelSet finds duplicate integer keys of one map. Registered labels fit the bit set, so that
// the common case allocates nothing.
type labelSet struct {
	small uint64
	other []int64
}

var errDuplicate = errors.New("duplicate map key")

// read reads the next key.
func (s *labelSet) read(r *scan.Reader) (int64, error) {
	label, err := r.Int()
	if err != nil {
		return 0, err
	}
	if label >= 0 && label < 64 {
		bit := uint64(1) << label
		if s.small&bit != 0 {
			return label, errDuplicate
		}
		s.small |= bit
		return label, nil
	}
	if slices.Contains(s.other, label) {
		return label, errDuplicate
	}
	if len(s.other) >= maxCustomLabels {
		return label, errors.New("too many private-use keys in one map")
	}
	s.other = append(s.other, label)
	return label, nil
}

// maxCustomLabels keeps the search for duplicates among private-use keys cheap.
const maxCustomLabels = 64
