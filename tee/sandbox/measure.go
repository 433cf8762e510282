package sandbox

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"runtime"
)

// MeasureExecutable returns the SHA-256 of the program that this process runs: on Linux, of the
// file that the kernel mapped, even if another has taken its name since.
func MeasureExecutable() ([]byte, error) {
	name := "/proc/self/exe"
	if runtime.GOOS != "linux" {
		var err error
		if name, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
