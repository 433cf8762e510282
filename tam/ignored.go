package tam

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Ignored messages in the log: so many in a row, and so many per second after them.
const (
	ignoredAtOnce    = 500
	ignoredPerSecond = 5
)

// ignoredLog bounds what messages that are ignored write into the log: anybody can send them, and a flood of them
// must not fill a disk. Its methods are safe for concurrent use.
type ignoredLog struct {
	limit    *rate.Limiter
	withheld atomic.Int64
}

func newIgnoredLog() *ignoredLog {
	return &ignoredLog{limit: rate.NewLimiter(ignoredPerSecond, ignoredAtOnce)}
}

// next says whether a message at that time is logged, and how many were not since the last one that was.
func (l *ignoredLog) next(now time.Time) (withheld int64, ok bool) {
	if !l.limit.AllowN(now, 1) {
		l.withheld.Add(1)
		return 0, false
	}
	return l.withheld.Swap(0), true
}
