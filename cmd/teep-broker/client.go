package main

import (
	"errors"
	"time"

	"github.com/go-teep/teep/transport"
)

// client is how the broker speaks HTTP with TAMs and with servers of payloads. What is not set takes
// the defaults of package transport.
type client struct {
	// CAFile names a PEM file with the only authorities that servers are verified by; empty for
	// those of the system.
	CAFile string `yaml:"ca-file"`
	// Timeout bounds one message and its answer, IdleTimeout the wait for the next bytes of a payload.
	Timeout     time.Duration `yaml:"timeout"`
	IdleTimeout time.Duration `yaml:"idle-timeout"`
	// MessageBytes is the largest message that is accepted from a TAM.
	MessageBytes int64 `yaml:"message-bytes"`
	// FetchRedirects is how many redirects a fetch of a payload follows; messages follow none.
	FetchRedirects int `yaml:"fetch-redirects"`
	// Retry says how often faults of the transport are tried again, with a part of the delays left to chance.
	Retry struct {
		Attempts int           `yaml:"attempts"`
		Base     time.Duration `yaml:"base"`
		Max      time.Duration `yaml:"max"`
	} `yaml:"retry"`
}

func (c *client) check() error {
	r := c.Retry
	switch {
	case c.Timeout < 0, c.IdleTimeout < 0, c.MessageBytes < 0, c.FetchRedirects < 0, r.Attempts < 0, r.Base < 0, r.Max < 0:
		return errors.New("http: a limit is negative")
	case r.Max > 0 && r.Base > r.Max:
		return errors.New("http.retry: base is larger than max")
	}
	return nil
}

func (c *client) options() transport.ClientOptions {
	retry := transport.DefaultRetry()
	if c.Retry.Attempts > 0 {
		retry.Attempts = c.Retry.Attempts
	}
	if c.Retry.Base > 0 {
		retry.Base, retry.Max = c.Retry.Base, max(retry.Max, c.Retry.Base)
	}
	if c.Retry.Max > 0 {
		retry.Max = c.Retry.Max
		retry.Base = min(retry.Base, retry.Max)
	}
	return transport.ClientOptions{
		CAFile: c.CAFile, Timeout: c.Timeout, IdleTimeout: c.IdleTimeout, MaxResponse: c.MessageBytes,
		FetchRedirects: c.FetchRedirects, Retry: retry,
	}
}
