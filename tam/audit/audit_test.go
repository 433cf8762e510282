package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/audit"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)

// memory is a log in memory.
type memory []audit.Entry

func (m memory) AuditEntries(_ context.Context, after int64, limit int) ([]audit.Entry, error) {
	if after >= int64(len(m)) {
		return nil, nil
	}
	rest := m[after:]
	return rest[:min(limit, len(rest))], nil
}

func (m memory) AuditHead(context.Context) (audit.Head, error) {
	if len(m) == 0 {
		return audit.Head{}, nil
	}
	return m[len(m)-1].Head(), nil
}

func chain(t testing.TB, n int) memory {
	t.Helper()
	var m memory
	var head audit.Head
	ctx := audit.WithActor(context.Background(), audit.Actor{Via: "api", ID: "0123", Name: "<b>ops</b> \u2028 \x00\xff"})
	for i := range n {
		e := audit.New(ctx, start.Add(time.Duration(i)*time.Minute), audit.ActionVersionPublish, fmt.Sprintf("'a'/%d", i), "first")
		if err := e.Seal(head); err != nil {
			t.Fatal(err)
		}
		head = e.Head()
		m = append(m, e)
	}
	return m
}

func export(t testing.TB, m memory, after int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := audit.Export(context.Background(), m, after, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExportVerifies(t *testing.T) {
	m := chain(t, 1203) // more than two pages
	other, late := audit.Head{Seq: 600, Hash: m[5].Hash}, audit.Head{Seq: 5000}
	r, err := audit.Verify(bytes.NewReader(export(t, m, 0)), m[0].Head(), other, m[600].Head(), late, m[1202].Head())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete() || r.Entries != 1203 || r.Head != m[1202].Head() || !slices.Equal(r.Missing, []audit.Head{other, late}) {
		t.Fatalf("%+v", r)
	}
	r, err = audit.Verify(bytes.NewReader(export(t, m, 1000)))
	if err != nil || r.Complete() || r.First != 1001 {
		t.Fatalf("a later piece: %+v, %v", r, err)
	}
	if r, err = audit.Verify(strings.NewReader("")); err != nil || r.Entries != 0 {
		t.Fatalf("nothing: %+v, %v", r, err)
	}
}

// endless is a log that makes its entries while they are read, so that it takes no memory itself.
type endless struct {
	end  audit.Head
	next audit.Head
}

func (l *endless) AuditHead(context.Context) (audit.Head, error) { return l.end, nil }

func (l *endless) AuditEntries(ctx context.Context, after int64, limit int) (page []audit.Entry, err error) {
	if after != l.next.Seq {
		return nil, fmt.Errorf("asked for what follows %d, not %d", after, l.next.Seq)
	}
	if limit > 1000 {
		return nil, fmt.Errorf("asked for %d entries at once", limit)
	}
	for ; limit > 0 && (l.end.Seq == 0 || l.next.Seq < l.end.Seq); limit-- {
		e := audit.New(ctx, start, audit.ActionPolicySet, "'a'", "required for all devices")
		if err := e.Seal(l.next); err != nil {
			return nil, err
		}
		l.next = e.Head()
		page = append(page, e)
	}
	return page, nil
}

// TestLongLogsTakeNoMemory: exporting asks for pages, and what verifying has found is no larger for many entries.
func TestLongLogsTakeNoMemory(t *testing.T) {
	const n = 20_000
	var l endless
	for l.next.Seq < n {
		if _, err := l.AuditEntries(t.Context(), l.next.Seq, min(500, n-int(l.next.Seq))); err != nil {
			t.Fatal(err)
		}
	}
	log, noted := &endless{end: l.next}, l.next
	read, write := io.Pipe()
	go func() { write.CloseWithError(audit.Export(t.Context(), log, 0, write)) }()
	before := liveHeap()
	report, err := audit.Verify(read, noted)
	after := liveHeap()
	if err != nil || report.Entries != n || len(report.Missing) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if grown := after - before; grown > 256<<10 { // a hash of each would be 640 KiB
		t.Errorf("%d entries take %d bytes", n, grown)
	}
	runtime.KeepAlive(report)
}

func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestTamperedExport changes an export in every way that matters.
func TestTamperedExport(t *testing.T) {
	lines := strings.SplitAfter(strings.TrimSpace(string(export(t, chain(t, 5), 0))), "\n")
	lines[4] += "\n"
	with := func(i int, f func(*audit.Entry)) []string {
		var e audit.Entry
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		changed := append([]string(nil), lines...)
		changed[i] = string(data) + "\n"
		return changed
	}
	for name, tampered := range map[string][]string{
		"time":    with(2, func(e *audit.Entry) { e.At = e.At.Add(time.Millisecond) }),
		"finer":   with(2, func(e *audit.Entry) { e.At = e.At.Add(time.Microsecond) }),
		"via":     with(2, func(e *audit.Entry) { e.Via = "console" }),
		"id":      with(2, func(e *audit.Entry) { e.ActorID = "" }),
		"actor":   with(2, func(e *audit.Entry) { e.Actor = "nobody" }),
		"action":  with(2, func(e *audit.Entry) { e.Action = audit.ActionPolicySet }),
		"target":  with(2, func(e *audit.Entry) { e.Target += " " }),
		"detail":  with(2, func(e *audit.Entry) { e.Detail = "" }),
		"shifted": with(2, func(e *audit.Entry) { e.Target, e.Detail = e.Target+"f", "irst" }),
		"resealed": with(2, func(e *audit.Entry) { // a liar who can compute hashes, but not change what follows
			e.Detail = "nothing"
			must(t, e.Seal(audit.Head{Seq: e.Seq - 1, Hash: e.Prev}))
		}),
		"first has a predecessor": with(0, func(e *audit.Entry) { must(t, e.Seal(audit.Head{Hash: audit.Hash{1}})) }),
		"removed":                 {lines[0], lines[1], lines[3], lines[4]},
		"swapped":                 {lines[0], lines[2], lines[1], lines[3], lines[4]},
		"twice":                   {lines[0], lines[1], lines[1], lines[2]},
		"half a line":             {lines[0], lines[1][:40]},
		"not JSON":                {lines[0], "-- end --\n"},
		"two in a line":           {strings.TrimSpace(lines[0]) + lines[1]},
		"unknown member":          {strings.Replace(lines[0], "{", `{"approved":true,`, 1)},
		"endless line":            {strings.Repeat("x", 1<<17)},
		"member in other letters": {strings.Replace(lines[0], "{", `{"Detail":"approved",`, 1)},
		"member twice":            {strings.Replace(lines[0], "{", `{"detail":"approved",`, 1)},
		"member twice behind":     {strings.Replace(lines[0], "}", `,"hash":"`+strings.Repeat("0", 64)+`"}`, 1)},
		"member is missing":       {strings.Replace(lines[0], `"via":"api",`, "", 1)},
		"member has members":      {strings.Replace(lines[0], `"detail":"first"`, `"detail":{"first":1}`, 1)},
		"list":                    {"[" + strings.TrimSpace(lines[0]) + "]\n"},
	} {
		if _, err := audit.Verify(strings.NewReader(strings.Join(tampered, ""))); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestActor(t *testing.T) {
	if a := audit.ActorOf(t.Context()); a.Via != "tam" {
		t.Errorf("nobody acts as %+v", a)
	}
	e := audit.New(t.Context(), start, audit.ActionTokenCreate, strings.Repeat("é", 4000), "\x00")
	if len(e.Target) > 2010 || strings.Contains(e.Detail, "\x00") {
		t.Errorf("texts are not bounded and clean: %d bytes, %q", len(e.Target), e.Detail)
	}
}

// FuzzVerify: whatever is read, Verify does not crash, and what it accepts has the head that it reports.
func FuzzVerify(f *testing.F) {
	f.Add(export(f, chain(f, 3), 0))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := audit.Verify(bytes.NewReader(data))
		if err != nil {
			return
		}
		if again, err := audit.Verify(bytes.NewReader(data), r.Head); err != nil || r.Entries > 0 && len(again.Missing) > 0 {
			t.Fatalf("its own head is not in it: %v", err)
		}
	})
}
