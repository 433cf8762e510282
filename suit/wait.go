package suit

import (
	"errors"
	"fmt"

	"github.com/go-teep/teep/suit/internal/scan"
)

// WaitEvent is what suit-directive-wait waits for: every member that is there must come true
// (update management §5.5). Nil members are absent; at least one is present.
//
//	SUIT_Wait_Event = { + SUIT_Wait_Events }
type WaitEvent struct {
	Authorization      *int64              // 1: an update priority
	Power              *int64              // 2: a power state
	Network            *int64              // 3: a network state
	OtherDeviceVersion *OtherDeviceVersion // 4
	Time               *uint64             // 5: seconds since 1970-01-01 UTC
	TimeOfDay          *uint64             // 6: seconds since midnight, local time
	DayOfWeek          *uint64             // 7: days since Sunday, local time
	TimeOfDayUTC       *uint64             // 8: seconds since midnight, UTC
	DayOfWeekUTC       *uint64             // 9: days since Sunday, UTC
}

// OtherDeviceVersion waits for another device to have a version. The name space of Device is the
// deployment's (update management §5.5).
//
//	SUIT_Wait_Event_Argument_Other_Device_Version = [
//	  other-device: bstr,
//	  other-device-version: [ + SUIT_Parameter_Version_Match ]
//	]
type OtherDeviceVersion struct {
	Device  []byte
	Matches []VersionMatch
}

const (
	secondsPerDay = 24 * 60 * 60
	daysPerWeek   = 7
	waitEvents    = 9
)

// unsigned returns the members that are plain unsigned numbers, with the first value that is too
// large, or 0 for no bound.
func (w *WaitEvent) unsigned(label int64) (p **uint64, bound uint64) {
	switch label {
	case 5:
		return &w.Time, 0
	case 6:
		return &w.TimeOfDay, secondsPerDay
	case 7:
		return &w.DayOfWeek, daysPerWeek
	case 8:
		return &w.TimeOfDayUTC, secondsPerDay
	case 9:
		return &w.DayOfWeekUTC, daysPerWeek
	}
	return nil, 0
}

func (w *WaitEvent) signed(label int64) **int64 {
	switch label {
	case 1:
		return &w.Authorization
	case 2:
		return &w.Power
	case 3:
		return &w.Network
	}
	return nil
}

func readWaitEvent(r *scan.Reader) (WaitEvent, error) {
	var w WaitEvent
	n, err := r.Map()
	if err != nil {
		return w, err
	}
	if n == 0 {
		return w, errors.New("wait info names no event")
	}
	var seen labelSet
	for range n {
		label, err := seen.read(r)
		if err != nil {
			return w, err
		}
		if err := w.readMember(r, label); err != nil {
			return w, at(err, fmt.Sprintf("wait-event %d", label))
		}
	}
	return w, nil
}

func (w *WaitEvent) readMember(r *scan.Reader, label int64) error {
	if p := w.signed(label); p != nil {
		v, err := r.Int()
		*p = &v
		return err
	}
	if p, bound := w.unsigned(label); p != nil {
		v, err := r.Uint()
		if err == nil && bound > 0 && v >= bound {
			err = fmt.Errorf("%d is out of range: at most %d", v, bound-1)
		}
		*p = &v
		return err
	}
	if label != 4 {
		return fault(ReasonParameterUnsupported, errors.New("unknown wait event"))
	}
	return w.readOtherDevice(r)
}

func (w *WaitEvent) readOtherDevice(r *scan.Reader) error {
	n, err := r.Array()
	if err == nil && n != 2 {
		err = fmt.Errorf("has %d elements, needs device and versions", n)
	}
	if err != nil {
		return err
	}
	o := &OtherDeviceVersion{}
	if o.Device, err = r.Bytes(); err != nil {
		return err
	}
	n, err = r.Array()
	if err == nil && n == 0 {
		err = errors.New("names no version")
	}
	for range n {
		if err != nil {
			break
		}
		var m VersionMatch
		m, err = readVersionMatch(r)
		o.Matches = append(o.Matches, m)
	}
	w.OtherDeviceVersion = o
	return err
}

func (w *WaitEvent) appendCBOR(b []byte) []byte {
	pairs, n := []byte(nil), uint64(0)
	for label := int64(1); label <= waitEvents; label++ {
		if p := w.signed(label); p != nil && *p != nil {
			pairs, n = appendInt(appendInt(pairs, label), **p), n+1
		}
		if p, _ := w.unsigned(label); p != nil && *p != nil {
			pairs, n = appendUint(appendInt(pairs, label), **p), n+1
		}
		if o := w.OtherDeviceVersion; label == 4 && o != nil {
			pairs = appendBytes(append(appendInt(pairs, label), 0x82), o.Device)
			pairs = scan.AppendHead(pairs, byte(scan.Array), uint64(len(o.Matches)))
			for _, m := range o.Matches {
				pairs = m.appendCBOR(pairs)
			}
			n++
		}
	}
	return append(scan.AppendHead(b, byte(scan.Map), n), pairs...)
}
