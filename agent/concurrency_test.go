package agent_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/agent"
	"github.com/go-teep/teep/link"
)

// TestConcurrentCalls: apps, policy checks and a TAM at the same time. What runs is always one of
// the versions that were installed, whole, and the last one in the end.
func TestConcurrentCalls(t *testing.T) {
	const versions = 12
	w := newWorld(t)
	w.start()
	w.mustInstall(w.one, w.hello(1, "app 1"))
	var updates [][]byte
	known := map[string]bool{"app 1": true}
	for i := 2; i <= versions; i++ {
		content := fmt.Sprint("app ", i)
		known[content] = true
		updates = append(updates, w.protect(w.one, install(t, w.hello(i, content))))
	}
	asking := w.protect(w.two, query(t, teep.DataTrustedComponents))
	ctx := t.Context()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(f func() error) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop(func() error {
		code, err := w.run("code", nil, "hello")
		// An update closes the session under the app's hands; it opens another one.
		if errors.Is(err, agent.ErrSession) || errors.Is(err, agent.ErrReplaced) {
			return nil
		}
		if err == nil && !known[code] {
			err = fmt.Errorf("ran %q", code)
		}
		return err
	})
	loop(func() error {
		_, err := w.agent.RequestTA(ctx, link.Request{Component: id("shared")})
		return err
	})
	loop(func() error {
		_, err := w.agent.UnrequestTA(ctx, id("shared"))
		return err
	})
	loop(func() error {
		_, err := w.agent.ProcessTeepMessage(ctx, 0, asking)
		return err
	})
	for _, raw := range updates {
		ask, err := w.agent.ProcessTeepMessage(ctx, 0, raw)
		if err != nil {
			t.Error(err)
			break
		}
		if s, ok := w.decode(ask).(*teep.Success); !ok {
			t.Errorf("got %#v", s)
		}
	}
	close(stop)
	wg.Wait()
	w.wantRun(fmt.Sprint("app ", versions))
}

// TestTwoTEEs: a device with two TEEs has two agents in one process, which share nothing.
func TestTwoTEEs(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	a.start()
	b.start()
	a.mustInstall(a.one, a.hello(1, "app of the first"))
	if _, err := b.run("code", nil, "hello"); !errors.Is(err, agent.ErrNotInstalled) {
		t.Error(err)
	}
	a.wantRun("app of the first")
}
