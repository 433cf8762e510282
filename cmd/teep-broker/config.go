package main

import (
	"fmt"
	"time"

	"github.com/go-teep/teep/internal/config"
)

// configuration is broker.yaml. Paths are relative to the file.
type configuration struct {
	TEEs []struct {
		Name       string            `yaml:"name"`
		Socket     string            `yaml:"socket"`
		Properties map[string]string `yaml:"properties"`
	} `yaml:"tees"`
	Apps struct {
		Socket string `yaml:"socket"`
	} `yaml:"apps"`
	// Needs is the file that remembers which app needs which component. Empty: beside the socket.
	Needs string `yaml:"needs"`
	// PolicyInterval is the time between policy checks; 0s switches the timer off.
	PolicyInterval time.Duration `yaml:"policy-interval"`
	HTTP           client        `yaml:"http"`
	// Endpoints let TAMs connect to agents, where those are reachable and TAMs are not.
	Endpoints []endpoint `yaml:"endpoints"`
}

func load(path string) (*configuration, error) {
	c := &configuration{PolicyInterval: 24 * time.Hour}
	if err := config.Load(path, c); err != nil {
		return nil, err
	}
	if len(c.TEEs) == 0 {
		return nil, fmt.Errorf("%s: tees is empty: name the socket of one TEEP Agent at least", path)
	}
	for i := range c.TEEs {
		if c.TEEs[i].Name == "" || c.TEEs[i].Socket == "" {
			return nil, fmt.Errorf("%s: entry %d of tees needs a name and a socket", path, i+1)
		}
		c.TEEs[i].Socket = config.Relative(path, c.TEEs[i].Socket)
	}
	if c.Apps.Socket == "" {
		return nil, fmt.Errorf("%s: apps.socket is missing: name the socket that apps talk to", path)
	}
	if c.PolicyInterval < 0 {
		return nil, fmt.Errorf("%s: policy-interval is negative; 0s switches the timer off", path)
	}
	c.Apps.Socket = config.Relative(path, c.Apps.Socket)
	if c.Needs = config.Relative(path, c.Needs); c.Needs == "" {
		c.Needs = c.Apps.Socket + ".needs"
	}
	c.HTTP.CAFile = config.Relative(path, c.HTTP.CAFile)
	if err := c.HTTP.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, c.checkEndpoints(path)
}
