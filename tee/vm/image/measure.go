package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// Loader is how the machine's monitor hands the kernel to the firmware.
type Loader struct {
	// MemoryMiB is the memory of the machine, on which the patched header depends.
	MemoryMiB int
	// Verbatim says that the kernel comes as it is in its file: so do monitors of encrypted machines,
	// and newer versions of QEMU. Older ones fill in its header what a BIOS needs.
	Verbatim bool
}

// PCRs computes the SHA-256 bank of those platform configuration registers that the image decides,
// after QEMU booted it directly through UEFI firmware (TCG PC Client Platform Firmware Profile §3.3.4;
// Linux, drivers/firmware/efi/libstub):
//
//	4   the kernel, as a boot application
//	8   nothing: a boot loader's
//	9   the kernel's command line, and the initramfs
//	11  nothing: the operating system's
//
// PCR 0 is the firmware's, which the image knows nothing of.
func (i *Image) PCRs(l Loader) (map[int][sha256.Size]byte, error) {
	program := i.Kernel
	if !l.Verbatim {
		var err error
		if program, err = patched(i.Kernel, len(i.Initramfs), l.MemoryMiB); err != nil {
			return nil, fmt.Errorf("image: kernel: %w", err)
		}
	}
	kernel, err := authenticode(program)
	if err != nil {
		return nil, fmt.Errorf("image: kernel: %w", err)
	}
	separator := sha256.Sum256(make([]byte, 4))
	return map[int][sha256.Size]byte{
		4:  extended(kernel, sha256.Sum256([]byte("Calling EFI Application from Boot Option")), separator),
		8:  {},
		9:  extended(sha256.Sum256(loadOptions(i.CommandLine)), sha256.Sum256(i.Initramfs)),
		11: {},
	}, nil
}

// patched is the kernel with the fields of its setup header (Linux, Documentation/x86/boot) that QEMU
// fills in for the boot protocol of the BIOS, also where UEFI firmware then ignores them.
func patched(kernel []byte, initramfs, memoryMiB int) ([]byte, error) {
	const (
		loaderType, loadFlags, ramdiskImage, ramdiskSize = 0x210, 0x211, 0x218, 0x21c
		heapEnd, cmdLine, initrdMax, xloadFlags          = 0x224, 0x228, 0x22c, 0x236
		headerEnd                                        = 0x268
		// What QEMU's machine "q35" has where.
		cmdLineAt, setupAt, acpiSize = 0x20000, 0x10000, 0x28000
		lowest4G                     = 0xb0000000
	)
	if len(kernel) < headerEnd || string(kernel[0x202:0x206]) != "HdrS" || binary.LittleEndian.Uint16(kernel[0x206:]) < 0x20c {
		return nil, errors.New("it is no Linux kernel with boot protocol 2.12 or later")
	}
	out := bytes.Clone(kernel)
	le := binary.LittleEndian
	low := uint64(memoryMiB) << 20
	if low >= lowest4G {
		low = 0x80000000
	}
	highest := uint64(le.Uint32(out[initrdMax:]))
	if le.Uint16(out[xloadFlags:])&2 != 0 { // can be loaded above 4 GiB
		highest = 1<<32 - 1
	}
	if low <= acpiSize+uint64(initramfs) {
		return nil, fmt.Errorf("the initramfs does not fit into %d MiB of memory", memoryMiB)
	}
	highest = min(highest, low-acpiSize-1)
	out[loaderType] = 0xb0
	out[loadFlags] |= 0x80
	le.PutUint16(out[heapEnd:], cmdLineAt-setupAt-0x200)
	le.PutUint32(out[cmdLine:], cmdLineAt)
	le.PutUint32(out[ramdiskImage:], uint32(highest-uint64(initramfs))&^4095)
	le.PutUint32(out[ramdiskSize:], uint32(initramfs))
	return out, nil
}

// extended is a register that started at zero.
func extended(events ...[sha256.Size]byte) (pcr [sha256.Size]byte) {
	for _, e := range events {
		pcr = sha256.Sum256(append(pcr[:], e[:]...))
	}
	return pcr
}

// loadOptions is what the firmware hands to the kernel: QEMU's loader appends where the initramfs is.
func loadOptions(commandLine string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(commandLine + " initrd=initrd\x00")) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// authenticode is the digest under which UEFI firmware measures a program: all of it but its checksum
// and its signature (Windows Authenticode Portable Executable Signature Format, "Calculating the PE
// Image Hash"). The kernel's sections follow each other without gaps, so that their order in the file
// is the order in the digest.
func authenticode(pe []byte) (digest [sha256.Size]byte, err error) {
	field := func(at, size int) uint32 {
		if at < 0 || at+size > len(pe) {
			err = errors.New("it is no UEFI program: the headers are cut off")
			return 0
		}
		var b [4]byte
		copy(b[:], pe[at:at+size])
		return binary.LittleEndian.Uint32(b[:])
	}
	header := int(field(0x3c, 4))
	if err == nil && (header > len(pe)-4 || string(pe[header:header+4]) != "PE\x00\x00") {
		err = errors.New("it is no UEFI program: it has no PE header")
	}
	optional := header + 24
	checksum := optional + 64
	var directories int
	switch kind := field(optional, 2); {
	case err != nil:
		return digest, err
	case kind == 0x10b: // PE32
		directories = optional + 96
	case kind == 0x20b: // PE32+
		directories = optional + 112
	default:
		return digest, fmt.Errorf("it is a PE image of kind %#x: only PE32 and PE32+ are known", kind)
	}
	certificates := directories + 4*8 // the fifth of the data directories
	from, size := int(field(certificates, 4)), int(field(certificates+4, 4))
	if err != nil {
		return digest, err
	}
	end := len(pe)
	if size > 0 {
		if from < certificates+8 || from+size != len(pe) {
			return digest, errors.New("its signature is not at its end")
		}
		end = from
	}
	h := sha256.New()
	h.Write(pe[:checksum])
	h.Write(pe[checksum+4 : certificates])
	h.Write(pe[certificates+8 : end])
	h.Sum(digest[:0])
	return digest, nil
}
