package describe_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

// large is a file that takes no memory.
type large struct{ left int64 }

func (l *large) Read(p []byte) (int, error) {
	n := min(int64(len(p)), l.left)
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	l.left -= n
	return int(n), nil
}

func (l *large) Close() error { return nil }

// onDisk is a scratch file.
type onDisk struct{ *os.File }

func (f onDisk) Open() (io.ReadCloser, error) { return os.Open(f.Name()) }

// Payloads that devices fetch are not held in memory, encrypted or not, and the manifest is the same as if
// they were.
func TestPayloadsStream(t *testing.T) {
	const size = 48 << 20
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	options := describe.Options{Rand: rand.Reader,
		ReadFile: func(name string) ([]byte, error) {
			if name != "device.pub" {
				t.Errorf("%s is read into memory", name)
			}
			return public, nil
		},
		OpenFile: func(string) (io.ReadCloser, error) { return &large{size}, nil },
		CreateScratch: func() (describe.Scratch, error) {
			f, err := os.CreateTemp(t.TempDir(), "")
			if err == nil {
				t.Cleanup(func() { _ = f.Close() })
			}
			return onDisk{f}, err
		},
	}
	for _, encrypt := range []string{"", ", encrypt: {to: [device.pub]}", ", encrypt: {to: [device.pub], algorithm: ChaCha20/Poly1305}"} {
		source := []byte(simple("components:\n  - {id: [app], payload: {file: app.bin, uri: \"https://example.com/app\"" + encrypt + "}}\n"))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := describe.Build(source, options)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
			t.Errorf("%q: %d bytes of payload took %d bytes of memory", encrypt, size, grown)
		}
		m, err := r.Envelope.UnverifiedManifest()
		if err != nil {
			t.Fatal(err)
		}
		p := r.Payloads[0]
		if p.Content != nil || p.Encrypted != (encrypt != "") || (p.Scratch != nil) != p.Encrypted {
			t.Errorf("the payload is %+v", p)
		}
		content, err := p.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		_ = content.Close()
		if err != nil {
			t.Fatal(err)
		}
		var info []byte
		matched := false
		for _, s := range []*suit.Section{&m.Common.SharedSequence, &m.Install} {
			s.Commands.Walk(func(c *suit.Command) bool {
				if i, ok := c.Parameters.EncryptionInfo(); ok {
					info = i
				}
				if d, ok := c.Parameters.Digest(); ok && d.Matches(data) {
					matched = true
				}
				return true
			})
		}
		if !matched {
			t.Errorf("%q: the digest of what is to be served is not in the manifest", encrypt)
		}
		if encrypt == "" {
			continue
		}
		plain, err := suit.DecryptPayload(info, cose.DecryptKeys{key}, bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, plain); err != nil || n != size {
			t.Errorf("%d bytes decrypt, %v", n, err)
		}
	}
}

// What goes wrong with the files has the place in the description.
func TestPayloadStreamsThatFail(t *testing.T) {
	broken := errors.New("broken")
	source := []byte(simple("components:\n  - {id: [app], payload: {file: app.bin, uri: \"https://example.com/app\", encrypt: {to: [device.pub]}}}\n"))
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	read := func(string) ([]byte, error) { return public, nil }
	opened := 0
	for name, o := range map[string]describe.Options{
		"open": {OpenFile: func(string) (io.ReadCloser, error) { return nil, broken }},
		"scratch": {OpenFile: func(string) (io.ReadCloser, error) { return &large{5}, nil },
			CreateScratch: func() (describe.Scratch, error) { return nil, broken }},
		"changed": {OpenFile: func(string) (io.ReadCloser, error) { opened++; return &large{int64(opened)}, nil },
			CreateScratch: func() (describe.Scratch, error) {
				f, err := os.CreateTemp(t.TempDir(), "")
				return onDisk{f}, err
			}},
	} {
		o.Rand, o.ReadFile = rand.Reader, read
		_, err := describe.Build(source, o)
		var at *describe.Error
		if !errors.As(err, &at) || at.Line == 0 || name != "changed" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What goes into the envelope is bounded, each and all together, and no more is read.
func TestIntegratedPayloadsAreBounded(t *testing.T) {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	const one, two = `  - {id: [app], payload: {file: app.bin, integrated: true}}
`, `  - {id: [other], payload: {file: app.bin, uri: "#other", integrated: true}}
`
	const encrypted = `  - {id: [app], payload: {file: app.bin, integrated: true, encrypt: {to: [device.pub]}}}
`
	for name, c := range map[string]struct {
		components string
		size, max  int64
		refused    bool
	}{
		"at the bound":       {one, 1000, 1000, false},
		"over it":            {one, 1001, 1000, true},
		"both over it":       {one + two, 501, 1000, true},
		"both at it":         {one + two, 500, 1000, false},
		"ciphertext at it":   {encrypted, 984, 1000, false},
		"ciphertext over it": {encrypted, 985, 1000, true},
		"endless":            {one, 1 << 50, 0, true},
		"any":                {one, describe.DefaultMaxIntegrated + 1, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := describe.Build([]byte(simple("components:\n"+c.components)), describe.Options{Rand: rand.Reader, MaxIntegrated: c.max,
				ReadFile: func(string) ([]byte, error) { return public, nil },
				OpenFile: func(string) (io.ReadCloser, error) { return &large{c.size}, nil }})
			var at *describe.Error
			switch {
			case !c.refused && err != nil:
				t.Fatal(err)
			case c.refused && (!errors.As(err, &at) || at.Line == 0 || !strings.Contains(err.Error(), "uri:")):
				t.Fatalf("%d bytes, at most %d: %v", c.size, c.max, err)
			}
		})
	}
}
