package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/transport"
	"github.com/go-teep/teep/transport/challengeresponse"
)

// verifier is where agents have Evidence appraised that present Attestation Results (passport model).
type verifier struct {
	// URL is everything before /challenge-response/v1.
	URL string `yaml:"url"`
	// CAFile names a PEM file with the only authorities that it is verified by; empty for those of the
	// system.
	CAFile string `yaml:"ca-file"`
	// Timeout bounds one appraisal. 0 means 30 s.
	Timeout time.Duration `yaml:"timeout"`
}

func (v *verifier) check() error {
	switch {
	case v.Timeout < 0:
		return errors.New("verifier: timeout is negative")
	case v.URL == "" && (v.CAFile != "" || v.Timeout != 0):
		return errors.New("verifier: url is missing: write everything before /challenge-response/v1")
	case v.URL == "":
		return nil
	}
	_, err := v.client(nil)
	return err
}

func (v *verifier) client(t *http.Transport) (*challengeresponse.Client, error) {
	u, err := url.Parse(v.URL)
	if err != nil {
		return nil, errors.New("verifier: url is no URL")
	}
	h := &http.Client{}
	if t != nil {
		h.Transport = t
	}
	c, err := challengeresponse.NewClient(u, h, 0)
	if err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	return c, nil
}

// open returns nil if there is no verifier.
func (v *verifier) open() (broker.Appraiser, error) {
	if v.URL == "" {
		return nil, nil
	}
	config, err := transport.TLSConfig(v.CAFile)
	if err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = config
	c, err := v.client(t)
	if err != nil {
		return nil, err
	}
	return appraiser{c}, nil
}

type appraiser struct{ *challengeresponse.Client }

// Appraise implements broker.Appraiser.
func (a appraiser) Appraise(ctx context.Context, mediaType string, evidence, nonce []byte) (string, []byte, error) {
	r, err := a.Client.Appraise(ctx, mediaType, evidence, nonce)
	return r.MediaType, r.Data, err
}
