package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
	"github.com/go-teep/teep/tam/policy"
)

// TestPictures makes the pictures of the documentation, of a fleet that could be somebody's:
//
//	TEEP_PICTURES=../../docs/images go test -run Pictures ./tam/console
func TestPictures(t *testing.T) {
	dir := os.Getenv("TEEP_PICTURES")
	if dir == "" {
		t.Skip("skipped: TEEP_PICTURES names no folder for pictures")
	}
	s := newService(t)
	s.cameras(t.Context())
	p := s.visitor(openBrowser(t))
	secret, _, err := api.IssueToken(t.Context(), s.store, api.TokenRequest{Name: "Ada Lovelace", Scopes: []api.Scope{api.ScopeAdministrator}, Lifetime: time.Hour}, s.now, rand.Reader)
	must(t, err)
	p.login(secret)
	keep := func(name string, whole bool) {
		t.Helper()
		_, err := p.page.Eval(`() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))`)
		must(t, err)
		picture, err := p.page.Screenshot(whole, nil)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "console-"+name+".png"), picture, 0o644))
	}
	for _, page := range []picture{{"fleet", ""}, {"device", "devices/" + cameraID(1)}, {"rollout", "rollouts/camera-3"}} {
		p.screen(1200, 900, false)
		p.open(page.path)
		keep(page.name, true)
		p.screen(1200, 900, true)
		keep(page.name+"-dark", true)
		p.screen(390, 844, false)
		keep(page.name+"-phone", true)
	}
	p.screen(1200, 900, true)
	p.open("events")
	keep("events-dark", true)
	p.screen(1200, 900, false)
	p.open("publishers/Acme%20Cameras")
	keep("publisher", true)
	p.screen(1200, 900, false)
	p.open("new-group")
	p.write("name", "berlin")
	p.write("match", `labels.site == "berlin" && attestation == "affirming"`)
	p.write("components", "required 'acme'/'door'\nforbidden 'acme'/'camera'")
	p.await("#preview", "devices are chosen")
	keep("preview", true)
	p.screen(390, 844, true)
	p.open("devices")
	p.click("button", "Menu")
	keep("menu-phone-dark", false)
}

// cameraID is the ID of a device of the fleet.
func cameraID(n int) string {
	sum := sha256.Sum256([]byte{byte(n), byte(n >> 8)})
	return hex.EncodeToString(sum[:16])
}

const fleetSize = 240

// cameras puts a fleet into the store.
func (s *service) cameras(ctx context.Context) {
	s.t.Helper()
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	must(s.t, err)
	public, err := key.Public().MarshalCBOR()
	must(s.t, err)
	camera, door := suit.NewComponentID("acme", "camera"), suit.NewComponentID("acme", "door")
	must(s.t, s.store.AddPublisher(ctx, tam.Publisher{Name: "Acme Cameras", Keys: [][]byte{public}, Anchors: [][]byte{anchor}, Prefixes: []suit.ComponentID{suit.NewComponentID("acme")}, Created: s.now.AddDate(0, -2, 0)}))
	for n, v := range []tam.Version{{Manifest: camera, Sequence: 1, Size: 812}, {Manifest: camera, Sequence: 2, Size: 820}, {Manifest: camera, Sequence: 3, Size: 834}, {Manifest: door, Sequence: 7, Size: 640}} {
		digest := sha256.Sum256([]byte{byte(n)})
		v.Digest, v.Publisher, v.Signer, v.Uploaded = digest[:], "Acme Cameras", key.Thumbprint(), s.now.AddDate(0, 0, 5*n-20)
		v.Components = []tam.VersionComponent{{ID: append(v.Manifest, []byte("app")), Digest: digest[:], Size: 1_200_000 + uint64(n)*35_000}}
		must(s.t, s.store.AddVersion(ctx, v))
	}
	must(s.t, s.store.PutAssignment(ctx, tam.Assignment{Manifest: camera, Mode: tam.ModeRequired, Staged: true, StagedFrom: 2}))
	ada := policy.Person{ID: "0", Name: "Ada Lovelace"}
	_, err = s.tam.CreateRollout(ctx, policy.Rollout{Name: "camera-3", Manifest: camera.String(), Sequence: 3, Require: true,
		Stages: []policy.Stage{{Percent: 10, Soak: policy.Duration(time.Hour)}, {Percent: 50, Soak: policy.Duration(4 * time.Hour)}, {Percent: 100}}}, ada)
	must(s.t, err)
	for n := range fleetSize {
		s.camera(ctx, n, camera, door)
	}
	for range 3 { // it begins, is counted, and opens its second stage
		must(s.t, s.tam.AdvanceRollouts(ctx))
	}
	s.rollsOut(ctx)
	s.session(ctx, key, cameraID(1))
	s.days(ctx, camera, door)
}

// camera puts one device into the store.
func (s *service) camera(ctx context.Context, n int, camera, door suit.ComponentID) {
	s.t.Helper()
	id := cameraID(n)
	print := sha256.Sum256([]byte(id))
	d := &tam.Device{
		ID: id, KeyThumbprint: print[:], AgentKey: []byte{1}, Status: tam.DeviceAccepted, DecidedBy: "rule acme-factory",
		FirstSeen: s.now.AddDate(0, 0, -30).Add(time.Duration(n) * time.Minute), LastSeen: s.now.Add(-time.Duration(n*7%600) * time.Minute),
		UEID: append([]byte{1}, print[:16]...), OEMID: []byte{0x19, 0x7e, 0xd9}, HWModel: []byte("cam-2"), HWVersion: "2.1",
		Labels:      map[string]string{"site": []string{"berlin", "lyon", "porto"}[n%3]},
		Attestation: tam.Attestation{Status: attest.StatusAffirming, At: s.now.Add(-time.Duration(n) * time.Minute), Measurement: print[:]},
		Inventory:   []tam.Installed{{Manifest: camera, Sequence: 2}},
	}
	if n%5 == 0 {
		d.Inventory = append(d.Inventory, tam.Installed{Manifest: door, Sequence: 7})
	}
	reasons := []attest.Reason{
		{Claim: "ueid", Status: attest.StatusAffirming, Text: fmt.Sprintf("device %x, vouched for by Acme Factory", d.UEID)},
		{Claim: "hwmodel", Status: attest.StatusAffirming, Text: "vendor pen:32473, model 63616d2d32, version 2.1"},
		{Claim: "measurements teep-agent", Status: attest.StatusAffirming, Text: "teep-agent 0.1.0, known to Acme Factory"},
		{Claim: "dbgstat", Status: attest.StatusAffirming, Text: "debugging is disabled since boot"},
	}
	switch {
	case n%29 == 3:
		d.Attestation.Status, reasons[3] = attest.StatusContraindicated, attest.Reason{Claim: "dbgstat", Status: attest.StatusContraindicated, Text: "debugging is enabled: whoever debugs can read keys and change code"}
	case n%17 == 1:
		d.Attestation.Status = attest.StatusWarning
		reasons = append(reasons, attest.Reason{Claim: "weaknesses", Status: attest.StatusWarning, Text: "no monotonic counter: rollback of the whole store is not detected"})
	case n%31 == 5:
		d.Status, d.DecidedBy = tam.DevicePending, "nobody"
	case n%53 == 7:
		d.Status, d.DecidedBy = tam.DeviceBlocked, "person Ada Lovelace"
	}
	d.Attestation.Reasons = reasons
	must(s.t, s.store.CommitExchange(ctx, tam.Exchange{Device: d, Reindex: true}))
}

// rollsOut says how far the rollout came.
func (s *service) rollsOut(ctx context.Context) {
	s.t.Helper()
	r, err := s.tam.Rollout(ctx, "camera-3")
	must(s.t, err)
	counts := []tam.RolloutCount{{Rollout: "camera-3", Progress: policy.ProgressSucceeded, Devices: r.Totals[0] - 1}, {Rollout: "camera-3", Progress: policy.ProgressFailed, Devices: 1}}
	must(s.t, s.store.CommitExchange(ctx, tam.Exchange{Counts: counts}))
	s.now = s.now.Add(70 * time.Minute)
	for range 2 {
		must(s.t, s.tam.AdvanceRollouts(ctx))
	}
	must(s.t, s.store.CommitExchange(ctx, tam.Exchange{Counts: []tam.RolloutCount{
		{Rollout: "camera-3", Stage: 1, Progress: policy.ProgressSucceeded, Devices: 44}, {Rollout: "camera-3", Stage: 1, Progress: policy.ProgressOffered, Devices: 17},
		{Rollout: "camera-3", Stage: 1, Progress: policy.ProgressFailed, Devices: 2}}}))
}

// session puts the newest session of a device into the store.
func (s *service) session(ctx context.Context, key *cose.Key, id string) {
	s.t.Helper()
	signer, err := key.Signer()
	must(s.t, err)
	token, digest := []byte("0123456789abcdef"), sha256.Sum256([]byte(id))
	evidence := append([]byte{0xd2, 0x84, 0x43, 0xa1, 0x01, 0x28, 0xa0, 0x58, 0x20}, append(digest[:], 0x40)...)
	for i, m := range []struct {
		way    tam.Direction
		event  tam.EventKind
		detail string
		m      teep.Message
	}{
		{tam.DirectionReceived, tam.EventAttested, "nothing to change", &teep.QueryResponse{AttestationPayload: evidence}},
		{tam.DirectionReceived, tam.EventUpdateSent, "install 'acme'/'camera' sequence number 3", &teep.QueryResponse{AttestationPayload: evidence}},
		{tam.DirectionSent, "", "", &teep.Update{Token: token, UnneededManifests: []teep.ComponentID{{[]byte("acme"), []byte("old")}}}},
		{tam.DirectionReceived, tam.EventSucceeded, "installed 'acme'/'camera' sequence number 3", &teep.Success{Token: token}},
	} {
		at := s.now.Add(time.Duration(i-40) * time.Second)
		if i == 0 {
			at = at.Add(-6 * time.Hour)
		}
		data, err := teep.Protect(rand.Reader, m.m, signer)
		must(s.t, err)
		r := tam.Recorded{DeviceID: id, ID: at.UnixMicro(), At: at, Direction: m.way, Size: len(data), Data: data}
		if i < 2 {
			r.Asked = at.Add(-time.Second)
		}
		must(s.t, s.store.AddRecorded(ctx, []tam.Recorded{r}, 10))
		if m.event != "" {
			must(s.t, s.store.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: id, At: at, Kind: m.event, Detail: m.detail}}))
		}
	}
	for n := range 14 {
		kind, detail := tam.EventAttested, "nothing to change"
		switch n % 7 {
		case 2:
			kind, detail = tam.EventUpdateSent, "install 'acme'/'camera' sequence number 3"
		case 3:
			kind, detail = tam.EventSucceeded, "installed 'acme'/'camera' sequence number 3"
		case 5:
			kind, detail = tam.EventAttestationFailed, "dbgstat: debugging is enabled: whoever debugs can read keys and change code"
		}
		must(s.t, s.store.CommitExchange(ctx, tam.Exchange{Event: &tam.Event{DeviceID: cameraID(n + 2), At: s.now.Add(time.Duration(n-20) * time.Second), Kind: kind, Detail: detail}}))
	}
}

// days says what happened in the last two days, by the hour.
func (s *service) days(ctx context.Context, camera, door suit.ComponentID) {
	s.t.Helper()
	for h := range 48 {
		hour := s.now.Add(time.Duration(h-47) * time.Hour)
		three := int64(max(0, h-40)) * 10
		must(s.t, s.store.AddField(ctx, hour, []tam.InstalledCount{
			{Manifest: camera, Sequence: 1, Devices: int64(max(0, 60-2*h))}, {Manifest: camera, Sequence: 2, Devices: int64(fleetSize-max(0, 60-2*h)) - three},
			{Manifest: camera, Sequence: 3, Devices: three}, {Manifest: door, Sequence: 7, Devices: 20 + int64(h)/2},
		}))
		wave := int64(40 + (h%24)*(24-h%24)/3)
		counts := []tam.Activity{{Hour: hour, Kind: tam.EventAttested, Count: wave}, {Hour: hour, Kind: tam.EventSucceeded, Count: three/4 + int64(h%3)}}
		if failed, _ := strconv.Atoi("0010020000100300001000200001000010002000010010030"[h : h+1]); failed > 0 {
			counts = append(counts, tam.Activity{Hour: hour, Kind: tam.EventFailed, Count: int64(failed)})
		}
		must(s.t, s.store.AddActivity(ctx, counts))
	}
}
