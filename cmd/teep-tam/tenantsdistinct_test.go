package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/postgres/pgtest"
)

// tenant creates one beside the running service, and has the service look for it.
func (s *liveService) tenant(name string) (folder string) {
	s.t.Helper()
	folder, err := s.config.createTenant(s.t.Context(), name)
	must(s.t, err)
	s.lookForTenants(s.ctx)
	return folder
}

// served tells whether the service has a tenant, and that it and all others that it had are well.
func (s *liveService) served(name string) bool {
	s.t.Helper()
	if s.ctx.Err() != nil {
		s.t.Fatalf("the service ended: %v", context.Cause(s.ctx))
	}
	if got := s.status("/v1/readyz", ""); got != http.StatusOK {
		s.t.Errorf("the service itself answers %d", got)
	}
	return s.status("/t/"+name+"/v1/readyz", "") == http.StatusOK
}

// TestCopiedTenantsAreRefused: what is the same by another name, or a copy, is not a tenant's own.
func TestCopiedTenantsAreRefused(t *testing.T) {
	s := newLiveService(t)
	a := s.tenant("a")
	copied := func(name string) string {
		to := filepath.Join(filepath.Dir(a), name)
		must(t, os.CopyFS(to, os.DirFS(a)))
		must(t, filepath.WalkDir(filepath.Join(to, "keys"), func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chmod(path, 0o700))
		}))
		return to
	}
	for name, change := range map[string]func(folder string){
		"whole":   func(string) {},
		"keys":    func(folder string) { must(t, os.Remove(filepath.Join(folder, tenantStore))) },
		"one-key": func(folder string) { fresh(t, folder); replaceKey(t, a, folder, os.Link) },
		"sym-key": func(folder string) { fresh(t, folder); replaceKey(t, a, folder, os.Symlink) },
		"store": func(folder string) {
			must(t, os.RemoveAll(filepath.Join(folder, "keys")))
			must(t, newKeyFiles(folder))
		},
		"of-main": func(folder string) { fresh(t, folder); replaceKey(t, s.dir, folder, os.Symlink) },
		"sym-data": func(folder string) {
			fresh(t, folder)
			must(t, os.Symlink(filepath.Join(a, tenantStore), filepath.Join(folder, tenantStore)))
		},
	} {
		folder := copied(name)
		change(folder)
		s.lookForTenants(s.ctx)
		if s.served(name) {
			t.Errorf("%s: a copy is served", name)
		}
		if said := s.said.String(); !strings.Contains(said, name+"/tam.yaml") || strings.Count(said, "is a copy of that of") == 0 {
			t.Errorf("%s: the log does not say why: %s", name, said)
		}
		must(t, os.RemoveAll(folder))
	}
	backup := filepath.Join(t.TempDir(), "backup")
	_, err := command(t, "token", "create", "--config", filepath.Join(a, tenantFile), "--name", "ops", "--scope", "administrator")
	must(t, err)
	_, err = command(t, "backup", "--config", filepath.Join(a, tenantFile), backup)
	must(t, err)
	s.change("a", "policy:\n", "policy:\n  query: token\n") // and it is opened anew
	s.lookForTenants(s.ctx)
	restored := copied("restored")
	fresh(t, restored)
	must(t, os.RemoveAll(filepath.Join(restored, tenantBlobs)))
	_, err = command(t, "restore", "--config", filepath.Join(restored, tenantFile), backup)
	must(t, err)
	s.lookForTenants(s.ctx)
	if s.served("restored") || !strings.Contains(s.said.String(), "with the operators' token") {
		t.Errorf("a backup of one tenant is served as another, and operators' tokens count in both: %s", s.said)
	}
	must(t, os.RemoveAll(restored))

	folder := copied("mended")
	fresh(t, folder)
	s.lookForTenants(s.ctx)
	if !s.served("mended") || !s.served("a") {
		t.Errorf("a copy with keys and a store of its own is not served, or its model is not: %s", s.said)
	}
}

// TestKeysThatComeToTenants: a key ring brings a running tenant no key that another has.
func TestKeysThatComeToTenants(t *testing.T) {
	s := newLiveService(t)
	a, b := s.tenant("a"), s.tenant("b")
	_, err := command(t, "keys", "next", "--config", filepath.Join(a, tenantFile))
	must(t, err)
	signs(t, s.instances()[1].keys, 4)
	var next string // which a has since it is served
	ring, err := readRing(filepath.Join(a, defaultRing))
	must(t, err)
	for _, k := range ring.Signing {
		if k.Role == roleNext {
			next = filepath.Join(a, k.Key)
		}
	}
	taken := filepath.Join(b, "keys", "taken.pem")
	must(t, os.Link(next, taken))
	_, err = command(t, "keys", "next", "--config", filepath.Join(b, tenantFile), "--key", "keys/taken.pem")
	must(t, err)
	keys := s.instances()[2].keys
	s.said.wait(t, "what was read before stays in force")
	if !strings.Contains(s.said.String(), "tenant a") {
		t.Errorf("b has a key of a: %s", s.said)
	}
	signs(t, keys, 2)
	must(t, os.Remove(filepath.Join(b, defaultRing)))
	_, err = command(t, "keys", "next", "--config", filepath.Join(b, tenantFile))
	must(t, err)
	signs(t, keys, 4) // its own
}

// signs waits until a tenant, which reads its keys again beside the test, signs with so many.
func signs(t *testing.T, keys *liveKeys, want int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, now := keys.current()
		if len(now) == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it signs with %d keys, want %d", len(now), want)
		}
	}
}

// fresh gives a tenant keys and a store of its own.
func fresh(t *testing.T, folder string) {
	t.Helper()
	for _, file := range []string{"keys", tenantStore, tenantStore + "-wal", tenantStore + "-shm"} {
		must(t, os.RemoveAll(filepath.Join(folder, file)))
	}
	must(t, newKeyFiles(folder))
}

// replaceKey puts another's distribution key in the place of a tenant's.
func replaceKey(t *testing.T, from, folder string, put func(from, to string) error) {
	t.Helper()
	key := filepath.Join("keys", "distribution.pem")
	must(t, os.Remove(filepath.Join(folder, key)))
	must(t, put(filepath.Join(from, key), filepath.Join(folder, key)))
}

// TestTenantsMistakesAreTheirOwn: nothing that is wrong with one tenant ends the service, keeps it from beginning, or uses it up.
func TestTenantsMistakesAreTheirOwn(t *testing.T) {
	s := newLiveService(t)
	s.tenant("good")
	s.tenant("bad")
	before := s.instances()[2]
	for name, mistake := range map[string]string{
		"authorities of agents": "connect: {agents: [\"https://device.example/teep\"], ca-file: gone.pem}\n",
		"a client secret":       "api: {oidc: {issuer: \"https://provider.example\", client-id: x, client-secret-file: gone}}\n",
	} {
		s.change("bad", "policy:\n", mistake+"policy:\n")
		s.lookForTenants(s.ctx)
		if s.instances()[2] != before || !s.served("bad") || !s.served("good") {
			t.Errorf("%s: a mistake was taken over: %s", name, s.said)
		}
		if !strings.Contains(s.said.String(), "gone") {
			t.Errorf("%s: the log says nothing of it", name)
		}
		s.change("bad", mistake, "")
	}

	// What is there already when a service begins.
	s.change("bad", "policy:\n", "nonsense: 1\npolicy:\n")
	again := newService(s.config, s.store, s.log)
	again.run = s.run
	again.beginTenants(s.ctx)
	if all := again.instances(); len(all) != 1 || all[0].config.tenant != "good" || !strings.Contains(s.said.String(), "nonsense") {
		t.Errorf("a service with a tenant that is wrong serves %d others: %s", len(all), s.said)
	}
	for _, i := range again.instances() {
		i.drain()
	}

	// A task that fails all the same.
	failed := errors.New("failed")
	if err := s.ended(before, failed); err != nil || !strings.Contains(s.said.String(), "err=failed") {
		t.Errorf("a task of a tenant ends the service with %v: %s", err, s.said)
	}
	if err := s.ended(s.instances()[0], failed); !errors.Is(err, failed) {
		t.Errorf("a task of the service itself ends with %v", err)
	}
}

// TestRefusedTenantsUseNothingUp: one that is tried again each second leaves nothing open.
func TestRefusedTenantsUseNothingUp(t *testing.T) {
	s := newLiveService(t)
	s.tenant("bad")
	s.change("bad", "policy:\n", "connect: {agents: [\"https://device.example/teep\"], ca-file: gone.pem}\npolicy:\n")
	opened := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if runtime.GOOS != "linux" {
			t.Skip("the files that are open are known on Linux only")
		}
		must(t, err)
		return len(files)
	}
	s.lookForTenants(s.ctx)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what nobody else did
	before, tries := opened(), 20
	for range tries {
		s.lookForTenants(s.ctx)
	}
	if now := opened(); now >= before+tries {
		t.Errorf("%d tries, %d files that stay open", tries, now-before)
	}
}

// TestNamesOfEarlierTenants: a new tenant does not come into what is left of one of the same name.
func TestNamesOfEarlierTenants(t *testing.T) {
	s := newLiveService(t)
	for _, left := range []string{tenantStore, tenantBlobs, defaultRing} {
		folder := s.tenant("left")
		must(t, os.WriteFile(filepath.Join(folder, defaultRing), nil, 0o600))
		for _, file := range []string{"keys", tenantFile, tenantStore, tenantBlobs, defaultRing} {
			if file != left {
				must(t, os.RemoveAll(filepath.Join(folder, file)))
			}
		}
		if _, err := s.config.createTenant(t.Context(), "left"); err == nil || !strings.Contains(err.Error(), left) {
			t.Errorf("where %s is left, a tenant is created: %v", left, err)
		}
		must(t, os.RemoveAll(folder))
		for range 2 {
			s.lookForTenants(s.ctx)
		}
	}
	t.Run("postgres", func(t *testing.T) {
		s := newServiceWithTenants(t, pgtest.Start(t).Database(t))
		main := s.all[""].config
		must(t, os.RemoveAll(filepath.Join(main.Tenants, "a")))
		if _, err := main.createTenant(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "DROP SCHEMA tenant_a CASCADE") {
			t.Errorf("a tenant came into the schema of another: %v", err)
		}
		if _, err := os.Stat(filepath.Join(main.Tenants, "a")); err == nil {
			t.Error("what was refused left a folder")
		}
		if _, err := main.createTenant(t.Context(), "a2"); err != nil {
			t.Error(err)
		}
	})
}

// TestTokensOfTenants: a token that one TAM sent is none at another, although both know the device and its key.
func TestTokensOfTenants(t *testing.T) {
	s := newLiveService(t)
	for _, name := range []string{"a", "b"} {
		s.tenant(name)
		s.change(name, "policy:\n", "policy:\n  query: token\n")
	}
	s.lookForTenants(s.ctx)
	agent, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(t, err)
	encoded, err := agent.Public().MarshalCBOR()
	must(t, err)
	own, err := agent.Signer()
	must(t, err)
	tenants := map[string]*instance{}
	for _, i := range s.instances()[1:] {
		tenants[i.config.tenant] = i
		must(t, i.measured.Store().CommitExchange(t.Context(), tam.Exchange{Device: &tam.Device{
			ID: "device", KeyThumbprint: agent.Public().Thumbprint(), AgentKey: encoded, Status: tam.DeviceAccepted, FirstSeen: time.Now(), LastSeen: time.Now(),
		}}))
	}
	for from, asked := range tenants {
		for to, answered := range tenants {
			offer, err := asked.tam.ProcessConnect(t.Context())
			must(t, err)
			keys, err := asked.config.publicKeys(asked.config.SignKeys)
			must(t, err)
			trusted, err := cose.NewKeySet(keys...)
			must(t, err)
			opened, err := teep.Open(offer, trusted, teep.OpenOptions{})
			must(t, err)
			request, ok := opened.Message.(*teep.QueryRequest)
			if !ok || len(request.Token) == 0 {
				t.Fatalf("%s asks with %+v", from, opened.Message)
			}
			message, err := teep.Protect(rand.Reader, &teep.QueryResponse{Token: request.Token, TrustedComponents: []teep.RawMessage{}}, own)
			must(t, err)
			reply, err := answered.tam.ProcessTeepMessage(t.Context(), message)
			must(t, err)
			if (len(reply) > 0) != (from == to) {
				t.Errorf("the answer to %s at %s: %d bytes come back", from, to, len(reply))
			}
		}
	}
}
