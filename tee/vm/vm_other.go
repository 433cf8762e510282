//go:build !linux

package vm

// FirstProcess is false: machines are Linux.
func FirstProcess() bool { return false }
