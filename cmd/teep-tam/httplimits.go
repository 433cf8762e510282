package main

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/go-teep/teep/transport"
)

// httpLimits are what agents together, and each address of them, may ask of the TAM. Values that are
// not set take the defaults of package transport.
type httpLimits struct {
	// MessageBytes is the largest message from an agent; a larger one is answered 413.
	MessageBytes int64 `yaml:"message-bytes"`
	// Concurrent bounds the requests in work; more are answered 503 with Retry-After.
	Concurrent int `yaml:"concurrent"`
	// Arriving bounds the messages on their way in; a further one cuts off the oldest, with 408.
	Arriving int `yaml:"arriving"`
	// Connections bounds the connections; when there are more, the one that has waited longest without
	// a request is closed.
	Connections int `yaml:"connections"`
	// Rate is requests per second and address, Burst how many at once; more are answered 429 with
	// Retry-After.
	Rate  float64 `yaml:"rate"`
	Burst int     `yaml:"burst"`
	// InsecureNoRate switches the rate limit off.
	InsecureNoRate bool `yaml:"insecure-no-rate-limit"`
	// Addresses bounds how many addresses are remembered.
	Addresses int `yaml:"addresses"`
	// RetryAfter is what 429 and 503 ask to wait.
	RetryAfter time.Duration `yaml:"retry-after"`
	// BodyTimeout bounds the arrival of a message, and the sending of its answer.
	BodyTimeout time.Duration `yaml:"body-timeout"`
	// ProcessTimeout bounds the work on a message, which a database that does not answer could hold up
	// for ever; what takes longer is answered 503. 0 means 30 s.
	ProcessTimeout time.Duration `yaml:"process-timeout"`
	// TrustedProxies are the addresses or networks of proxies whose X-Forwarded-For is believed.
	TrustedProxies []string `yaml:"trusted-proxies"`
}

// set tells whether anything differs from the defaults.
func (l *httpLimits) set() bool { return !reflect.DeepEqual(*l, httpLimits{}) }

func (l *httpLimits) check() error {
	switch {
	case l.MessageBytes < 0, l.Concurrent < 0, l.Arriving < 0, l.Connections < 0, l.Rate < 0, l.Burst < 0, l.Addresses < 0, l.RetryAfter < 0, l.BodyTimeout < 0, l.ProcessTimeout < 0:
		return errors.New("teep.limits: a limit is negative")
	case l.Rate > 0 && l.InsecureNoRate:
		return errors.New("teep.limits: rate and insecure-no-rate-limit exclude each other")
	case l.Burst > 0 && l.Rate == 0:
		return errors.New("teep.limits: burst needs a rate")
	}
	_, err := l.proxies()
	return err
}

func (l *httpLimits) proxies() ([]netip.Prefix, error) {
	return parsePrefixes("teep.limits.trusted-proxies", l.TrustedProxies)
}

// handlerOptions are those of the handler that agents talk to.
func (l *httpLimits) handlerOptions(log *slog.Logger) (transport.HandlerOptions, error) {
	o := transport.HandlerOptions{
		MaxRequest: l.MessageBytes, MaxConcurrent: l.Concurrent, MaxArriving: l.Arriving, RetryAfter: l.RetryAfter,
		Rate: l.Rate, Burst: l.Burst, MaxAddresses: l.Addresses, BodyTimeout: l.BodyTimeout,
		ProcessTimeout: cmp.Or(l.ProcessTimeout, 30*time.Second), Log: log,
	}
	if o.Rate > 0 && o.Burst == 0 {
		o.Burst = max(int(2*o.Rate), 1)
	}
	if l.InsecureNoRate {
		log.Warn("insecure: requests are not limited per address")
		o.Rate = -1
	}
	proxies, err := l.proxies()
	if err == nil && len(proxies) > 0 {
		o.ClientAddress = func(r *http.Request) netip.Addr { return clientBehind(r, proxies) }
	}
	return o, err
}

// clientBehind is the address that the last trusted proxy saw. What is in front of it in
// X-Forwarded-For came from outside, and anybody can write anything there.
func clientBehind(r *http.Request, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(client, proxies); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		client = next.Unmap()
	}
	return client
}

func trusted(a netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
