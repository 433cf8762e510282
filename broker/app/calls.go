package app

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-teep/teep/broker"
	"github.com/go-teep/teep/link"
)

// Types of the broker that apps meet.
type (
	// ComponentID is a SUIT component identifier, part by part.
	ComponentID = link.ComponentID
	// Request says what an app depends on.
	Request = broker.Request
	// Requirements say what the TEE must be.
	Requirements = broker.Requirements
	// Progress tells how far a request has come.
	Progress = broker.Progress
	// Status tells the state of a TEE.
	Status = broker.Status
)

// MaxFrame is the largest frame in bytes, and so about the largest input and output of an
// invocation.
const MaxFrame = link.MaxFrame

// The calls, in frames of package link/frame:
//
//	request      = 1  args: [ component-id, tam-uri: tstr, min-sequence: uint, requirements, app: tstr,
//	                        binary: bstr / null ]
//	                  notes: [ tee: tstr, kind: tstr, uri: tstr, bytes: uint ]          result: null
//	unrequest    = 2  args: [ component-id, requirements, app: tstr ]                   result: null
//	open         = 3  args: [ component-id, requirements ]                              result: uint
//	invoke       = 4  args: [ session: uint, command: tstr, input: bstr ]               result: bstr
//	close        = 5  args: [ session: uint ]                                           result: null
//	policy-check = 6  args: []                                                          result: sessions: uint
//	status       = 7  args: []                                                          result: [ * tee-status ]
//	replace-trust = 8      args: [ requirements, signed-anchor-set: bstr ]              result: null
//	renew-revocations = 9  args: [ requirements, file: bstr ]                           result: null
//
//	component-id = [ + bstr ]
//	requirements = [ tee: tstr, { * tstr => tstr } ]
//	tee-status   = [ tee: tstr, { * tstr => tstr }, busy: bool, reachable: bool,
//	                 policy-check: int ; seconds since 1970, 0 for never
//	                 policy-error: tstr ]
const (
	methodRequest     = 1
	methodUnrequest   = 2
	methodOpen        = 3
	methodInvoke      = 4
	methodClose       = 5
	methodPolicyCheck = 6
	methodStatus      = 7

	methodReplaceTrust     = 8
	methodRenewRevocations = 9
)

type wireRequirements struct {
	_          struct{} `cbor:",toarray"`
	TEE        string
	Properties map[string]string
}

type requestArgs struct {
	_            struct{} `cbor:",toarray"`
	Component    ComponentID
	TAMURI       string
	MinSequence  uint64
	Requirements wireRequirements
	App          string
	Binary       []byte
}

type unrequestArgs struct {
	_            struct{} `cbor:",toarray"`
	Component    ComponentID
	Requirements wireRequirements
	App          string
}

type componentArgs struct {
	_            struct{} `cbor:",toarray"`
	Component    ComponentID
	Requirements wireRequirements
}

type invokeArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
	Command string
	Input   []byte
}

type sessionArgs struct {
	_       struct{} `cbor:",toarray"`
	Session uint64
}

// signedArgs is what others signed for agents.
type signedArgs struct {
	_            struct{} `cbor:",toarray"`
	Requirements wireRequirements
	Data         []byte
}

type noArgs struct {
	_ struct{} `cbor:",toarray"`
}

type progressNote struct {
	_     struct{} `cbor:",toarray"`
	TEE   string
	Kind  string
	URI   string
	Bytes int64
}

type wireStatus struct {
	_           struct{} `cbor:",toarray"`
	TEE         string
	Properties  map[string]string
	Busy        bool
	Reachable   bool
	PolicyCheck int64
	PolicyError string
}

func requirementsToWire(r Requirements) wireRequirements {
	return wireRequirements{TEE: r.TEE, Properties: maps.Clone(r.Properties)}
}

func requirementsFromWire(w wireRequirements) Requirements {
	return Requirements{TEE: w.TEE, Properties: w.Properties}
}

func statusToWire(s Status) wireStatus {
	w := wireStatus{
		TEE: s.TEE, Properties: s.Properties, Busy: s.Busy, Reachable: s.Reachable, PolicyError: s.PolicyError,
	}
	if !s.PolicyCheck.IsZero() {
		w.PolicyCheck = s.PolicyCheck.Unix()
	}
	return w
}

func statusFromWire(w wireStatus) Status {
	s := Status{TEE: w.TEE, Properties: w.Properties, Busy: w.Busy, Reachable: w.Reachable, PolicyError: w.PolicyError}
	if w.PolicyCheck != 0 {
		s.PolicyCheck = time.Unix(w.PolicyCheck, 0)
	}
	return s
}

// Bounds of what an app may send, beyond the frame.
const (
	maxText         = 4096
	maxRequirements = 32
)

// ErrInvalid says that an argument is not acceptable.
var ErrInvalid = errors.New("app: invalid argument")

func checkComponent(id ComponentID) error {
	size := 0
	for _, part := range id {
		size += len(part)
	}
	if len(id) == 0 || len(id) > link.MaxComponentParts || size > link.MaxComponentID {
		return fmt.Errorf("%w: component identifier of %d parts and %d bytes; 1 to %d parts and up to %d bytes are allowed",
			ErrInvalid, len(id), size, link.MaxComponentParts, link.MaxComponentID)
	}
	return nil
}

func checkSigned(data []byte) error {
	if limit := min(link.MaxAnchors, link.MaxRevocationFile); len(data) == 0 || len(data) > limit {
		return fmt.Errorf("%w: %d bytes; 1 to %d are allowed", ErrInvalid, len(data), limit)
	}
	return nil
}

func checkTexts(texts ...string) error {
	if slices.ContainsFunc(texts, func(s string) bool { return len(s) > maxText }) {
		return fmt.Errorf("%w: text longer than %d bytes", ErrInvalid, maxText)
	}
	return nil
}

func checkRequirements(r wireRequirements) error {
	if len(r.Properties) > maxRequirements {
		return fmt.Errorf("%w: %d requirements; %d are allowed", ErrInvalid, len(r.Properties), maxRequirements)
	}
	texts := []string{r.TEE}
	for k, v := range r.Properties {
		texts = append(texts, k, v)
	}
	return checkTexts(texts...)
}
