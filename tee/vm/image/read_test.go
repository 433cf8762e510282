package image

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

func TestFile(t *testing.T) {
	o := options(t)
	img, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		InitPath: string(o.Agent), "/etc/teep-agent/keys/trust.yaml": "version: 1\n", "etc/teep-agent/agent.yaml": "trust: keys/trust.yaml\n", LoadFile: "virtio\nvirtio_console\n",
	} {
		if got, err := img.File(name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for _, name := range []string{"/etc/shadow", "", "/init/x", "TRAILER", "../../../init2"} {
		if got, err := img.File(name); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestFileOfSomethingElse: an initramfs that another program made, or that is damaged, is refused and not
// misread.
func TestFileOfSomethingElse(t *testing.T) {
	img, err := Build(options(t))
	if err != nil {
		t.Fatal(err)
	}
	packed := func(archive string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(archive)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	header := "070701" + strings.Repeat("00000000", 13)
	for name, data := range map[string][]byte{
		"nothing": nil, "no gzip": []byte("070701"), "cut gzip": img.Initramfs[:len(img.Initramfs)/2], "no archive": packed("text"),
		"old format": packed(strings.Replace(header, "070701", "070707", 1)), "no name": packed(header),
		"no number":      packed(strings.Replace(header, "00000000", "0000zzzz", 13)),
		"longer than it": packed("070701" + strings.Repeat("00000000", 6) + "7fffffff" + strings.Repeat("00000000", 4) + "00000002" + "00000000" + "a\x00"),
		"name too long":  packed("070701" + strings.Repeat("00000000", 11) + "7fffffff" + "00000000" + "a\x00"),
	} {
		if got, err := (&Image{Initramfs: data}).File("/init"); err == nil {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("070701"+strings.Repeat("00000000", 11)+"00000002"+"00000000"+"a\x00"), "a")
	f.Fuzz(func(t *testing.T, archive []byte, name string) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(archive); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if content, err := (&Image{Initramfs: b.Bytes()}).File(name); err == nil && len(content) > len(archive) {
			t.Fatalf("%d bytes out of %d", len(content), len(archive))
		}
	})
}
