package tpm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Constants of the event log (TCG PC Client Platform Firmware Profile §10).
const (
	algSHA256    = 0x000b
	evNoAction   = 0x00000003
	maxEvents    = 4096
	maxEventData = 128 << 10
	maxBanks     = 8
)

// startupLocality begins the data of the one event that says where PCR 0 started; a byte with the locality
// follows (TCG_EfiStartupLocalityEvent, §10.4.5.3).
const startupLocality = "StartupLocality\x00"

// Event is one entry of an event log that was extended into a PCR; or, with the type EV_NO_ACTION and
// the locality as its only data, what the TPM was started with.
type Event struct {
	PCR    int
	Type   uint32
	Digest [sha256.Size]byte // of the SHA-256 bank
	Data   []byte            // what the firmware says that it measured; the PCR vouches for the digest only
}

// logReader reads little-endian fields; after an error it reads zeros.
type logReader struct {
	data []byte
	err  error
}

func (r *logReader) take(n int) []byte {
	if r.err == nil && n > len(r.data) {
		r.err = fmt.Errorf("it ends where %d more bytes were expected", n)
	}
	if r.err != nil {
		return nil
	}
	head := r.data[:n]
	r.data = r.data[n:]
	return head
}

func (r *logReader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *logReader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// ParseEventLog reads a crypto-agile event log, as Linux has it in
// /sys/kernel/security/tpm0/binary_bios_measurements. Events that were not extended are left out, but for
// the locality at which the TPM was started.
func ParseEventLog(data []byte) ([]Event, error) {
	r := &logReader{data: data}
	sizes, err := parseSpecID(r)
	if err != nil {
		return nil, malformed(fmt.Errorf("event log: %w", err))
	}
	var events []Event
	measured := false // something into PCR 0
	for len(r.data) > 0 {
		e, err := parseEvent(r, sizes)
		if err != nil {
			return nil, malformed(fmt.Errorf("event log: entry %d: %w", len(events)+1, err))
		}
		if e.Type == evNoAction {
			locality, is := strings.CutPrefix(string(e.Data), startupLocality)
			if e.PCR != 0 || !is {
				continue
			}
			if measured || len(locality) != 1 || !slices.Contains([]byte{0, 3, 4}, locality[0]) {
				return nil, malformed(fmt.Errorf("event log: entry %d: a locality %x, which is none of 0, 3 and 4, comes late, or is not the first", len(events)+1, locality))
			}
			e.Data = []byte(locality)
		}
		measured = measured || e.PCR == 0
		if events = append(events, *e); len(events) > maxEvents {
			return nil, malformed(fmt.Errorf("event log: more than %d events", maxEvents))
		}
	}
	return events, nil
}

// parseSpecID reads the first entry, in the old format, which says how long each bank's digests are.
//
//	TCG_PCR_EVENT = pcr[4] type[4] sha1[20] size[4] TCG_EfiSpecIDEvent
//	TCG_EfiSpecIDEvent = signature[16] class[4] minor[1] major[1] errata[1] uintn[1] n[4] n*( alg[2] size[2] ) len[1] vendor[len]
func parseSpecID(r *logReader) (map[uint16]int, error) {
	r.take(4)
	kind := r.u32()
	r.take(20)
	size := r.u32()
	if r.err == nil && (kind != evNoAction || size > maxEventData) {
		return nil, errors.New("it does not start with a Spec ID event: only crypto-agile logs are read")
	}
	body := &logReader{data: r.take(int(size)), err: r.err}
	if string(body.take(16)) != "Spec ID Event03\x00" {
		return nil, errors.New("it does not start with a Spec ID event of version 3")
	}
	body.take(8)
	banks := body.u32()
	if body.err != nil || banks == 0 || banks > maxBanks {
		return nil, fmt.Errorf("it has %d banks, 1 to %d are possible", banks, maxBanks)
	}
	sizes := map[uint16]int{}
	for range banks {
		alg := body.u16()
		sizes[alg] = int(body.u16())
	}
	if body.err == nil && sizes[algSHA256] != sha256.Size {
		return nil, errors.New("it has no SHA-256 bank")
	}
	return sizes, body.err
}

// parseEvent reads TCG_PCR_EVENT2.
//
//	pcr[4] type[4] n[4] n*( alg[2] digest ) size[4] event[size]
func parseEvent(r *logReader, sizes map[uint16]int) (*Event, error) {
	e := &Event{PCR: int(r.u32()), Type: r.u32()}
	n := r.u32()
	if r.err == nil && (n == 0 || int64(n) > int64(len(sizes))) {
		return nil, fmt.Errorf("it has %d digests of %d banks", n, len(sizes))
	}
	found := false
	for range n {
		alg := r.u16()
		size, ok := sizes[alg]
		if r.err == nil && !ok {
			return nil, fmt.Errorf("a digest of the bank %#x, which the log does not have", alg)
		}
		digest := r.take(size)
		if alg == algSHA256 && digest != nil {
			copy(e.Digest[:], digest)
			found = true
		}
	}
	size := r.u32()
	if r.err == nil && size > maxEventData {
		return nil, fmt.Errorf("event data of %d bytes, at most %d are read", size, maxEventData)
	}
	e.Data = r.take(int(size))
	switch {
	case r.err != nil:
		return nil, r.err
	case !found:
		return nil, errors.New("it has no SHA-256 digest")
	case e.PCR >= MaxPCRs && e.Type != evNoAction:
		return nil, fmt.Errorf("PCR %d does not exist", e.PCR)
	}
	return e, nil
}

// Replay extends the events into PCRs as the TPM did. PCRs 0 to 16 start at zero (PC Client
// Platform TPM Profile §4.6), PCR 0 at the locality at which the TPM was started; later ones are reset
// at run time, so a log does not tell their value.
func Replay(events []Event) map[int][]byte {
	pcrs := map[int][]byte{}
	for _, e := range events {
		if e.PCR > 16 {
			continue
		}
		if e.Type == evNoAction {
			start := make([]byte, sha256.Size)
			copy(start[sha256.Size-len(e.Data):], e.Data)
			pcrs[e.PCR] = start
			continue
		}
		old, ok := pcrs[e.PCR]
		if !ok {
			old = make([]byte, sha256.Size)
		}
		sum := sha256.Sum256(append(append([]byte(nil), old...), e.Digest[:]...))
		pcrs[e.PCR] = sum[:]
	}
	return pcrs
}
