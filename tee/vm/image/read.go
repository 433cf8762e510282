package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// headerSize is that of an entry of the archive (writeInitramfs).
const headerSize = 110

// File returns what the image has at a path, as /init.
func (i *Image) File(name string) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(i.Initramfs))
	if err != nil {
		return nil, fmt.Errorf("image: initramfs: %w", err)
	}
	archive, err := io.ReadAll(io.LimitReader(z, 2*maxInitramfs))
	if err != nil {
		return nil, fmt.Errorf("image: initramfs: %w", err)
	}
	wanted := strings.TrimPrefix(path.Clean("/"+name), "/")
	for len(archive) > 0 {
		var found string
		var content []byte
		if found, content, archive, err = nextEntry(archive); err != nil {
			return nil, fmt.Errorf("image: initramfs: %w", err)
		}
		if found == wanted {
			return content, nil
		}
		if found == "TRAILER!!!" {
			break
		}
	}
	return nil, fmt.Errorf("image: there is no /%s in it", wanted)
}

var errArchive = errors.New("it is no cpio archive of the format that is written here")

// nextEntry reads the first entry of an archive.
func nextEntry(archive []byte) (name string, content, rest []byte, err error) {
	if len(archive) < headerSize || string(archive[:6]) != "070701" {
		return "", nil, nil, errArchive
	}
	field := func(n int) int {
		v, fieldErr := strconv.ParseUint(string(archive[6+8*n:14+8*n]), 16, 31)
		err = errors.Join(err, fieldErr)
		return int(v)
	}
	size, nameSize := field(6), field(11)
	aligned := func(n int) int { return (n + 3) &^ 3 }
	at := aligned(headerSize + nameSize)
	if err != nil || nameSize < 1 || at > len(archive) || aligned(at+size) > len(archive) {
		return "", nil, nil, errArchive
	}
	name = string(archive[headerSize : headerSize+nameSize-1])
	return name, archive[at : at+size], archive[aligned(at+size):], nil
}
