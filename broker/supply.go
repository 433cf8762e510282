package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/transport"
)

// Supplies are what others signed for the agents, and where it comes from: names of files, or http and
// https URIs. The broker only brings it; agents check signatures, and take nothing older than they have.
type Supplies struct {
	// TrustAnchors is a set of trust anchors that the administrator of the device signed; empty for none.
	TrustAnchors string
	// RevocationLists are X.509 CRLs for the certificates of TAMs.
	RevocationLists []string
	// Interval is the time between two looks at a URI; 0 means an hour. Files are looked at every two
	// seconds.
	Interval time.Duration
	// Web asks for what is behind URIs; required if there are some.
	Web Web
}

// Web fetches a resource if it is another one than before; nil if not. *transport.Client is one.
type Web interface {
	Changed(ctx context.Context, uri string, before transport.Download, limit int64) (*transport.Download, error)
}

const fileInterval = 2 * time.Second

func (s *Supplies) complete() error {
	if s.Interval < 0 {
		return errors.New("broker: Supplies.Interval must not be negative")
	}
	if s.Interval == 0 {
		s.Interval = time.Hour
	}
	for _, from := range append([]string{s.TrustAnchors}, s.RevocationLists...) {
		if isURI(from) && s.Web == nil {
			return errors.New("broker: Supplies.Web is required for URIs")
		}
	}
	return nil
}

func isURI(from string) bool {
	return strings.HasPrefix(from, "https://") || strings.HasPrefix(from, "http://")
}

// supply is one of the Supplies and what is known of it.
type supply struct {
	from    string
	anchors bool // else it is a file of revocation lists

	mu     sync.Mutex
	before transport.Download // of a URI
	due    time.Time          // a URI is looked at then
	stamp  string             // of a file
	data   []byte
	failed string // why it could not be read, the last time
	// has tells which version of it each TEE was brought.
	has map[*managedTEE][32]byte
}

func (s *Supplies) all() []*supply {
	var all []*supply
	if s.TrustAnchors != "" {
		all = append(all, &supply{from: s.TrustAnchors, anchors: true, has: map[*managedTEE][32]byte{}})
	}
	for _, from := range s.RevocationLists {
		all = append(all, &supply{from: from, has: map[*managedTEE][32]byte{}})
	}
	return all
}

// Supply looks at what the agents are supplied with, and brings each of them what it does not have yet.
// What could not be had, and what an agent does not take, is told as an event and in the error; one that an
// agent refused is not brought to it again.
func (b *Broker) Supply(ctx context.Context) error {
	var errs []error
	for _, s := range b.supplies {
		errs = append(errs, b.supply(ctx, s))
	}
	return errors.Join(errs...)
}

func (b *Broker) supply(ctx context.Context, s *supply) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := b.look(ctx, s); err != nil {
		err = fmt.Errorf("%s: %w", s.from, err)
		if text := err.Error(); s.failed != text { // once, and not every two seconds
			s.failed = text
			b.emit(Event{Kind: EventSupply, URI: s.from, Err: err})
		}
		return err
	}
	s.failed = ""
	if s.data == nil {
		return nil
	}
	version := sha256.Sum256(s.data)
	var errs []error
	for _, t := range b.tees {
		if has, ok := s.has[t]; ok && has == version {
			continue
		}
		err := b.bring(ctx, t, s.anchors, s.data)
		if err == nil || errors.Is(err, link.ErrRefused) || errors.Is(err, link.ErrUnknownCall) {
			s.has[t] = version
		}
		if err == nil || s.has[t] == version {
			b.emit(Event{TEE: t.Name, Kind: EventSupply, URI: s.from, Bytes: len(s.data), Err: err})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("TEE %q: %s: %w", t.Name, s.from, err))
		}
	}
	return errors.Join(errs...)
}

// look reads a supply if it may have changed.
func (b *Broker) look(ctx context.Context, s *supply) error {
	limit := int64(link.MaxRevocationFile)
	if s.anchors {
		limit = link.MaxAnchors
	}
	if !isURI(s.from) {
		return s.readFile(limit)
	}
	o := b.options
	now := o.Now()
	if now.Before(s.due) {
		return nil
	}
	spread := o.PolicyJitter * float64(o.Supplies.Interval)
	s.due = now.Add(o.Supplies.Interval + time.Duration((2*o.Random()-1)*spread))
	found, err := o.Supplies.Web.Changed(ctx, s.from, s.before, limit)
	if err != nil || found == nil {
		return err
	}
	s.data = found.Data
	s.before = transport.Download{ETag: found.ETag, LastModified: found.LastModified}
	return nil
}

// readFile reads a file that changed. One that does not exist is none yet.
func (s *supply) readFile(limit int64) error {
	f, err := os.Open(s.from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	stamp := fmt.Sprint(st.ModTime().UnixNano(), st.Size())
	if stamp == s.stamp {
		return nil
	}
	if st.Size() > limit {
		return fmt.Errorf("%d bytes are more than %d", st.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err == nil && len(data) > 0 {
		s.data, s.stamp = data, stamp
	}
	return err
}

func (b *Broker) bring(ctx context.Context, t *managedTEE, anchors bool, data []byte) error {
	if !anchors {
		return t.Agent.RenewRevocationLists(ctx, [][]byte{data})
	}
	return t.Agent.ReplaceTrustAnchors(ctx, data)
}

// bringAgain has everything brought again to an agent that was away: what it could not check yet, it may not
// have kept.
func (b *Broker) bringAgain(t *managedTEE) {
	for _, s := range b.supplies {
		s.mu.Lock()
		delete(s.has, t)
		s.mu.Unlock()
	}
}

// keepSupplied is Supply every now and then, until ctx ends.
func (b *Broker) keepSupplied(ctx context.Context) {
	if len(b.supplies) == 0 {
		return
	}
	for ctx.Err() == nil {
		b.Supply(ctx) //nolint:errcheck // told as events
		if b.options.Sleep(ctx, fileInterval) != nil {
			return
		}
	}
}

// ReplaceTrustAnchors brings a set of trust anchors that the administrator of the device signed to the
// agents of every TEE that fits, and has them ask their TAMs: what they were doing goes on under the new set.
func (b *Broker) ReplaceTrustAnchors(ctx context.Context, signed []byte, r Requirements) error {
	return b.bringAll(ctx, r, true, signed)
}

// RenewRevocationLists brings a file of X.509 CRLs to the agents of every TEE that fits.
func (b *Broker) RenewRevocationLists(ctx context.Context, file []byte, r Requirements) error {
	return b.bringAll(ctx, r, false, file)
}

func (b *Broker) bringAll(ctx context.Context, r Requirements, anchors bool, data []byte) error {
	fitting, err := b.pick(r)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range fitting {
		if err := b.bring(ctx, t, anchors, data); err != nil {
			errs = append(errs, b.agentFailed(t, 0, err))
		} else if anchors {
			b.policyCheck(ctx, t) //nolint:errcheck // told as events, and in the status
		}
	}
	return errors.Join(errs...)
}
