//go:build !unix

package sandbox

import (
	"errors"

	"github.com/go-teep/teep/tee/seal"
)

// ErrInUse says that another process, or another TEE in this one, uses the folder.
var ErrInUse = errors.New("sandbox: the folder is in use")

func claimFolder(string) (seal.Disk, func() error, error) {
	return nil, nil, errors.New("sandbox: this system has no file permissions that could keep the folder private")
}
