package main_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

func children(t *testing.T, parent int) (found []int) {
	t.Helper()
	all, err := os.ReadDir("/proc")
	must(t, err)
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if field(pid, "PPid:") == parent {
			found = append(found, pid)
		}
	}
	return found
}

// residentKiB is the memory that a process has in RAM.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	return field(pid, "VmRSS:")
}

func field(pid int, name string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return -1
	}
	_, rest, _ := strings.Cut(string(b), name)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return -1
	}
	n, err := strconv.Atoi(words[0])
	if err != nil {
		return -1
	}
	return n
}
