//go:build !unix

package sandbox

import (
	"errors"
	"os"
	"time"

	"github.com/go-teep/teep/tee/seal"
)

// ErrInUse says that another process, or another TEE in this one, uses the folder.
var ErrInUse = errors.New("sandbox: the folder is in use")

func claimFolder(string, *os.File) (seal.Disk, func() error, error) {
	return nil, nil, errors.New("sandbox: this system has no file permissions that could keep the folder private")
}

// Prepare fails on this system.
func Prepare(string, int, int, time.Duration) (*os.File, error) {
	return nil, errors.New("sandbox: this system has no file permissions that could keep the folder private")
}
