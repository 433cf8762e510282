package image

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Where things are in the initramfs.
const (
	InitPath    = "/init"
	ModulesPath = "/lib/modules"
	LoadFile    = ModulesPath + "/load"
	ConfigPath  = "/etc/teep-agent"
)

// The files of an image's folder.
const (
	KernelFile      = "vmlinuz"
	InitramfsFile   = "initramfs.img"
	CommandLineFile = "cmdline"
	// ApprovalsFile lies beside the image of an update: its vendor's word that it may open the state of
	// earlier ones (package tpmseal).
	ApprovalsFile = "approvals.cbor"
)

// CommandLine is what the kernel is started with: a console on the first serial port, the end of the
// machine when the agent ends, and memory for secrets that the kernel itself does not map.
const CommandLine = "console=ttyS0 quiet panic=-1 reboot=t secretmem.enable=1"

// Options of an image.
type Options struct {
	Kernel *Kernel
	// Agent is teep-agent, built without cgo.
	Agent []byte
	// Config holds agent.yaml and what it names, all of which goes to ConfigPath.
	Config fs.FS
	// CommandLine is CommandLine if it is empty. It is measured.
	CommandLine string
}

// Image is what a machine boots.
type Image struct {
	Kernel      []byte
	Initramfs   []byte
	CommandLine string
}

// Build makes an image.
func Build(o Options) (*Image, error) {
	if o.Kernel == nil {
		return nil, errors.New("image: there is no kernel")
	}
	if err := checkStatic(o.Agent); err != nil {
		return nil, err
	}
	files := []file{{name: InitPath, mode: 0o755, content: o.Agent}}
	var load strings.Builder
	for _, m := range o.Kernel.Modules {
		fmt.Fprintln(&load, m.Name)
		files = append(files, file{name: path.Join(ModulesPath, m.Name+".ko"), mode: 0o644, content: m.Content})
	}
	files = append(files, file{name: LoadFile, mode: 0o644, content: []byte(load.String())})
	config, err := configFiles(o.Config)
	if err != nil {
		return nil, err
	}
	img := &Image{Kernel: o.Kernel.Image, CommandLine: o.CommandLine}
	if img.CommandLine == "" {
		img.CommandLine = CommandLine
	}
	if err := checkCommandLine(img.CommandLine); err != nil {
		return nil, err
	}
	var initramfs bytes.Buffer
	if err := writeInitramfs(&initramfs, append(files, config...)); err != nil {
		return nil, err
	}
	img.Initramfs = initramfs.Bytes()
	return img, nil
}

// checkCommandLine refuses what would not arrive at the kernel as it is measured here.
func checkCommandLine(line string) error {
	for _, r := range line {
		if r < ' ' || r > '~' {
			return fmt.Errorf("image: the kernel's command line has the character %q: use printable ASCII on one line", r)
		}
	}
	const limit = 2000 // COMMAND_LINE_SIZE on x86, less what a boot loader adds
	if len(line) > limit || strings.TrimSpace(line) != line {
		return fmt.Errorf("image: the kernel's command line has %d characters, or spaces around it: at most %d are possible", len(line), limit)
	}
	return nil
}

// configFiles reads the configuration. Nothing in it is secret: whoever has the image can read it.
func configFiles(config fs.FS) ([]file, error) {
	if config == nil {
		return nil, errors.New("image: there is no configuration for the agent")
	}
	var files []file
	err := fs.WalkDir(config, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file: only those can be put in", name)
		}
		content, err := fs.ReadFile(config, name)
		if bytes.Contains(content, []byte("PRIVATE KEY")) {
			return fmt.Errorf("%s holds a private key: everybody who has the image could read it", name)
		}
		files = append(files, file{name: path.Join(ConfigPath, name), mode: 0o644, content: content})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("image: configuration: %w", err)
	}
	if _, err := fs.Stat(config, "agent.yaml"); err != nil {
		return nil, fmt.Errorf("image: the configuration has no agent.yaml: %w", err)
	}
	return files, nil
}

// Write puts the image into a folder, which it makes. Files are replaced one by one, the kernel last.
func (i *Image) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{InitramfsFile, i.Initramfs}, {CommandLineFile, []byte(i.CommandLine + "\n")}, {KernelFile, i.Kernel}} {
		name := filepath.Join(dir, f.name)
		if err := os.WriteFile(name+".tmp", f.content, 0o644); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		if err := os.Rename(name+".tmp", name); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	return nil
}

// Read reads an image that Write wrote.
func Read(dir string) (*Image, error) {
	var parts [3][]byte
	for n, name := range []string{KernelFile, InitramfsFile, CommandLineFile} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("image: %w: make it with 'teep image build' or 'make vm-image'", err)
		}
		parts[n] = content
	}
	return &Image{Kernel: parts[0], Initramfs: parts[1], CommandLine: strings.TrimSuffix(string(parts[2]), "\n")}, nil
}
