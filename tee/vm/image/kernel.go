package image

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// Kernel is a Linux kernel and the modules that the machine needs, in the order in which they load.
type Kernel struct {
	Image   []byte
	Modules []Module
}

// Module is a kernel module.
type Module struct {
	Name    string // as the kernel spells it, with underscores
	Content []byte
}

// wanted are the modules that the machine uses, where its kernel has them as modules. What they need
// in turn is found in them.
var wanted = []string{
	"virtio_pci", "virtio_mmio", // the buses
	"virtio_console", "virtio_blk", "virtio_rng", // link, state, randomness
	"vmw_vsock_virtio_transport", // the link where the host has vsock
	"ext4",                       // the state's file system
	"tpm_crb", "tpm_tis",
	"configfs", "tsm", "sev_guest", "tdx_guest", // reports of the processor
}

const (
	maxKernel = 64 << 20
	maxModule = 16 << 20
)

// ReadKernelPackage reads a kernel and its modules from a package of Debian (linux-image-…), which
// dpkg-deb opens, or from a tar archive of what is in one. It is not installed.
func ReadKernelPackage(ctx context.Context, name string) (*Kernel, error) {
	if file, err := openArchive(name); file != nil || err != nil {
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		defer file.Close()
		return ReadKernelArchive(file)
	}
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("image: dpkg-deb is not installed: apt-get install dpkg, or name a tar archive that dpkg-deb --fsys-tarfile made of the package elsewhere")
	} else if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	kernel, readErr := ReadKernelArchive(out)
	if readErr != nil {
		_, _ = io.Copy(io.Discard, out) // the program ends with its output
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("image: dpkg-deb %s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return kernel, readErr
}

// openArchive opens a file with a tar archive (POSIX.1-1988, ustar); nil for every other file.
func openArchive(name string) (*os.File, error) {
	const magicAt, magic = 257, "ustar"
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(magic))
	if _, err := f.ReadAt(head, magicAt); err == nil && string(head) == magic {
		return f, nil
	}
	return nil, f.Close()
}

// ReadKernelArchive reads the content of such a package as a tar archive.
func ReadKernelArchive(r io.Reader) (*Kernel, error) {
	k := &Kernel{}
	modules := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("image: kernel package: %w", err)
		}
		name := path.Clean("/" + h.Name)
		base := path.Base(name)
		switch {
		case h.Typeflag != tar.TypeReg:
		case path.Dir(name) == "/boot" && strings.HasPrefix(base, "vmlinuz"):
			if k.Image != nil {
				return nil, errors.New("image: kernel package: it holds more than one kernel")
			}
			if k.Image, err = readLimited(archive, h, maxKernel); err != nil {
				return nil, err
			}
		case strings.HasSuffix(base, ".ko"):
			// All are read: which ones are needed is known when all are there.
			if modules[moduleName(base)], err = readLimited(archive, h, maxModule); err != nil {
				return nil, err
			}
		case strings.Contains(base, ".ko."):
			return nil, fmt.Errorf("image: kernel package: the module %s is compressed, which the agent does not load: use a kernel with plain modules", base)
		}
	}
	if k.Image == nil {
		return nil, errors.New("image: kernel package: it holds no /boot/vmlinuz-…; the package must be the kernel's own, not the one that only depends on it")
	}
	var err error
	k.Modules, err = inOrder(modules)
	return k, err
}

func readLimited(r io.Reader, h *tar.Header, limit int64) ([]byte, error) {
	if h.Size > limit {
		return nil, fmt.Errorf("image: kernel package: %s has %d bytes, at most %d are read", h.Name, h.Size, limit)
	}
	return io.ReadAll(io.LimitReader(r, limit))
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(file, ".ko"), "-", "_")
}

// inOrder picks the wanted modules and what they depend on, and puts each after what it needs. What
// is not among the modules is built into the kernel, or this kernel has it not.
func inOrder(all map[string][]byte) ([]Module, error) {
	var order []Module
	var visit func(name string, above []string) error
	visit = func(name string, above []string) error {
		content, is := all[name]
		if !is || slices.ContainsFunc(order, func(m Module) bool { return m.Name == name }) {
			return nil
		}
		if slices.Contains(above, name) {
			return fmt.Errorf("image: kernel package: the modules %s need each other", strings.Join(append(above, name), ", "))
		}
		needs, err := dependencies(content)
		if err != nil {
			return fmt.Errorf("image: kernel package: module %s: %w", name, err)
		}
		for _, need := range needs {
			if err := visit(need, append(above, name)); err != nil {
				return err
			}
		}
		order = append(order, Module{Name: name, Content: content})
		return nil
	}
	for _, name := range wanted {
		if err := visit(name, nil); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// dependencies reads what a module says of itself: strings KEY=VALUE, each with a zero byte behind it.
func dependencies(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range strings.Split(string(data), "\x00") {
		list, is := strings.CutPrefix(entry, "depends=")
		if is && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// checkStatic refuses a program that does not run as the only one of a machine.
func checkStatic(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("image: the agent is no program for Linux: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("image: the agent is for %v, and the machine is %v: build it with GOARCH=amd64", f.Machine, elf.EM_X86_64)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("image: the agent needs a dynamic linker, which the image does not have: build it with CGO_ENABLED=0")
		}
	}
	return nil
}
