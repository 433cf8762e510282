package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// quota is a control group of Linux that gives a process a share of the processors and no more, so that a
// machine with few cores shows what more machines would do. Making one takes root.
type quota struct {
	dir string
}

// quotaPeriod is short, so that a process that used up its share does not stand still for long.
const quotaPeriod = 20 * time.Millisecond

// newQuota makes a control group, of version 2 or 1, whichever the machine has. name has to be unused.
func newQuota(name string, cores float64) (q *quota, err error) {
	allowed := strconv.FormatInt(int64(cores*float64(quotaPeriod.Microseconds())), 10)
	period := strconv.FormatInt(quotaPeriod.Microseconds(), 10)
	const root = "/sys/fs/cgroup"
	limits := [][2]string{{"cpu.max", allowed + " " + period}}
	q = &quota{dir: filepath.Join(root, name)}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		// It may be there already.
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0)
	} else {
		q.dir = filepath.Join(root, "cpu", name)
		limits = [][2]string{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", allowed}}
	}
	if err := os.Mkdir(q.dir, 0o755); err != nil {
		return nil, fmt.Errorf("-cores needs control groups, and root to make them: %w", err)
	}
	for _, l := range limits {
		if err := os.WriteFile(filepath.Join(q.dir, l[0]), []byte(l[1]), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("-cores needs control groups with the cpu controller: %w", err), q.close())
		}
	}
	return q, nil
}

// hold puts a process under the quota, with all that it starts from then on.
func (q *quota) hold(pid int) error {
	return os.WriteFile(filepath.Join(q.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// close removes the group, whose processes have ended.
func (q *quota) close() error { return os.Remove(q.dir) }

// machineTime is the processor time of the whole machine since it started, and how much of it nobody wanted.
func machineTime() (all, idle float64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(text), "\n") // cpu user nice system idle iowait irq softirq steal …
	for i, field := range strings.Fields(line) {
		ticks, err := strconv.ParseFloat(field, 64)
		if i == 0 || i > 8 || err != nil {
			continue
		}
		all += ticks
		if i == 4 || i == 5 {
			idle += ticks
		}
	}
	return all, idle
}
