package transport

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// addressLimits is a rate limit for each client address, in bounded memory.
type addressLimits struct {
	limit rate.Limit
	burst int
	size  int

	mu     sync.Mutex
	byAddr map[netip.Prefix]*list.Element
	recent *list.List // of *addressLimit, the latest in front
}

type addressLimit struct {
	prefix  netip.Prefix
	limiter *rate.Limiter
}

func newAddressLimits(perSecond float64, burst, size int) *addressLimits {
	return &addressLimits{
		limit: rate.Limit(perSecond), burst: burst, size: size,
		byAddr: make(map[netip.Prefix]*list.Element), recent: list.New(),
	}
}

// clientPrefix is what counts as one client: an IPv6 host has a /64 to itself.
func clientPrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all such clients share one limit
	}
	return p
}

func (l *addressLimits) allow(a netip.Addr, now time.Time) bool {
	prefix := clientPrefix(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byAddr[prefix]
	if e == nil {
		if l.recent.Len() >= l.size {
			oldest := l.recent.Back()
			l.recent.Remove(oldest)
			delete(l.byAddr, oldest.Value.(*addressLimit).prefix)
		}
		e = l.recent.PushFront(&addressLimit{prefix, rate.NewLimiter(l.limit, l.burst)})
		l.byAddr[prefix] = e
	} else {
		l.recent.MoveToFront(e)
	}
	return e.Value.(*addressLimit).limiter.AllowN(now, 1)
}
