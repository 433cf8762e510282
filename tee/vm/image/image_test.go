package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
)

// kernel is as much of a Linux kernel for UEFI as is measured.
func kernel() []byte {
	k := make([]byte, 4096)
	copy(k[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(k[0x3c:], 0x280)
	copy(k[0x280:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(k[0x280+24:], 0x20b)
	return k
}

// build builds a static program once.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-o", "agent", "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "agent"))
})

func program(t *testing.T) []byte {
	t.Helper()
	agent, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return agent
}

func options(t *testing.T) Options {
	return Options{
		Kernel: &Kernel{Image: kernel(), Modules: []Module{{"virtio", []byte("module")}, {"virtio_console", []byte("module 2")}}},
		Agent:  program(t),
		Config: fstest.MapFS{"agent.yaml": {Data: []byte("trust: keys/trust.yaml\n")}, "keys/trust.yaml": {Data: []byte("version: 1\n")}},
	}
}

// TestReproducible: whoever builds an image gets the same bytes, and so the same measurement.
func TestReproducible(t *testing.T) {
	o := options(t)
	first, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Initramfs, second.Initramfs) || !bytes.Equal(first.Kernel, second.Kernel) || first.CommandLine != second.CommandLine {
		t.Fatal("two builds differ")
	}
	dir := t.TempDir()
	if err := first.Write(dir); err != nil {
		t.Fatal(err)
	}
	read, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read.Initramfs, first.Initramfs) || !bytes.Equal(read.Kernel, first.Kernel) || read.CommandLine != CommandLine {
		t.Error("what was written is not what is read")
	}
	z, err := gzip.NewReader(bytes.NewReader(first.Initramfs))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || !bytes.HasPrefix(archive, []byte("070701")) {
		t.Error("the archive has a time, or is no cpio of the new format")
	}
	for _, name := range []string{"init", "lib/modules/load", "lib/modules/virtio.ko", "etc/teep-agent/agent.yaml", "etc/teep-agent/keys/trust.yaml", "TRAILER!!!"} {
		if !bytes.Contains(archive, append([]byte(name), 0)) {
			t.Errorf("%s is not in the archive", name)
		}
	}
}

// TestOneByte: an agent that differs in one byte changes PCR 9 and nothing else.
func TestOneByte(t *testing.T) {
	o := options(t)
	before, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Agent = bytes.Clone(o.Agent)
	o.Agent[len(o.Agent)/3] ^= 1
	after, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	l := Loader{MemoryMiB: 512, Verbatim: true}
	a, err := before.PCRs(l)
	if err != nil {
		t.Fatal(err)
	}
	b, err := after.PCRs(l)
	if err != nil {
		t.Fatal(err)
	}
	for pcr := range a {
		if (a[pcr] == b[pcr]) == (pcr == 9) {
			t.Errorf("PCR %d: %x and %x", pcr, a[pcr], b[pcr])
		}
	}
	after.CommandLine += " debug"
	if c, err := after.PCRs(l); err != nil || c[9] == b[9] || c[4] != b[4] {
		t.Errorf("another command line: %v", err)
	}
	before.Kernel[3000] ^= 1
	if c, err := before.PCRs(l); err != nil || c[4] == a[4] || c[9] != a[9] {
		t.Errorf("another kernel: %v", err)
	}
}

func TestReferences(t *testing.T) {
	o := options(t)
	img, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	class := appraisal.Class{OEMID: []byte{0x19, 0x7e, 0xd9}, HWModel: []byte("board")}
	all, err := img.References(o.Agent, ReferenceOptions{
		Owner: "maker", Expires: time.Now().Add(time.Hour), Class: class, Name: "teep-agent", MemoryMiB: 512,
		Firmware: bytes.Repeat([]byte{1}, 32), AcceptedWeaknesses: []string{"known"},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := all.YAML()
	if err != nil {
		t.Fatal(err)
	}
	read, err := appraisal.ParseYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, r := range read.References {
		names[r.Name]++
		if (len(r.AcceptedWeaknesses) > 0) != (r.Name == "teep-agent") {
			t.Errorf("%s accepts %v", r.Name, r.AcceptedWeaknesses)
		}
	}
	// Two ways of loading the kernel give two values of PCR 4.
	if fmt.Sprint(names) != "map[pcr-0:1 pcr-11:1 pcr-4:2 pcr-8:1 pcr-9:1 teep-agent:1]" {
		t.Error(names)
	}
	if _, err := img.References(o.Agent, ReferenceOptions{Class: class}); err == nil {
		t.Error("reference values without owner and end")
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no kernel":        func(o *Options) { o.Kernel = nil },
		"no agent":         func(o *Options) { o.Agent = nil },
		"script as agent":  func(o *Options) { o.Agent = []byte("#!/bin/sh\n") },
		"no configuration": func(o *Options) { o.Config = nil },
		"no agent.yaml":    func(o *Options) { o.Config = fstest.MapFS{"trust.yaml": {}} },
		"private key": func(o *Options) {
			o.Config = fstest.MapFS{"agent.yaml": {}, "k.pem": {Data: []byte("-----BEGIN PRIVATE KEY-----\n")}}
		},
		"two lines of kernel": func(o *Options) { o.CommandLine = "quiet\ninit=/bin/sh" },
		"long command line":   func(o *Options) { o.CommandLine = strings.Repeat("x", 4000) },
		"file and folder":     func(o *Options) { o.Kernel.Modules = append(o.Kernel.Modules, Module{Name: "../../init/x"}) },
	} {
		o := options(t)
		change(&o)
		if _, err := Build(o); err == nil || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKernelArchiveRefuses(t *testing.T) {
	archive := func(files ...string) io.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range files {
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 4}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("data")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	for name, r := range map[string]io.Reader{
		"empty":             archive(),
		"no kernel":         archive("./usr/share/doc/copyright"),
		"two kernels":       archive("./boot/vmlinuz-1", "./boot/vmlinuz-2"),
		"compressed module": archive("./boot/vmlinuz-1", "./lib/modules/1/kernel/virtio.ko.xz"),
		"broken module":     archive("./boot/vmlinuz-1", "./lib/modules/1/kernel/virtio_pci.ko"),
		"no archive":        strings.NewReader(strings.Repeat("x", 1024)),
	} {
		if _, err := ReadKernelArchive(r); err == nil || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
	k, err := ReadKernelArchive(archive("./boot/vmlinuz-1", "./lib/modules/1/kernel/unneeded.ko"))
	if err != nil || len(k.Modules) != 0 || string(k.Image) != "data" {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestKernelPackageAsArchive: an archive is told by what is in it, not by its name; what is neither an
// archive nor a package is refused.
func TestKernelPackageAsArchive(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	content := []byte("kernel")
	if err := w.WriteHeader(&tar.Header{Name: "./boot/vmlinuz-1", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "linux-image.deb")
	read := func(data []byte) (*Kernel, error) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadKernelPackage(t.Context(), name)
	}
	if k, err := read(b.Bytes()); err != nil || !bytes.Equal(k.Image, content) {
		t.Error(k, err)
	}
	for what, data := range map[string][]byte{"empty": nil, "text": []byte("hello"), "cut": b.Bytes()[:515], "zeros": make([]byte, 4096)} {
		if k, err := read(data); err == nil {
			t.Error(what, k)
		}
	}
	if _, err := ReadKernelPackage(t.Context(), name+".none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzMeasureKernel(f *testing.F) {
	f.Add(kernel())
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		img := &Image{Kernel: data, Initramfs: []byte("initramfs"), CommandLine: CommandLine}
		for _, verbatim := range []bool{true, false} {
			if _, err := img.PCRs(Loader{MemoryMiB: 512, Verbatim: verbatim}); err != nil && len(err.Error()) < 20 {
				t.Error(err)
			}
		}
	})
}
