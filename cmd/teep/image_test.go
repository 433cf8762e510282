package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/cose"
)

// imageFiles is a folder with what an image is made of: a kernel that is as much of one as is measured, a
// static program, and a configuration that names an approver.
func imageFiles(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"dpkg-deb", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("%v: install it to test the building of images", err)
		}
	}
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kernel := make([]byte, 4096)
	copy(kernel[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(kernel[0x3c:], 0x280)
	copy(kernel[0x280:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(kernel[0x280+24:], 0x20b)
	write("deb/boot/vmlinuz-1", kernel)
	write("deb/DEBIAN/control", []byte("Package: linux-image-test\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@example.com>\nDescription: none\n"))
	write("src/main.go", []byte("package main\n\nfunc main() {}\n"))
	write("config/trust.yaml", []byte("version: 1\n"))
	build := exec.Command("go", "build", "-o", "../agent", "main.go")
	build.Dir, build.Env = filepath.Join(dir, "src"), append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	pack := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", filepath.Join(dir, "deb"), filepath.Join(dir, "kernel.deb"))
	for _, cmd := range []*exec.Cmd{build, pack} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range []string{"vendor", "stranger"} {
		if code, _, stderr := run(t, "", "key", "generate", "-o", filepath.Join(dir, name+".pem")); code != 0 {
			t.Fatal(stderr)
		}
	}
	if code, _, stderr := run(t, "", "key", "public", filepath.Join(dir, "vendor.pem"), "-o", filepath.Join(dir, "config/vendor.pub.pem")); code != 0 {
		t.Fatal(stderr)
	}
	configure(t, dir, "approver: vendor.pub.pem, version: 4")
	return dir
}

func configure(t *testing.T, dir, sealing string) {
	t.Helper()
	text := "trust: trust.yaml\nidentity: {vendor: v, class: c, oemid: \"pen:32473\", hwmodel: board, hwversion: \"1\"}\nsealing: {key: tpm, " + sealing + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "config", "agent.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func buildArgs(dir string, more ...string) []string {
	return append([]string{"image", "build", "--kernel-package", filepath.Join(dir, "kernel.deb"), "--agent", filepath.Join(dir, "agent"),
		"--config", filepath.Join(dir, "config"), "--out", filepath.Join(dir, "out")}, more...)
}

func owned(dir string, more ...string) []string {
	return append([]string{"--owner", "Maker", "--expires", time.Now().AddDate(1, 0, 0).Format(time.DateOnly), "--key", filepath.Join(dir, "vendor.pem")}, more...)
}

const someFirmware = "sha-256:0101010101010101010101010101010101010101010101010101010101010101"

// TestImageBuild: an image, what verifiers have to expect of it, signed, and the approval; twice the same.
func TestImageBuild(t *testing.T) {
	dir := imageFiles(t)
	out := filepath.Join(dir, "out")
	code, stdout, stderr := run(t, "", buildArgs(dir, owned(dir, "--firmware-value", someFirmware, "--agent-version", "4.0", "--accept-weakness", "known")...)...)
	if code != 0 || !strings.Contains(stdout, "version 4 may open the state") {
		t.Fatalf("%d %s%s", code, stdout, stderr)
	}
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	text := read("reference-values.yaml")
	collateral, err := appraisal.ParseYAML(text)
	if err != nil || collateral.Owner != "Maker" || len(collateral.References) != 7 {
		t.Fatalf("%+v, %v", collateral, err)
	}
	signed := read("reference-values.cose")
	for name, want := range map[string]bool{"vendor": true, "stranger": false} {
		pem, err := os.ReadFile(filepath.Join(dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := cose.ParsePEM(pem)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := cose.NewKeySet(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := appraisal.ParseSigned(signed, appraisal.Owner{Name: "Maker", Keys: keys}); (err == nil) != want {
			t.Errorf("reference values under the key of %s: %v", name, err)
		}
	}
	initramfs, approvals := read("initramfs.img"), read("approvals.cbor")
	code, stdout, _ = run(t, "", "image", "pcrs", out)
	if code != 0 || strings.Count(stdout, "pcr-9 sha-256:") != 2 {
		t.Errorf("%d %s", code, stdout)
	}
	// Vouching later for what was built gives the same; building again takes the approval of the old away.
	if code, _, stderr := run(t, "", buildArgs(dir)...); code != 0 {
		t.Fatal(stderr)
	}
	if !bytes.Equal(read("initramfs.img"), initramfs) {
		t.Error("two builds differ")
	}
	if _, err := os.Stat(filepath.Join(out, "approvals.cbor")); err == nil {
		t.Error("an approval from before lies beside a new image")
	}
	args := append([]string{"image", "references", out}, owned(dir, "--firmware-value", someFirmware, "--agent-version", "4.0", "--accept-weakness", "known")...)
	if code, _, stderr := run(t, "", args...); code != 0 {
		t.Fatal(stderr)
	}
	if !bytes.Equal(read("reference-values.yaml"), text) || len(read("approvals.cbor")) != len(approvals) {
		t.Error("build with an owner, and build and references, differ")
	}
}

// TestImageNotApproved: reference values are written without what an approval needs; the approval is not,
// and the output says why.
func TestImageNotApproved(t *testing.T) {
	dir := imageFiles(t)
	for name, tc := range map[string]struct {
		sealing string
		args    []string
		want    string
	}{
		"no firmware": {"approver: vendor.pub.pem", owned(dir), "--measure-firmware or --firmware-value"},
		"no key":      {"approver: vendor.pub.pem", owned(dir)[:4], "give that key with --key"},
		"no approver": {"version: 1", owned(dir), "reference values by Maker"},
	} {
		configure(t, dir, tc.sealing)
		code, stdout, stderr := run(t, "", buildArgs(dir, tc.args...)...)
		if code != 0 || !strings.Contains(stdout, tc.want) {
			t.Errorf("%s: %d %s%s", name, code, stdout, stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "out", "approvals.cbor")); err == nil {
			t.Errorf("%s: it was approved", name)
		}
	}
	configure(t, dir, "approver: vendor.pub.pem, pcrs: [4, 9]")
	if code, stdout, _ := run(t, "", buildArgs(dir, owned(dir)...)...); code != 0 || !strings.Contains(stdout, "may open the state") {
		t.Errorf("without PCR 0, no firmware is needed: %s", stdout)
	}
}

func TestImageBuildRefuses(t *testing.T) {
	dir := imageFiles(t)
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tar": archive.Bytes(), "script": []byte("#!/bin/sh\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stranger := []string{"--owner", "Maker", "--expires", "2999-01-01", "--key", filepath.Join(dir, "stranger.pem"), "--firmware-value", someFirmware}
	for name, tc := range map[string]struct {
		sealing string
		args    []string
		want    string
	}{
		"no flags":              {"", []string{"image", "build"}, "required flag"},
		"key without owner":     {"", buildArgs(dir, "--key", "k.pem"), "--owner"},
		"expires without owner": {"", buildArgs(dir, "--expires", "2999-01-01"), "--owner"},
		"firmware, no owner":    {"", buildArgs(dir, "--measure-firmware"), "--owner"},
		"no day":                {"", buildArgs(dir, "--owner", "Maker", "--expires", "soon"), "2027-12-31"},
		"a day that is over":    {"", buildArgs(dir, "--owner", "Maker", "--expires", "2020-01-01"), "is over"},
		"firmware twice":        {"", buildArgs(dir, owned(dir, "--measure-firmware", "--firmware-value", someFirmware)...), "give one"},
		"short firmware":        {"", buildArgs(dir, owned(dir, "--firmware-value", "sha-256:01")...), "64 hexadecimal digits"},
		"firmware, no digest":   {"", buildArgs(dir, owned(dir, "--firmware-value", strings.Repeat("0", 64))...), "64 hexadecimal digits"},
		"no such key":           {"", buildArgs(dir, "--owner", "Maker", "--expires", "2999-01-01", "--key", "none.pem"), "none.pem"},
		"public key":            {"", buildArgs(dir, "--owner", "Maker", "--expires", "2999-01-01", "--key", filepath.Join(dir, "config/vendor.pub.pem")), "private"},
		"not the approver":      {"approver: vendor.pub.pem", buildArgs(dir, stranger...), "is not the key that sealing.approver"},
		"approver is not there": {"approver: v.pem", buildArgs(dir, owned(dir, "--firmware-value", someFirmware)...), "no /etc/teep-agent/v.pem"},
		"approver is no key":    {"approver: trust.yaml", buildArgs(dir, owned(dir, "--firmware-value", someFirmware)...), "sealing.approver"},
		"unknown PCR":           {"approver: vendor.pub.pem, pcrs: [4, 7]", buildArgs(dir, owned(dir)...), "PCR 7"},
		"no package":            {"", []string{"image", "build", "--kernel-package", filepath.Join(dir, "tar"), "--agent", filepath.Join(dir, "agent"), "--config", filepath.Join(dir, "config"), "--out", filepath.Join(dir, "out")}, "dpkg-deb"},
		"script as agent":       {"", []string{"image", "build", "--kernel-package", filepath.Join(dir, "kernel.deb"), "--agent", filepath.Join(dir, "script"), "--config", filepath.Join(dir, "config"), "--out", filepath.Join(dir, "out")}, "no program for Linux"},
		"no configuration":      {"", []string{"image", "build", "--kernel-package", filepath.Join(dir, "kernel.deb"), "--agent", filepath.Join(dir, "agent"), "--config", filepath.Join(dir, "src"), "--out", filepath.Join(dir, "out")}, "agent.yaml"},
		"references of nothing": {"", append([]string{"image", "references", filepath.Join(dir, "src")}, owned(dir)...), "teep image build"},
		"references, no owner":  {"", []string{"image", "references", dir}, "required flag"},
		"pcrs of nothing":       {"", []string{"image", "pcrs", filepath.Join(dir, "src")}, "teep image build"},
	} {
		configure(t, dir, tc.sealing)
		code, stdout, stderr := run(t, "", tc.args...)
		if code == 0 || !strings.Contains(stderr, tc.want) {
			t.Errorf("%s: code %d, %s%s", name, code, stdout, stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "out", "approvals.cbor")); err == nil {
			t.Errorf("%s: it was approved all the same", name)
		}
	}
}
