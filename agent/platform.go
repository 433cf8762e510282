package agent

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/go-teep/teep/agent/trust"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/tee"
)

// platform is the TEE as one run of the SUIT processor sees it: on behalf of one TAM.
type platform struct {
	agent *Agent
	tam   *trust.TAM
	// anchors are those that the processor goes by.
	anchors *trust.Set
	// authority is what they say of who signed manifests.
	authority *trust.Authority
	// run is the Update in progress; nil while an application is started, which fetches nothing
	// and changes nothing.
	run *run
	// invoked collects what suit-directive-invoke named.
	invoked []suit.ComponentID
}

// environmentPlatform also answers the conditions of the update management text.
type environmentPlatform struct {
	*platform
	processor.Environment
}

// newProcessor makes the processor for one run. Trust anchors and revocation lists are those in force now.
// After the run, noteIssuers wants to know what the platform's authority was shown.
func (a *Agent) newProcessor(p *platform) (*processor.Processor, error) {
	a.mu.Lock()
	p.anchors = a.anchors
	p.authority = p.anchors.Authority(a.now(), a.crls)
	a.mu.Unlock()
	var onDevice processor.Platform = p
	if a.cfg.Environment != nil {
		onDevice = environmentPlatform{p, a.cfg.Environment}
	}
	return processor.New(processor.Config{
		Platform:  onDevice,
		Authority: p.authority,
		// The store has room for any component; whose it may be is a matter of rights.
		Components: []suit.ComponentID{{}},
		Limits:     a.cfg.Limits.Processor,
		// The examples of the TEEP text leave the integrity condition out.
		ImplicitDependencyIntegrity: true,
	})
}

// Identity implements processor.Platform. All components live in the one TEE.
func (p *platform) Identity(suit.ComponentID) processor.Identity {
	id := p.agent.cfg.TEE.Identity()
	return processor.Identity{Vendor: id.VendorID, Class: id.ClassID, Device: id.DeviceID}
}

// Begin implements processor.Platform.
func (p *platform) Begin(ctx context.Context) (processor.Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p.agent.begin(p.tam, p.anchors, p.run == nil), nil
}

// Fetch implements processor.Platform: it becomes an Ask.
func (p *platform) Fetch(ctx context.Context, uri string, _ []byte, offset int64) (io.ReadCloser, error) {
	if p.run == nil {
		return nil, errReadOnly
	}
	if uri == "" || len(uri) > link.MaxURI {
		return nil, fmt.Errorf("a URI of %d bytes cannot be fetched; 1 to %d are allowed", len(uri), link.MaxURI)
	}
	return &fetchReader{
		ctx: ctx, run: p.run, retries: p.agent.cfg.Limits.FetchRetries,
		next: link.Fetch{ID: p.run.nextFetch(), URI: uri, Offset: offset, Length: min(p.agent.cfg.Limits.Chunk, link.MaxChunk)},
	}, nil
}

// Keys implements processor.Platform.
func (p *platform) Keys() cose.DecryptKeys {
	key, err := p.agent.cfg.TEE.Keys().Decryption()
	if err != nil {
		p.agent.log.Error("no key to unwrap content keys with", "key", tee.KeyEncryption, "error", err)
		return nil
	}
	return cose.DecryptKeys{key}
}

// Now implements processor.Platform.
func (p *platform) Now() time.Time { return p.agent.now() }

// Invoke implements processor.Platform. It only notes what the manifest wants started: the
// runtime opens it for the app that asked, and its arguments are the app's commands.
func (p *platform) Invoke(_ context.Context, id suit.ComponentID, _ []byte) error {
	p.invoked = append(p.invoked, id.Clone())
	return nil
}
