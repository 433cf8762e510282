package agent

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-teep/teep/agent/state"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/tee"
)

// application is an open Trusted Application.
type application struct {
	id      uint64
	app     suit.ComponentID
	content [32]byte
	// program is what the runtime executes: app itself, or what interprets it; code its content.
	program suit.ComponentID
	code    [32]byte
	session tee.Session
	blobs   []tee.Blob
	// ctx ends when the application is closed, and with it a call in progress.
	ctx    context.Context
	cancel context.CancelFunc
	// calls serializes calls and the end.
	calls  sync.Mutex
	closed bool
}

// OpenSession implements link.Agent: it validates an installed application against its manifest
// and the trust anchors in force, and starts it (SUIT §6, Invocation Procedure).
func (a *Agent) OpenSession(ctx context.Context, component link.ComponentID) (uint64, error) {
	id, err := componentID(component)
	if err != nil {
		return 0, err
	}
	const attempts = 3
	for n := 1; ; n++ {
		record, err := a.reserve(id)
		if err != nil {
			return 0, err
		}
		app, err := a.openReserved(ctx, record, id)
		if err == nil {
			a.log.Info("application opened", "component", id.String())
			return app, nil
		}
		// If it was replaced while it was started, the new one is tried.
		switch {
		case ctx.Err() != nil || a.snapshot() == record:
			return 0, err
		case n == attempts:
			return 0, fmt.Errorf("%w: %w", ErrReplaced, err)
		}
	}
}

func (a *Agent) openReserved(ctx context.Context, record *state.Record, id suit.ComponentID) (uint64, error) {
	app, err := a.open(ctx, record, id)
	a.mu.Lock()
	a.opening--
	if err == nil {
		if err = a.currentLocked(app); err == nil {
			a.apps[app.id] = app
		}
	}
	a.mu.Unlock()
	if err != nil {
		if app != nil {
			err = errors.Join(err, app.close())
		}
		return 0, err
	}
	return app.id, nil
}

// reserve checks that the component may be opened, and takes a place for it.
func (a *Agent) reserve(id suit.ComponentID) (*state.Record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.record.Components[id.Key()]
	if c.Content == nil {
		return nil, ErrNotInstalled
	}
	if err := a.usableLocked(id, c.Content.SHA256); err != nil {
		return nil, err
	}
	if len(a.apps)+a.opening >= a.cfg.Limits.Applications {
		return nil, fmt.Errorf("%w: %d applications are open", ErrLimit, len(a.apps)+a.opening)
	}
	a.opening++
	return a.record, nil
}

// currentLocked tells whether an application may go on: it and what interprets it are what they were.
func (a *Agent) currentLocked(app *application) error {
	return errors.Join(a.usableLocked(app.app, app.content), a.usableLocked(app.program, app.code))
}

// usableLocked tells whether the component holds the content and may be run.
func (a *Agent) usableLocked(id suit.ComponentID, content [32]byte) error {
	c, ok := a.record.Components[id.Key()]
	_, unneeded := a.record.Unneeded[id.Key()]
	_, leaving := a.record.Leaving[id.Key()]
	switch {
	case a.closed:
		return ErrClosed
	case !ok || c.Content == nil || c.Content.SHA256 != content || unneeded || leaving:
		return ErrNotInstalled
	}
	return nil
}

func (a *Agent) open(ctx context.Context, record *state.Record, id suit.ComponentID) (*application, error) {
	m, ok := record.Installer(id)
	if !ok {
		return nil, fmt.Errorf("%w: no manifest installed %s", ErrNotRunnable, id)
	}
	group := personalizers(record, m)
	for _, manifest := range group {
		if _, err := a.validate(ctx, manifest, id, false); err != nil {
			return nil, err
		}
	}
	started, err := a.validate(ctx, m, id, true)
	if err != nil {
		return nil, err
	}
	app := &application{app: id, content: record.Components[id.Key()].Content.SHA256}
	if app.program, app.code, err = programOf(record, m, id, started); err != nil {
		return nil, err
	}
	app.ctx, app.cancel = context.WithCancel(a.life)
	if err := a.launch(ctx, app, record, m, group); err != nil {
		return nil, errors.Join(err, app.close())
	}
	return app, nil
}

// validate runs the manifest's suit-validate section, and for the application's own manifest
// suit-load and suit-invoke too, where it has them. It returns the components that those started.
// A signer who lost the right to a component cannot get it run any longer (RFC 9397 §5.2).
func (a *Agent) validate(ctx context.Context, m state.Manifest, id suit.ComponentID, invoke bool) ([]suit.ComponentID, error) {
	tam, ok := a.trust().TAM(m.Owner)
	if !ok {
		return nil, fmt.Errorf("%w: its TAM %q is not trusted any longer", ErrNotRunnable, m.Owner)
	}
	device := &platform{agent: a, tam: tam}
	p, err := a.newProcessor(device)
	if err != nil {
		return nil, err
	}
	run := p.Validate
	if invoke && invokes(m) {
		run = p.Invoke
	}
	report, err := run(ctx, m.ID, processor.Options{})
	a.noteIssuers(device.authority.Shown())
	if report != nil {
		a.mu.Lock()
		a.boot[m.ID.Key()] = report
		a.mu.Unlock()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrNotRunnable, id, err)
	}
	return device.invoked, nil
}

// invokes tells whether a manifest has a suit-invoke section. The envelope is from sealed state.
func invokes(m state.Manifest) bool {
	e, err := suit.ParseEnvelope(m.Envelope)
	if err != nil {
		return false
	}
	manifest, err := e.UnverifiedManifest()
	return err == nil && manifest.Invoke.Present()
}

// personalizers are the manifests of the same owner that depend on the one that installed the
// application.
func personalizers(record *state.Record, m state.Manifest) []state.Manifest {
	var group []state.Manifest
	for _, id := range m.Dependents {
		if d, ok := record.Manifests[id.Key()]; ok && d.Owner == m.Owner {
			group = append(group, d)
		}
	}
	return group
}

// launch gives the runtime what the application consists of.
func (a *Agent) launch(ctx context.Context, app *application, record *state.Record, m state.Manifest, group []state.Manifest) error {
	open := func(sum [32]byte) (tee.Blob, error) {
		blob, err := a.store.OpenBlob(sum)
		if err == nil {
			app.blobs = append(app.blobs, blob)
		}
		return blob, err
	}
	code, err := open(app.code)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotRunnable, app.app, err)
	}
	runtime := a.cfg.TEE.Runtime()
	if err := runtime.Check(ctx, code); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotRunnable, app.app, err)
	}
	// Check read the code; the runtime gets it from the start.
	if code, err = open(app.code); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotRunnable, app.app, err)
	}
	data := map[string]tee.Blob{}
	files := personalization(record, app.app, m.Owner, group)
	if !app.program.Equal(app.app) {
		files[interpreted] = app.content
	}
	for name, sum := range files {
		if data[name], err = open(sum); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrNotRunnable, app.app, err)
		}
	}
	if err := a.numberApp(app); err != nil {
		return err
	}
	app.session, err = runtime.Open(ctx, tee.Application{
		Name: app.app.String(), Code: code, Personalization: data,
		Data: a.store.AppData([]byte(app.app.Key())), Limits: a.cfg.Limits.Application,
	})
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotRunnable, app.app, err)
	}
	return nil
}

// numberApp gives an application a number that cannot be guessed: apps on the device share a
// broker.
func (a *Agent) numberApp(app *application) error {
	var id [8]byte
	if _, err := io.ReadFull(a.cfg.Rand, id[:]); err != nil {
		return fmt.Errorf("agent: randomness: %w", err)
	}
	app.id = binary.BigEndian.Uint64(id[:])
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.apps[app.id]; taken || app.id == 0 {
		return fmt.Errorf("%w: no free session number; try again", ErrLimit)
	}
	return nil
}

// personalization names the read-only data of an application; see the package comment.
func personalization(record *state.Record, app suit.ComponentID, owner string, group []state.Manifest) map[string][32]byte {
	data := map[string][32]byte{}
	add := func(id, name suit.ComponentID) {
		c, ok := record.Components[id.Key()]
		if ok && c.Content != nil && c.Owner == owner && !id.Equal(app) {
			data[plainName(name)] = c.Content.SHA256
		}
	}
	for _, m := range group {
		for _, id := range m.Components {
			add(id, id)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(record.Components)) {
		if id := record.Components[key].ID; len(id) > len(app) && id.HasPrefix(app) {
			add(id, id[len(app):])
		}
	}
	return data
}

func plainName(id suit.ComponentID) string {
	parts := make([]string, len(id))
	for i, part := range id {
		parts[i] = string(part)
		if !utf8.Valid(part) || strings.ContainsAny(parts[i], "/\x00") || parts[i] == "" || parts[i] == "." || parts[i] == ".." {
			parts[i] = hex.EncodeToString(part)
		}
	}
	return strings.Join(parts, "/")
}

// Invoke implements link.Agent.
func (a *Agent) Invoke(ctx context.Context, app uint64, command string, input []byte) ([]byte, error) {
	a.mu.Lock()
	found, ok := a.apps[app]
	a.mu.Unlock()
	if !ok {
		return nil, ErrSession
	}
	return found.invoke(ctx, command, input)
}

func (app *application) invoke(ctx context.Context, command string, input []byte) ([]byte, error) {
	app.calls.Lock()
	defer app.calls.Unlock()
	if app.closed {
		return nil, ErrSession
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(app.ctx, cancel)()
	output, err := app.session.Invoke(ctx, command, input)
	return output, ofApplication(err)
}

// close ends the application. A call in progress is interrupted.
func (app *application) close() error {
	app.cancel()
	app.calls.Lock()
	defer app.calls.Unlock()
	if app.closed {
		return nil
	}
	app.closed = true
	var errs []error
	if app.session != nil {
		errs = append(errs, app.session.Close())
	}
	for _, b := range app.blobs {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// CloseSession implements link.Agent.
func (a *Agent) CloseSession(_ context.Context, app uint64) error {
	a.mu.Lock()
	found := a.takeApps(func(o *application) bool { return o.id == app })
	a.mu.Unlock()
	if len(found) == 0 {
		return ErrSession
	}
	return found[0].close()
}

// closeReplaced closes applications whose component left, is unneeded, or has other code now.
func (a *Agent) closeReplaced() {
	a.mu.Lock()
	gone := a.takeApps(func(app *application) bool { return a.currentLocked(app) != nil })
	a.mu.Unlock()
	for _, app := range gone {
		if err := app.close(); err != nil {
			a.log.Warn("application did not close well", "component", app.app.String(), "error", err)
		}
	}
}

// takeApps removes the applications that match from the table. The caller holds mu, and closes
// them without it.
func (a *Agent) takeApps(match func(*application) bool) []*application {
	var taken []*application
	for id, app := range a.apps {
		if match(app) {
			delete(a.apps, id)
			taken = append(taken, app)
		}
	}
	return taken
}
