package main

import (
	"errors"
	"strings"
	"time"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/internal/config"
	"github.com/go-teep/teep/transport"
)

// supplies are what others signed for the agents: files, or http and https URIs.
type supplies struct {
	// TrustAnchors is what 'teep trust sign' made.
	TrustAnchors    string   `yaml:"trust-anchors"`
	RevocationLists []string `yaml:"revocation-lists"`
	// Interval is the time between two looks at a URI; files are followed.
	Interval time.Duration `yaml:"interval"`
}

func (s *supplies) resolve(path string) error {
	if s.Interval < 0 {
		return errors.New("supplies: interval is negative")
	}
	s.TrustAnchors = placeOf(path, s.TrustAnchors)
	for i := range s.RevocationLists {
		if s.RevocationLists[i] == "" {
			return errors.New("supplies: revocation-lists has an empty entry: write files or URIs")
		}
		s.RevocationLists[i] = placeOf(path, s.RevocationLists[i])
	}
	return nil
}

func placeOf(path, from string) string {
	if strings.HasPrefix(from, "https://") || strings.HasPrefix(from, "http://") {
		return from
	}
	return config.Relative(path, from)
}

func (s *supplies) options(client *transport.Client) broker.Supplies {
	return broker.Supplies{TrustAnchors: s.TrustAnchors, RevocationLists: s.RevocationLists, Interval: s.Interval, Web: client}
}
