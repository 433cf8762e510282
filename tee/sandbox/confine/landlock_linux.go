package confine

import (
	"errors"
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// landlockFolder leaves the process the working directory, and no TCP port, no abstract socket and
// no process outside to signal, as far as the kernel's version knows these. Version 1 is what it
// takes for the wall to stand: files.
func landlockFolder() (abi int, err error) { return landlockFolders(landlock.RWDirs(".")) }

func landlockFolders(folders landlock.Rule) (abi int, err error) {
	abi, err = ll.LandlockGetABIVersion()
	if err != nil {
		return 0, fmt.Errorf("the kernel has none: %w", err)
	}
	if abi < 1 {
		return 0, errors.New("the kernel has none")
	}
	if err := landlock.V9.BestEffort().Restrict(folders); err != nil {
		return abi, err
	}
	return abi, nil
}
