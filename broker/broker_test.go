package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-teep/teep/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tamURI = "https://tam.example/tam"

// fakeAgent is an agent whose answers the test scripts. What it was told is in its log.
type fakeAgent struct {
	link.Agent // panics on what a test does not set

	mu          sync.Mutex
	log         []string
	requestTA   func(link.Request) (link.Ask, error)
	policy      func() (link.Ask, error)
	unrequest   func() (link.Ask, error)
	message     func(session uint64, m []byte) (link.Ask, error)
	deliver     func(link.Chunk) (link.Ask, error)
	appraised   func(link.Appraised) (link.Ask, error)
	errorAnswer error
	apps        map[uint64]string
}

func (a *fakeAgent) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, fmt.Sprintf(format, args...))
}

func (a *fakeAgent) told() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.log, "; ")
}

func (a *fakeAgent) RequestTA(_ context.Context, r link.Request) (link.Ask, error) {
	a.note("request %s", r.Component[0])
	return a.requestTA(r)
}
func (a *fakeAgent) UnrequestTA(_ context.Context, c link.ComponentID) (link.Ask, error) {
	a.note("unrequest %s", c[0])
	return a.unrequest()
}
func (a *fakeAgent) RequestPolicyCheck(context.Context) (link.Ask, error) {
	a.note("policy")
	return a.policy()
}
func (a *fakeAgent) ProcessTeepMessage(_ context.Context, s uint64, m []byte) (link.Ask, error) {
	a.note("message %d %s", s, m)
	return a.message(s, m)
}
func (a *fakeAgent) ProcessError(ctx context.Context, s uint64, uri, reason string) error {
	a.note("error %d %s %s (%v)", s, uri, reason, ctx.Err())
	return a.errorAnswer
}
func (a *fakeAgent) Deliver(_ context.Context, c link.Chunk) (link.Ask, error) {
	a.note("chunk %d@%d %q last=%v err=%q", c.FetchID, c.Offset, c.Data, c.Last, c.Err)
	return a.deliver(c)
}
func (a *fakeAgent) OpenSession(_ context.Context, c link.ComponentID) (uint64, error) {
	for app, name := range a.apps {
		if name == string(c[0]) {
			return app, nil
		}
	}
	return 0, link.ErrNotInstalled
}
func (a *fakeAgent) Invoke(_ context.Context, app uint64, command string, _ []byte) ([]byte, error) {
	if _, ok := a.apps[app]; !ok {
		return nil, link.ErrNoSession
	}
	return []byte(a.apps[app] + " " + command), nil
}
func (a *fakeAgent) CloseSession(_ context.Context, app uint64) error {
	a.note("close %d", app)
	return nil
}

type postFunc func(ctx context.Context, uri string, body []byte) ([]byte, error)

func (f postFunc) Post(ctx context.Context, uri string, body []byte) ([]byte, error) {
	return f(ctx, uri, body)
}

type openFunc func(ctx context.Context, uri string, offset int64) (io.ReadCloser, error)

func (f openFunc) Open(ctx context.Context, uri string, offset int64) (io.ReadCloser, error) {
	return f(ctx, uri, offset)
}

func noPost(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("no post expected")
}

func noFetch(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, errors.New("no fetch expected")
}

func newBroker(t *testing.T, a link.Agent, edit func(*Options)) *Broker {
	t.Helper()
	o := Options{TEEs: []TEE{{Name: "one", Agent: a}}, Poster: postFunc(noPost), Fetcher: openFunc(noFetch)}
	if edit != nil {
		edit(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func id(name string) link.ComponentID { return link.ComponentID{[]byte(name)} }

func none() (link.Ask, error) { return link.Ask{}, nil }

// installer answers RequestTA with first until installed is set.
func installer(installed *bool, first link.Ask) func(link.Request) (link.Ask, error) {
	return func(link.Request) (link.Ask, error) {
		if *installed {
			return link.Ask{}, nil
		}
		return first, nil
	}
}

func TestRequestInstalls(t *testing.T) {
	installed := false
	a := &fakeAgent{requestTA: installer(&installed, link.Ask{Session: 7, TAMURI: tamURI})}
	a.message = func(s uint64, m []byte) (link.Ask, error) {
		switch string(m) {
		case "query":
			return link.Ask{Session: s, TAMURI: tamURI, Message: []byte("response")}, nil
		case "update":
			return link.Ask{Session: s, Fetch: &link.Fetch{ID: 3, URI: "https://cdn.example/p", Length: 4}}, nil
		}
		return link.Ask{}, errors.New("unexpected message")
	}
	a.deliver = func(c link.Chunk) (link.Ask, error) {
		if c.Last {
			installed = true
			return link.Ask{Session: 7, TAMURI: tamURI, Message: []byte("success")}, nil
		}
		return link.Ask{Session: 7, Fetch: &link.Fetch{ID: 3, URI: "https://cdn.example/p", Offset: c.Offset + int64(len(c.Data)), Length: 4}}, nil
	}
	var events, progress []string
	opened := 0
	b := newBroker(t, a, func(o *Options) {
		o.Poster = postFunc(func(_ context.Context, uri string, body []byte) ([]byte, error) {
			if uri != tamURI {
				t.Errorf("posted to %s", uri)
			}
			return map[string][]byte{"": []byte("query"), "response": []byte("update"), "success": nil}[string(body)], nil
		})
		o.Fetcher = openFunc(func(_ context.Context, _ string, offset int64) (io.ReadCloser, error) {
			opened++
			return io.NopCloser(strings.NewReader("0123456789"[offset:])), nil
		})
		o.Events = func(e Event) {
			events = append(events, fmt.Sprintf("%s %s %d %s%d", e.TEE, e.Kind, e.Session, e.Message, e.Bytes))
		}
	})
	err := b.Request(context.Background(), Request{Component: id("app")}, func(p Progress) {
		progress = append(progress, fmt.Sprint(p.Kind, p.Bytes))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `request app; message 7 query; message 7 update; chunk 3@0 "0123" last=false err=""; chunk 3@4 "4567" last=false err=""; chunk 3@8 "89" last=true err=""; request app`
	if a.told() != want {
		t.Errorf("the agent was told\n%s, want\n%s", a.told(), want)
	}
	if opened != 1 {
		t.Errorf("%d requests for one payload", opened)
	}
	if got := strings.Join(events, ";"); got != "one connect 7 0;one receive 7 query0;one send 7 response0;one receive 7 update0;one fetch 7 4;one fetch 7 4;one fetch 7 2;one send 7 success0;one done 7 0" {
		t.Errorf("events %s", got)
	}
	if got := strings.Join(progress, ";"); got != "connect0;receive0;send0;receive0;fetch4;fetch8;fetch10;send10" {
		t.Errorf("progress %s", got)
	}
}

func TestRequestOfWhatIsInstalled(t *testing.T) {
	a := &fakeAgent{requestTA: func(link.Request) (link.Ask, error) { return none() }}
	b := newBroker(t, a, nil)
	if err := b.Request(context.Background(), Request{Component: id("app")}, nil); err != nil || a.told() != "request app" {
		t.Errorf("%v, told %s", err, a.told())
	}
}

func TestRequestPassesItsArguments(t *testing.T) {
	var got link.Request
	a := &fakeAgent{requestTA: func(r link.Request) (link.Ask, error) { got = r; return none() }}
	b := newBroker(t, a, nil)
	if err := b.Request(context.Background(), Request{Component: id("a"), TAMURI: "https://hint", MinSequence: 9}, nil); err != nil || got.TAMURI != "https://hint" || got.MinSequence != 9 {
		t.Errorf("%+v, %v", got, err)
	}
}

// The session ended well and brought nothing: that is no success.
func TestRequestOfWhatTheTAMDoesNotProvide(t *testing.T) {
	missing := false
	a := &fakeAgent{requestTA: installer(&missing, link.Ask{Session: 1, TAMURI: tamURI})}
	b := newBroker(t, a, func(o *Options) {
		o.Poster = postFunc(func(context.Context, string, []byte) ([]byte, error) { return nil, nil })
	})
	if err := b.Request(context.Background(), Request{Component: id("app")}, nil); !errors.Is(err, ErrNotProvided) {
		t.Error(err)
	}
}

func TestRequestFailures(t *testing.T) {
	broken := errors.New("broken")
	connect := link.Ask{Session: 5, TAMURI: tamURI}
	for name, c := range map[string]struct {
		ask     link.Ask
		err     error
		post    postFunc
		message func(uint64, []byte) (link.Ask, error)
		want    error
		told    string
	}{
		"agent refuses": {err: broken, want: ErrAgent, told: "request app"},
		"TAM unreachable": {ask: connect, post: func(context.Context, string, []byte) ([]byte, error) { return nil, broken }, want: ErrTransport,
			told: "request app; error 5 " + tamURI + " broker: cannot reach the TAM at " + tamURI + ": broken (<nil>)"},
		"agent fails in the middle": {ask: connect, post: func(context.Context, string, []byte) ([]byte, error) { return []byte("m"), nil },
			message: func(uint64, []byte) (link.Ask, error) { return link.Ask{}, link.ErrClosed }, want: link.ErrClosed, told: "request app; message 5 m"},
		"without end": {ask: connect, post: func(context.Context, string, []byte) ([]byte, error) { return []byte("m"), nil },
			message: func(uint64, []byte) (link.Ask, error) {
				return link.Ask{Session: 5, TAMURI: tamURI, Message: []byte("n")}, nil
			}, want: ErrTooLong,
			told: "request app; message 5 m; message 5 m; message 5 m; error 5 " + tamURI + " broker: session too long: more than 3 messages (<nil>)"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &fakeAgent{requestTA: func(link.Request) (link.Ask, error) { return c.ask, c.err }, message: c.message}
			failed := false
			b := newBroker(t, a, func(o *Options) {
				if c.post != nil {
					o.Poster = c.post
				}
				o.MaxMessages = 3
				o.Events = func(e Event) { failed = failed || e.Kind == EventFailed && e.Err != nil }
			})
			if err := b.Request(context.Background(), Request{Component: id("app")}, nil); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if a.told() != c.told {
				t.Errorf("the agent was told\n%s, want\n%s", a.told(), c.told)
			}
			if !failed {
				t.Error("no event tells of the failure")
			}
		})
	}
}

// Who asked may go; the agent is told nevertheless.
func TestCancelledSession(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &fakeAgent{requestTA: func(link.Request) (link.Ask, error) { return link.Ask{Session: 5, TAMURI: tamURI}, nil }, errorAnswer: link.ErrNoSession}
	b := newBroker(t, a, func(o *Options) {
		o.Poster = postFunc(func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			cancel()
			return nil, ctx.Err()
		})
	})
	if err := b.Request(ctx, Request{Component: id("app")}, nil); !errors.Is(err, context.Canceled) || !errors.Is(err, link.ErrNoSession) {
		t.Error(err)
	}
	if !strings.Contains(a.told(), "error 5") || strings.HasSuffix(a.told(), "(context canceled)") {
		t.Error(a.told())
	}
}

func TestPolicyCheck(t *testing.T) {
	tams := []string{"https://a.example", "https://broken.example", "https://c.example"}
	next := 0
	a := &fakeAgent{policy: func() (link.Ask, error) {
		if next == len(tams) {
			return none()
		}
		next++
		return link.Ask{Session: uint64(next), TAMURI: tams[next-1]}, nil
	}}
	var posted []string
	b := newBroker(t, a, func(o *Options) {
		o.Now = func() time.Time { return time.Unix(1000, 0) }
		o.Poster = postFunc(func(_ context.Context, uri string, _ []byte) ([]byte, error) {
			posted = append(posted, uri)
			if strings.Contains(uri, "broken") {
				return nil, errors.New("down")
			}
			return nil, nil
		})
	})
	if sessions, err := b.PolicyCheck(context.Background()); sessions != len(tams) || !errors.Is(err, ErrTransport) || !slices.Equal(posted, tams) {
		t.Errorf("%d sessions, %v, posted to %v: one TAM that is down keeps no other from being asked", sessions, err, posted)
	}
	if s := b.Status(context.Background())[0]; s.PolicyError == "" || !s.PolicyCheck.Equal(time.Unix(1000, 0)) || s.Busy || !s.Reachable {
		t.Errorf("%+v", s)
	}
	if sessions, err := b.PolicyCheck(context.Background()); sessions != 0 || err != nil {
		t.Error(sessions, err)
	}
	if s := b.Status(context.Background())[0]; s.PolicyError != "" {
		t.Errorf("%+v", s)
	}
}

func TestPolicyCheckFailures(t *testing.T) {
	a := &fakeAgent{policy: func() (link.Ask, error) { return link.Ask{}, link.ErrClosed }}
	if _, err := newBroker(t, a, nil).PolicyCheck(context.Background()); !errors.Is(err, ErrAgent) || !errors.Is(err, link.ErrClosed) {
		t.Error(err)
	}
	a.policy = func() (link.Ask, error) { return link.Ask{Session: 1, TAMURI: tamURI}, nil }
	b := newBroker(t, a, func(o *Options) {
		o.Poster = postFunc(func(context.Context, string, []byte) ([]byte, error) { return nil, nil })
	})
	if _, err := b.PolicyCheck(context.Background()); !errors.Is(err, ErrTooLong) {
		t.Errorf("an agent without end: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	checks := len(a.log)
	b.PolicyCheck(ctx)
	if len(a.log) > checks+2 {
		t.Error("a cancelled check goes on")
	}
}

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	checks := 0
	var slept []time.Duration
	a := &fakeAgent{policy: func() (link.Ask, error) { checks++; return none() }}
	dice := []float64{0, 0.5, 1, 0.5}
	b := newBroker(t, a, func(o *Options) {
		o.PolicyInterval, o.PolicyJitter = time.Hour, 0.5
		o.Random = func() float64 { return dice[len(slept)] }
		o.Sleep = func(ctx context.Context, d time.Duration) error {
			if slept = append(slept, d); len(slept) == 4 {
				cancel()
			}
			return ctx.Err()
		}
	})
	if err := b.Run(ctx); err != nil || checks != 3 {
		t.Errorf("%v, %d checks", err, checks)
	}
	if fmt.Sprint(slept) != "[0s 1h0m0s 1h30m0s 1h0m0s]" {
		t.Errorf("slept %v", slept)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if err := newBroker(t, a, nil).Run(ctx); err != nil || checks != 3 {
		t.Errorf("without interval: %v, %d checks", err, checks)
	}
}

// comingBack is an agent whose connection is lost once, and cannot be made again at once.
type comingBack struct {
	*fakeAgent
	watched, tried int
}

func (a *comingBack) Watch(ctx context.Context) error {
	if a.watched++; a.watched == 1 {
		return link.ErrClosed
	}
	<-ctx.Done()
	return ctx.Err()
}

func (a *comingBack) Check(context.Context) error {
	if a.tried++; a.tried < 3 {
		return link.ErrClosed
	}
	return nil
}

// TestAgentComesBack: an agent that was away is asked what it has left to do as soon as it is back.
func TestAgentComesBack(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := &comingBack{fakeAgent: &fakeAgent{policy: func() (link.Ask, error) { cancel(); return none() }}}
	b := newBroker(t, a, func(o *Options) {
		o.PolicyInterval = time.Hour
		o.Sleep = func(ctx context.Context, d time.Duration) error {
			if d == redialMin || d == 2*redialMin || d == 4*redialMin {
				return ctx.Err()
			}
			<-ctx.Done() // the checks by timer are far away
			return ctx.Err()
		}
	})
	if err := b.Run(ctx); err != nil || a.tried != 3 || a.told() != "policy" {
		t.Errorf("%v, tried %d times, told %q", err, a.tried, a.told())
	}
}

// Sessions of one TEE take turns; who needs what is there does not wait.
func TestSessionsTakeTurns(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	a := &fakeAgent{}
	installed := map[string]bool{"there": true}
	a.requestTA = func(r link.Request) (link.Ask, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if installed[string(r.Component[0])] {
			return none()
		}
		return link.Ask{Session: 1, TAMURI: tamURI + "/" + string(r.Component[0])}, nil
	}
	inside := 0
	b := newBroker(t, a, func(o *Options) {
		o.Poster = postFunc(func(_ context.Context, uri string, _ []byte) ([]byte, error) {
			if inside++; inside > 1 {
				t.Error("two sessions at once")
			}
			entered <- struct{}{}
			<-leave
			inside--
			a.mu.Lock()
			installed[strings.TrimPrefix(uri, tamURI+"/")] = true
			a.mu.Unlock()
			return nil, nil
		})
	})
	ctx := context.Background()
	done := make(chan error, 3)
	go func() { done <- b.Request(ctx, Request{Component: id("first")}, nil) }()
	<-entered
	if !b.Status(ctx)[0].Busy {
		t.Error("not busy")
	}
	for range 2 {
		go func() { done <- b.Request(ctx, Request{Component: id("second")}, nil) }()
	}
	if err := b.Request(ctx, Request{Component: id("there")}, nil); err != nil {
		t.Error(err)
	}
	impatient, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.Request(impatient, Request{Component: id("third")}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting is not cancelled: %v", err)
	}
	leave <- struct{}{}
	<-entered // the second one, once: the other finds it installed
	leave <- struct{}{}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestTEEsAreChosenByRequirements(t *testing.T) {
	agent := func(name string) *fakeAgent {
		return &fakeAgent{
			requestTA: func(link.Request) (link.Ask, error) { return link.Ask{}, errors.New(name) },
			unrequest: none,
		}
	}
	first, second := agent("first"), agent("second")
	b := newBroker(t, nil, func(o *Options) {
		o.TEEs = []TEE{
			{Name: "first", Agent: first, Properties: map[string]string{"type": "sandbox"}},
			{Name: "second", Agent: second, Properties: map[string]string{"type": "vm", "measured": "yes"}},
		}
	})
	for want, r := range map[string]Requirements{
		"first":   {},
		"second":  {Properties: map[string]string{"type": "vm"}},
		"second:": {TEE: "second"},
		"":        {TEE: "second", Properties: map[string]string{"type": "sandbox"}},
		" ":       {Properties: map[string]string{"fast": ""}},
		"  ":      {TEE: "third"},
	} {
		err := b.Request(context.Background(), Request{Component: id("x"), Requirements: r}, nil)
		if name := strings.Trim(want, ": "); name == "" && !errors.Is(err, ErrNoTEE) || name != "" && !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
	if err := b.Unrequest(context.Background(), id("x"), Requirements{}); err != nil || !strings.Contains(first.told(), "unrequest") || !strings.Contains(second.told(), "unrequest") {
		t.Error(err)
	}
	if err := b.Unrequest(context.Background(), id("x"), Requirements{TEE: "third"}); !errors.Is(err, ErrNoTEE) {
		t.Error(err)
	}
}

func TestAppSessions(t *testing.T) {
	a, empty := &fakeAgent{apps: map[uint64]string{9: "hello"}}, &fakeAgent{}
	b := newBroker(t, nil, func(o *Options) { o.TEEs = []TEE{{Name: "empty", Agent: empty}, {Name: "full", Agent: a}} })
	ctx := context.Background()
	s, err := b.Open(ctx, id("hello"), Requirements{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := b.Invoke(ctx, s, "greet", nil); err != nil || string(out) != "hello greet" {
		t.Error(out, err)
	}
	if _, err := b.Open(ctx, id("other"), Requirements{}); !errors.Is(err, link.ErrNotInstalled) {
		t.Error(err)
	}
	if _, err := b.Open(ctx, id("hello"), Requirements{TEE: "nowhere"}); !errors.Is(err, ErrNoTEE) {
		t.Error(err)
	}
	if _, err := b.Invoke(ctx, s+1, "greet", nil); !errors.Is(err, ErrNoSession) {
		t.Error(err)
	}
	if err := b.Close(ctx, s); err != nil || a.told() != "close 9" {
		t.Error(err, a.told())
	}
	if err := b.Close(ctx, s); !errors.Is(err, ErrNoSession) || !errors.Is(err, link.ErrNoSession) {
		t.Error(err)
	}
	s, _ = b.Open(ctx, id("hello"), Requirements{})
	delete(a.apps, 9) // the agent restarted
	for _, want := range []error{link.ErrNoSession, ErrNoSession} {
		if _, err := b.Invoke(ctx, s, "greet", nil); !errors.Is(err, want) {
			t.Error(err)
		}
	}
	if len(b.sessions) != 0 {
		t.Error("a session that is over is remembered")
	}
}

func TestOptions(t *testing.T) {
	valid := func() Options {
		return Options{TEEs: []TEE{{Name: "a", Agent: &fakeAgent{}}}, Poster: postFunc(noPost), Fetcher: openFunc(noFetch)}
	}
	if _, err := New(valid()); err != nil {
		t.Error(err)
	}
	for name, edit := range map[string]func(*Options){
		"no TEE":            func(o *Options) { o.TEEs = nil },
		"TEE without name":  func(o *Options) { o.TEEs[0].Name = "" },
		"TEE without agent": func(o *Options) { o.TEEs[0].Agent = nil },
		"two of one name":   func(o *Options) { o.TEEs = append(o.TEEs, o.TEEs[0]) },
		"no poster":         func(o *Options) { o.Poster = nil },
		"no fetcher":        func(o *Options) { o.Fetcher = nil },
		"jitter beyond 1":   func(o *Options) { o.PolicyJitter = 1.1 },
		"negative interval": func(o *Options) { o.PolicyInterval = -1 },
	} {
		o := valid()
		edit(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
