package main

import (
	"context"
	"fmt"

	"github.com/go-teep/teep/link/owner"
	"github.com/go-teep/teep/tee"
)

// desk answers the owner of a machine what the commands keys, collateral and enrol print elsewhere.
type desk struct {
	environment *environment
	config      string
}

var _ owner.Agent = (*desk)(nil)

// Key implements owner.Agent.
func (d *desk) Key(_ context.Context, use string) ([]byte, error) {
	key, err := d.environment.publicKey(tee.KeyUse(use))
	if err != nil {
		return nil, fmt.Errorf("key %q: %w: ask for agent, attestation, report or encryption", use, err)
	}
	return key, nil
}

// Collateral implements owner.Agent.
func (d *desk) Collateral(_ context.Context, c owner.Collateral) ([]byte, error) {
	return d.environment.collateralFile(collateralTask{Owner: c.Owner, Lifetime: c.Lifetime, Accept: c.AcceptWeaknesses})
}

// Enrol implements owner.Agent.
func (d *desk) Enrol(_ context.Context, e owner.Enrolment) ([]byte, error) {
	return d.environment.enrolment(d.config, enrolTask{Intermediates: e.Intermediates, Credential: e.Credential})
}
