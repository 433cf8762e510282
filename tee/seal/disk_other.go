//go:build !linux

package seal

import "os"

func beginWriteback(*os.File, int64, int64) {}
