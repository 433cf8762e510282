package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/download"
	"github.com/go-teep/teep/tam/metrics"
	"github.com/go-teep/teep/tam/webhook"
	"github.com/go-teep/teep/transport"
)

// instance is one TAM of the service: the service's own, or a tenant's. Instances share listeners, and the
// connections to a database, and nothing else.
type instance struct {
	config   *configuration
	tam      *tam.TAM
	measured *metrics.Metrics
	who      recognized
	keys     *liveKeys
	// agents answers TEEP, operators the API and the console, both without the tenant's prefix.
	agents, operators http.Handler
	// ctx lasts until stop is called: until the instance, or the service, ends. tasks run for as long.
	ctx     context.Context
	stop    context.CancelFunc
	tasks   []func(context.Context) error
	closers []io.Closer
	running sync.WaitGroup
	// busy is held by requests under way, and ended once there are to be no more.
	busy  sync.RWMutex
	ended atomic.Bool
	// marks tell whether another TAM has the same keys or the same store.
	marks marks
	// payloads answers downloads, by the name of a payload; nil: there are none.
	payloads http.Handler
}

func closeInstances(all []*instance) {
	for _, i := range all {
		i.close()
	}
}

func (i *instance) close() {
	for _, c := range i.closers {
		c.Close() //nolint:errcheck // what was acknowledged is stored already
	}
}

// drain ends the instance: nobody is routed to it any more, its tasks end, and requests under way have a while to do so.
func (i *instance) drain() {
	i.ended.Store(true)
	i.stop()
	i.running.Wait()
	for end := time.Now().Add(drainTimeout); !i.busy.TryLock() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	i.close()
}

// drainTimeout is how long requests of a tenant that is taken out of service may take.
const drainTimeout = time.Minute

// counted lets a handler's requests finish before the instance is closed.
func (i *instance) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.busy.RLock()
		defer i.busy.RUnlock()
		if i.ended.Load() { // it was routed here just before
			w.Header().Set("Retry-After", "1")
			http.Error(w, "this tenant is taken out of service or into it anew", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func openInstance(ctx context.Context, c *configuration, store store, measured *metrics.Metrics, log *slog.Logger) (_ *instance, err error) {
	ctx, stop := context.WithCancel(ctx)
	i := &instance{ctx: ctx, stop: stop, config: c, measured: measured}
	defer func() {
		if err != nil { // a tenant that is wrong is tried again and again
			stop()
			i.close()
		}
	}()
	log = c.traces.Log(log)
	if c.Policy.AcceptWarning {
		log.Warn("insecure: devices whose appraisal ended in a warning are served")
	}
	if _, err := c.opened(); err != nil {
		return nil, err
	}
	i.closers = append(i.closers, c.opener)
	known, err := openCollateral(&c.Verifier, log)
	if err != nil {
		return nil, err
	}
	recorded, err := newRecorder(c, store, log)
	if err != nil {
		return nil, err
	}
	if c.S3.InsecureHTTP {
		log.Warn("insecure: envelopes and payloads may cross the network to the bucket in the clear")
	}
	blobs, err := openBlobs(c)
	if err != nil {
		return nil, err
	}
	i.closers = append(i.closers, blobs.closers...)
	blobs.envelopes = c.traces.Blobs(blobs.envelopes)
	t, err := newTAM(ctx, c, c.traces.Store(measured.Store()), blobs, known, recorded, log)
	if err != nil {
		return nil, err
	}
	i.tam = t
	if err := i.readMarks(ctx, store); err != nil {
		return nil, err
	}
	if c.Webhooks.InsecurePrivate {
		log.Warn("insecure: whoever may make webhooks can have requests sent to services inside of this network")
	}
	hooks := webhook.NewSender(webhook.Config{Store: store, InsecurePrivateAddresses: c.Webhooks.InsecurePrivate, Logger: log,
		Wrap: func(base http.RoundTripper) http.RoundTripper { return c.traces.Transport("webhook", base) }})
	if c.Payloads.Path != "" {
		i.payloads = c.traces.Public("payloads", measured.Handler("payloads", download.NewHandler(download.Config{
			Payloads: blobs.payloads, Concurrent: c.Payloads.Concurrent, Logger: log})))
	}
	if i.who, err = c.API.Operators.open(c.traces, log); err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	if i.keys, err = followKeys(c, t, log); err != nil {
		return nil, err
	}
	if i.operators, err = operatorHandler(ctx, c, t, blobs, measured, i.who, i.keys, log); err != nil {
		return nil, err
	}
	limits, err := c.TEEP.Limits.handlerOptions(log)
	if err != nil {
		return nil, err
	}
	connect, err := c.Connect.open(t, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	measured.Limits("teep", limits.Limits())
	i.agents = c.traces.Public("teep", measured.Handler("teep", transport.NewHandler(t, limits)))
	i.tasks = append(i.tasks, measured.Run, hooks.Run, known.follow, c.certificates.follow,
		c.allowed.follow, i.keys.follower.Follow, i.keys.expire, c.Policy.advance(t, log), connect,
		func(ctx context.Context) error { return sweep(ctx, t, store, c.Policy.KeepHistory, log) })
	if recorded != nil {
		i.tasks = append(i.tasks, recorded.Run)
	}
	if q, ok := blobs.payloads.(*tam.PayloadQuota); ok {
		measured.Payloads(q.Used)
	}
	if i.payloads != nil {
		i.tasks = append(i.tasks, func(ctx context.Context) error { return c.Payloads.sweep(ctx, t, log) })
	}
	return i, nil
}

// route gives the instance its paths.
func (i *instance) route(agents, operators *http.ServeMux) {
	agents.Handle(i.config.TEEP.Path, i.counted(i.agents))
	if i.payloads != nil {
		path := i.config.Payloads.Path + "/"
		agents.Handle(path, i.counted(http.StripPrefix(path, i.payloads)))
	}
	prefix := i.config.prefix()
	operators.Handle(prefix+"/", i.counted(http.StripPrefix(prefix, i.operators)))
}
