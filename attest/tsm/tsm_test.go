package tsm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/go-teep/teep/attest/bound"
	"github.com/go-teep/teep/attest/tsm"
)

// kernel is configfs with a report provider of that name.
func kernel(provider *atomic.Pointer[string]) *faketsm.Client {
	sub := faketsm.ReportV7(0)
	read := sub.ReadAttr
	sub.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		if attr == "provider" {
			return []byte(*provider.Load() + "\n"), nil
		}
		return read(e, attr)
	}
	return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": sub}}
}

func named(name string) *atomic.Pointer[string] {
	p := &atomic.Pointer[string]{}
	p.Store(&name)
	return p
}

func TestReport(t *testing.T) {
	b := bound.Bind([]byte("claims"))
	for provider, c := range map[string]struct {
		mediaType string
		after     string
	}{
		"sev_guest": {bound.SEVSNPReport, "auxblob"},
		"tdx_guest": {bound.TDXQuote, ""},
	} {
		r, err := tsm.New(kernel(named(provider)))
		if err != nil {
			t.Fatal(err)
		}
		if r.MediaType() != c.mediaType {
			t.Errorf("%s reports as %s", provider, r.MediaType())
		}
		got, err := r.Report(context.Background(), b)
		if err != nil || !bytes.Contains(got, []byte(hex.EncodeToString(b[:])+c.after)) || bytes.HasSuffix(got, []byte("auxblob")) != (c.after != "") {
			t.Errorf("%s: %q, %v", provider, got, err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	if r, err := tsm.New(kernel(named("arm_cca_guest"))); !errors.Is(err, tsm.ErrUnavailable) {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := tsm.New(&faketsm.Client{}); !errors.Is(err, tsm.ErrUnavailable) {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := os.Stat(configfsi.TsmPrefix); err == nil {
		t.Skip("this machine is a confidential guest")
	}
	if r, err := tsm.Open(); !errors.Is(err, tsm.ErrUnavailable) {
		t.Errorf("%v, %v", r, err)
	}
}

// TestProviderChanges: what was attested as one kind is not handed out as another.
func TestProviderChanges(t *testing.T) {
	provider := named("sev_guest")
	r, err := tsm.New(kernel(provider))
	if err != nil {
		t.Fatal(err)
	}
	other := "tdx_guest"
	provider.Store(&other)
	if got, err := r.Report(context.Background(), bound.Binding{}); err == nil {
		t.Errorf("%x", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Report(ctx, bound.Binding{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestRelayRefuses: what the other end says is bounded and told apart.
func TestRelayRefuses(t *testing.T) {
	frame := func(kind byte, size uint32, text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, size), text...)
	}
	greeting := frame(0, uint32(len(bound.SEVSNPReport)), bound.SEVSNPReport)
	for name, c := range map[string]struct {
		greeting, answer []byte
		text             string
	}{
		"unknown kind":   {frame(0, 5, "hello"), nil, "not known"},
		"cut greeting":   {frame(0, 50, "hello"), nil, "EOF"},
		"huge greeting":  {frame(0, 1<<31, ""), nil, "at most"},
		"an error":       {greeting, frame(1, 4, "busy"), "busy"},
		"cut answer":     {greeting, frame(0, 5, "repo"), "EOF"},
		"a huge answer":  {greeting, frame(0, 1<<30, ""), "at most"},
		"nothing at all": {greeting, nil, "closed pipe"},
	} {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			_, err := theirs.Write(c.greeting)
			if err != nil || c.answer == nil {
				return
			}
			var b bound.Binding
			if _, err = io.ReadFull(theirs, b[:]); err == nil {
				_, _ = theirs.Write(c.answer)
			}
		}()
		r, err := tsm.NewRelay(ours)
		if err == nil {
			_, err = r.Report(t.Context(), bound.Binding{})
		}
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
		_ = ours.Close()
	}
}
