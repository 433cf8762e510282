package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/transport"
)

// connectOptions name agents that are reachable while this TAM is not: the second topology of TEEP
// over HTTP §1.
type connectOptions struct {
	// Agents are the URIs at which devices have their agents answer.
	Agents []string `yaml:"agents"`
	// Interval is the time between two sessions with an agent.
	Interval time.Duration `yaml:"interval"`
	// Timeout bounds one message and its answer, which an Update has when its work is done.
	Timeout time.Duration `yaml:"timeout"`
	// CAFile names the only authorities that the devices' servers are verified by; empty for those
	// of the system.
	CAFile string `yaml:"ca-file"`
}

const (
	defaultConnectInterval = time.Hour
	defaultConnectTimeout  = 10 * time.Minute
	// maxConnections bounds the sessions at a time that this TAM begins.
	maxConnections = 32
)

func (o *connectOptions) check() error {
	for _, uri := range o.Agents {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("connect.agents: %q is no URI of an agent: write one such as https://device.example/teep", uri)
		}
	}
	if o.Interval < 0 || o.Timeout < 0 {
		return errors.New("connect: a time is negative")
	}
	return nil
}

// open makes the task that runs sessions with agents. What is wrong with a file is said here, before anything runs.
func (o *connectOptions) open(t *tam.TAM, log *slog.Logger) (func(context.Context) error, error) {
	client, err := transport.NewClient(transport.ClientOptions{
		CAFile: o.CAFile, UserAgent: "teep-tam", Timeout: cmp.Or(o.Timeout, defaultConnectTimeout), Retry: transport.DefaultRetry(),
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return func(ctx context.Context) error { return o.connect(ctx, client, t, log) }, nil
}

// connect runs sessions with every agent, again and again until ctx ends. Failures are logged and
// followed by the next session at its time; agents are contacted apart from each other.
func (o *connectOptions) connect(ctx context.Context, client *transport.Client, t *tam.TAM, log *slog.Logger) error {
	interval := cmp.Or(o.Interval, defaultConnectInterval)
	defer client.CloseIdleConnections()
	slots := make(chan struct{}, maxConnections)
	var g errgroup.Group
	for _, uri := range o.Agents {
		g.Go(func() error {
			// The first sessions are spread over a part of the interval, and so are all others.
			wait := time.Duration(rand.Float64() * float64(min(interval, time.Second)))
			for pause(ctx, wait) {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
				err := t.Dial(ctx, client, uri)
				<-slots
				if err != nil && ctx.Err() == nil {
					log.Warn("session with an agent failed", "agent", uri, "err", err)
				} else {
					log.Debug("session with an agent", "agent", uri)
				}
				wait = interval + time.Duration((2*rand.Float64()-1)*0.1*float64(interval))
			}
			return nil
		})
	}
	return g.Wait()
}

// pause waits, and tells whether ctx lasts.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
