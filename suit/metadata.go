package suit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep/suit/internal/scan"
)

// ComponentMetadata is file metadata of a component (update management §5.6), applied when it is
// fetched, copied or written. Nil members are absent.
//
//	SUIT_Component_Metadata = {
//	  ? suit-meta-default-permissions => SUIT_meta_permissions,
//	  ? suit-meta-user-permissions => SUIT_meta_permission_map,
//	  ? suit-meta-group-permissions => SUIT_meta_permission_map,
//	  ? suit-meta-role-permissions => SUIT_meta_permission_map,
//	  ? suit-meta-file-type => SUIT_Filetype,
//	  ? suit-meta-modification-time => #6.1(uint),
//	  ? suit-meta-creation-time => #6.1(uint),
//	  ? suit-meta-creator => SUIT_meta_actor_id,
//	}
type ComponentMetadata struct {
	DefaultPermissions *uint64           // bits of SUIT_meta_permission_bits
	UserPermissions    []ActorPermission // ordered by the encoding of the actor
	GroupPermissions   []ActorPermission
	RolePermissions    []ActorPermission
	FileType           FileType // zero: not said, which means regular
	ModificationTime   *uint64  // seconds since 1970-01-01 UTC
	CreationTime       *uint64  // seconds since 1970-01-01 UTC
	Creator            ActorID
}

// FileType is SUIT_Filetype.
type FileType uint64

// The file types.
const (
	FileRegular   FileType = 1
	FileDirectory FileType = 2
	FileSymlink   FileType = 3
)

// ActorID is SUIT_meta_actor_id in its encoding: a UUID under tag 37, bytes, text, or an integer.
type ActorID []byte

// ActorPermission gives one actor its permission bits.
type ActorPermission struct {
	Actor       ActorID
	Permissions uint64
}

const (
	tagUUID      = 37
	tagEpochTime = 1
	metaMembers  = 8
)

func (m *ComponentMetadata) permissions(label int64) *[]ActorPermission {
	switch label {
	case 2:
		return &m.UserPermissions
	case 3:
		return &m.GroupPermissions
	case 4:
		return &m.RolePermissions
	}
	return nil
}

func (m *ComponentMetadata) time(label int64) **uint64 {
	switch label {
	case 6:
		return &m.ModificationTime
	case 7:
		return &m.CreationTime
	}
	return nil
}

func readMetadata(r *scan.Reader) (ComponentMetadata, error) {
	var m ComponentMetadata
	n, err := r.Map()
	if err != nil {
		return m, err
	}
	var seen labelSet
	for range n {
		label, err := seen.read(r)
		if err != nil {
			return m, err
		}
		if err := m.readMember(r, label); err != nil {
			return m, at(err, fmt.Sprintf("component-metadata %d", label))
		}
	}
	return m, nil
}

func (m *ComponentMetadata) readMember(r *scan.Reader, label int64) (err error) {
	if list := m.permissions(label); list != nil {
		*list, err = readPermissions(r)
		return err
	}
	if p := m.time(label); p != nil {
		tag, err := r.Tag()
		if err != nil {
			return err
		}
		if tag != tagEpochTime {
			return fmt.Errorf("tag %d: time needs tag 1", tag)
		}
		v, err := r.Uint()
		*p = &v
		return err
	}
	switch label {
	case 1:
		v, err := r.Uint()
		m.DefaultPermissions = &v
		return err
	case 5:
		v, err := r.Uint()
		if err == nil && (v < uint64(FileRegular) || v > uint64(FileSymlink)) {
			err = fmt.Errorf("file type %d is not defined: 1 to 3 are", v)
		}
		m.FileType = FileType(v)
		return err
	case 8:
		m.Creator, err = readActor(r)
		return err
	}
	return fault(ReasonParameterUnsupported, errors.New("unknown member"))
}

func readPermissions(r *scan.Reader) ([]ActorPermission, error) {
	n, err := r.Map()
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("permission map is empty")
	}
	list := make([]ActorPermission, n)
	var keys scan.Keys
	for i := range list {
		if list[i].Actor, err = readActor(r); err != nil {
			return nil, err
		}
		if err := keys.Add(list[i].Actor); err != nil {
			return nil, err
		}
		if list[i].Permissions, err = r.Uint(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// readActor returns the shortest encoding of a SUIT_meta_actor_id.
func readActor(r *scan.Reader) (ActorID, error) {
	start := r.Pos()
	switch r.Peek() {
	case scan.Tag:
		tag, err := r.Tag()
		if err != nil {
			return nil, err
		}
		if tag != tagUUID {
			return nil, fmt.Errorf("tag %d: an actor may be a UUID (37), bytes, text or an integer", tag)
		}
		u, err := r.Bytes()
		if err == nil && len(u) != len(UUID{}) {
			err = fmt.Errorf("UUID has %d bytes, not 16", len(u))
		}
		return r.Since(start), err
	case scan.Bytes:
		_, err := r.Bytes()
		return r.Since(start), err
	case scan.Text:
		s, err := r.Text()
		if err == nil {
			err = checkDisplayText(string(s))
		}
		return r.Since(start), err
	}
	v, err := r.Int()
	return appendInt(nil, v), err
}

func (m *ComponentMetadata) appendCBOR(b []byte) []byte {
	var pairs []byte
	n := uint64(0)
	for label := int64(1); label <= metaMembers; label++ {
		before := len(pairs)
		pairs = m.appendMember(pairs, label)
		if len(pairs) > before {
			n++
		}
	}
	return append(scan.AppendHead(b, byte(scan.Map), n), pairs...)
}

func (m *ComponentMetadata) appendMember(b []byte, label int64) []byte {
	if list := m.permissions(label); list != nil && len(*list) > 0 {
		return appendPermissions(appendInt(b, label), *list)
	}
	if p := m.time(label); p != nil && *p != nil {
		return appendUint(append(appendInt(b, label), 0xc0|tagEpochTime), **p)
	}
	switch {
	case label == 1 && m.DefaultPermissions != nil:
		return appendUint(appendInt(b, label), *m.DefaultPermissions)
	case label == 5 && m.FileType != 0:
		return appendUint(appendInt(b, label), uint64(m.FileType))
	case label == 8 && m.Creator != nil:
		return append(appendInt(b, label), m.Creator...)
	}
	return b
}

func appendPermissions(b []byte, list []ActorPermission) []byte {
	sorted := append([]ActorPermission(nil), list...)
	slices.SortFunc(sorted, func(x, y ActorPermission) int { return bytes.Compare(x.Actor, y.Actor) })
	b = scan.AppendHead(b, byte(scan.Map), uint64(len(sorted)))
	for _, p := range sorted {
		b = appendUint(append(b, p.Actor...), p.Permissions)
	}
	return b
}
