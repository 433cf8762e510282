package tam_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

// TestPreviewsGoOn: what one preview does not look at, the next one does, and together they found what one finds.
func TestPreviewsGoOn(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	for i := range 5 {
		a := w.agent(cose.AlgESP256)
		a.ueid = []byte(fmt.Sprintf("\x01device-%010d", i))
		a.session()
	}
	proposal := tam.Proposal{Group: &policy.Group{Name: "all", Match: "true", Components: []policy.Component{{Manifest: manifestID("app").String(), Mode: tam.ModeRequired}}}}
	whole, err := w.tam.Preview(ctx(), proposal, tam.PreviewOptions{Examples: 10})
	must(t, err)
	if !whole.Complete || whole.Next != "" || whole.Devices != 5 || whole.Changed != 5 || len(whole.Examples) != 5 {
		t.Fatalf("%+v", whole)
	}
	for page := range int64(7) {
		if page == 0 {
			continue // all
		}
		var found []tam.PreviewedDevice
		var devices, requests int64
		for after := ""; ; requests++ {
			p, err := w.tam.Preview(ctx(), proposal, tam.PreviewOptions{After: after, MaxDevices: page, Examples: 10})
			must(t, err)
			found, devices = append(found, p.Examples...), devices+p.Devices
			if p.Complete != (p.Next == "") || requests > 5 {
				t.Fatalf("%+v", p)
			}
			if after = p.Next; p.Complete {
				break
			}
		}
		if devices != 5 || !reflect.DeepEqual(found, whole.Examples) {
			t.Errorf("pages of %d: %d devices, %v", page, devices, found)
		}
	}
}

// TestPreviewsEndInTime: a preview of more devices than there is time for says where to go on.
func TestPreviewsEndInTime(t *testing.T) {
	w := newWorld(t)
	c := w.config
	c.Store, c.Blobs = &manyDevices{Store: w.store, pages: 3, each: func(int) { w.clock.advance(time.Second) }}, noBlobs{}
	many, err := tam.New(ctx(), c)
	must(t, err)
	proposal := tam.Proposal{Group: &policy.Group{Name: "all", Match: "true"}}
	p, err := many.Preview(ctx(), proposal, tam.PreviewOptions{Until: w.clock.read().Add(2 * time.Second)})
	must(t, err)
	if p.Complete || p.Devices != 1100 || p.Next != "000001-000099" {
		t.Fatalf("%d devices, complete %v, next %q", p.Devices, p.Complete, p.Next)
	}
	p, err = many.Preview(ctx(), proposal, tam.PreviewOptions{Until: w.clock.read()})
	must(t, err)
	if p.Complete || p.Devices != 100 {
		t.Fatalf("without time, %d devices", p.Devices)
	}
	p, err = many.Preview(ctx(), proposal, tam.PreviewOptions{})
	must(t, err)
	if !p.Complete || p.Devices != 3500 {
		t.Fatalf("with all the time, %d devices, complete %v", p.Devices, p.Complete)
	}
}

// TestPreviewOfARolloutWithWindows: what it would change is shown at any time of day.
func TestPreviewOfARolloutWithWindows(t *testing.T) {
	w := newWorld(t)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	a.succeed(a.update())
	must(t, w.store.PutAssignment(ctx(), tam.Assignment{Manifest: manifestID("app"), Mode: tam.ModeAvailable, Staged: true, StagedFrom: 1}))
	w.publish(release{name: "app", sequence: 2, payload: "two"})
	p, err := w.tam.Preview(ctx(), tam.Proposal{Rollout: &policy.Rollout{Name: "two", Manifest: manifestID("app").String(), Sequence: 2,
		Stages: []policy.Stage{{Percent: 100}}, Windows: []policy.Window{{From: "03:00", To: "03:01"}}}}, tam.PreviewOptions{})
	must(t, err)
	if p.Updates != 1 || p.Chosen != 1 {
		t.Errorf("%d updates, %d chosen", p.Updates, p.Chosen)
	}
}
