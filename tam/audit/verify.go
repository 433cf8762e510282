package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// ErrBroken says that an export is not an unbroken piece of a chain. The text says where and how.
var ErrBroken = errors.New("audit: the chain is broken")

// Report is what was found in an export whose chain holds.
type Report struct {
	// First and Head are the first and the newest entry; Head is zero in an empty export.
	First int64
	Head  Head
	// Entries counts them.
	Entries int
	// Begin and End are the times of the first and the newest entry.
	Begin, End time.Time
	// Missing are those of the noted entries that are not in the export as they were noted: it was computed
	// anew, or its end was cut off.
	Missing []Head
}

// Complete tells whether the export begins with the first entry ever.
func (r *Report) Complete() bool { return r.First == 1 }

// maxLine bounds one line of an export, in bytes: texts of an entry are bounded, and JSON may write a
// byte as six.
const maxLine = 64 << 10

// Verify reads an export and checks every hash, that each entry follows the one before it, and that no
// time runs backwards by more than a day, which clocks of replicas do not differ by. It also looks for the
// entries that someone noted earlier. It needs the same memory however long the export is.
func Verify(r io.Reader, noted ...Head) (*Report, error) {
	report := &Report{Missing: slices.Clone(noted)}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		e, err := parseLine(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%w: line %d is not an entry: %w", ErrBroken, n, err)
		}
		if err := report.follow(e); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrBroken, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return report, nil
}

func parseLine(line []byte) (*Entry, error) {
	if err := checkMembers(line); err != nil {
		return nil, err
	}
	e := new(Entry)
	if err := json.Unmarshal(line, e); err != nil {
		return nil, err
	}
	if e.At.Nanosecond()%int(time.Millisecond) != 0 {
		return nil, errors.New("its time is finer than a millisecond, which no hash covers")
	}
	return e, nil
}

// members are those of an entry.
var members = []string{"seq", "at", "via", "actorId", "actor", "action", "target", "detail", "prev", "hash"}

// checkMembers wants each member once, in its own spelling: what no hash covers must not pass as part of the
// record with a program that takes the first of two, or knows a Detail beside the detail.
func checkMembers(line []byte) error {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("it is not one JSON object"), err)
	}
	missing := slices.Clone(members)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(missing, func(m string) bool { return name == m })
		if i < 0 {
			return fmt.Errorf("its member %q is unknown, or there twice", name)
		}
		missing = slices.Delete(missing, i, i+1)
		if value, err := d.Token(); err != nil {
			return err
		} else if _, nested := value.(json.Delim); nested {
			return fmt.Errorf("its member %q is no text and no number", name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("it lacks %s", strings.Join(missing, ", "))
	}
	return nil
}

func (r *Report) follow(e *Entry) error {
	sum, err := e.sum()
	switch {
	case err != nil:
		return err
	case sum != e.Hash:
		return fmt.Errorf("entry %d was changed: its hash is %v, and %v is computed from it", e.Seq, e.Hash, sum)
	case e.Seq < 1:
		return fmt.Errorf("there is no entry %d", e.Seq)
	case e.Seq == 1 && e.Prev != Hash{}:
		return errors.New("entry 1 names an entry before it")
	}
	if r.Entries == 0 {
		r.First, r.Begin = e.Seq, e.At
	} else if e.Seq != r.Head.Seq+1 {
		return fmt.Errorf("entry %d follows entry %d: entries are missing or were moved", e.Seq, r.Head.Seq)
	} else if e.Prev != r.Head.Hash {
		return fmt.Errorf("entry %d does not belong behind entry %d as it stands here", e.Seq, r.Head.Seq)
	} else if e.At.Before(r.End.Add(-24 * time.Hour)) {
		return fmt.Errorf("entry %d is older than entry %d", e.Seq, r.Head.Seq)
	}
	r.Head, r.End = e.Head(), e.At
	r.Missing = slices.DeleteFunc(r.Missing, func(h Head) bool { return h == r.Head })
	r.Entries++
	return nil
}
