package distribute

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit"
)

// UsesKey finds out before any device does whether a developer's manifest would use a key that comes from outside,
// and use it right: by the one copy or write that has no encryption info of its own while the payload is
// staged or installed. A device has one such key for a manifest (trust domains §template-override-encryption-info), so
// that a second copy or write would decrypt with it, too, what it does not belong to. What was severed cannot be seen
// from here.
func UsesKey(m *suit.Manifest) error {
	u := users{selected: []uint64{0}, own: map[uint64]bool{}, without: map[uint64]bool{}}
	for i := range m.Common.IndexCount() {
		u.all = append(u.all, uint64(i))
	}
	u.sequence(m.Common.SharedSequence.Commands)
	for _, label := range []suit.Label{suit.LabelPayloadFetch, suit.LabelInstall} {
		s := m.Section(label)
		if s.Severed != nil && !s.Available() {
			return nil
		}
		u.selected = []uint64{0}
		u.sequence(s.Commands)
	}
	switch {
	case len(u.without) > 1:
		return fmt.Errorf("distribute: %d components of the developer's manifest are copied or written while it installs, and all of them "+
			"would be decrypted with the one key that a device gets for it: describe each encrypted payload in a manifest of "+
			"its own, with nothing else that is copied or written, and one manifest that depends on them", len(u.without))
	case len(u.without) == 1:
		return nil
	case len(u.own) > 0:
		return errors.New("distribute: the developer's manifest sets encryption-info itself, and what it sets wins: " +
			"have it made with info: separate")
	}
	return errors.New("distribute: the developer's manifest neither copies nor writes while it installs, so no key would be used: " +
		"a payload is fetched as ciphertext and decrypted by a copy (firmware encryption §directive-copy)")
}

// users follows which components are selected, as far as the commands say.
type users struct {
	all, selected []uint64
	// own have encryption info that the manifest sets; without it are those that are copied or written.
	own, without map[uint64]bool
}

func (u *users) sequence(commands suit.Sequence) {
	for i := range commands {
		u.command(&commands[i])
	}
}

func (u *users) command(c *suit.Command) {
	switch c.Code {
	case suit.DirSetComponentIndex:
		if u.selected = c.Index.Indexes; c.Index.All {
			u.selected = u.all
		}
	case suit.DirOverrideParameters, suit.DirSetParameters:
		if c.Parameters.Has(suit.ParamEncryptionInfo) {
			u.have(u.selected)
		}
	case suit.DirOverrideMultiple:
		for _, e := range c.Multiple {
			if e.Parameters.Has(suit.ParamEncryptionInfo) {
				u.have([]uint64{e.Index})
			}
		}
	case suit.DirCopyParams:
		for _, e := range c.Copies {
			if u.own[e.Source] && slices.Contains(e.Labels, suit.ParamEncryptionInfo) {
				u.have(u.selected)
			}
		}
	case suit.DirCopy, suit.DirWrite:
		for _, index := range u.selected {
			if !u.own[index] {
				u.without[index] = true
			}
		}
	}
	for _, nested := range c.Sequences {
		u.sequence(nested)
	}
}

func (u *users) have(indexes []uint64) {
	for _, index := range indexes {
		u.own[index] = true
	}
}
