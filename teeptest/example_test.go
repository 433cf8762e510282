package teeptest_test

import (
	"context"
	"fmt"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/teeptest"
)

func ExampleNew() {
	// Inside a test, t is the test's own.
	t := new(exampleT)
	defer t.end()
	ctx := context.Background()

	w := teeptest.New(t, teeptest.Options{})
	w.Publish(w.Component("hello", 1, "hello, world"))
	if err := w.Device.Request(ctx, "hello"); err != nil {
		fmt.Println(err)
	}
	answer, err := w.Device.Invoke(ctx, "hello", "greet", nil)
	fmt.Printf("%s %v\n", answer, err)
	// Output: hello, world <nil>
}

// Whatever the network does, the device ends with what the TAM requires of it.
func ExampleRelay_SetFaults() {
	t := new(exampleT)
	defer t.end()
	ctx := context.Background()

	w := teeptest.New(t, teeptest.Options{Seed: 7})
	w.Publish(w.FetchedComponent("hello", 3, "hello, world"))
	w.Assign("hello", tam.ModeRequired)
	w.Relay.SetFaults(teeptest.Faults{Drop: 0.3, Duplicate: 0.3, Replay: 0.3, FlipBit: 0.3})
	for range 10 {
		w.Clock.Advance(settleTime)
		w.Device.PolicyCheck(ctx) //nolint:errcheck // the network is as bad as can be
		w.CheckAsked()
	}
	w.Settle(ctx, w.Device)
	fmt.Println(w.Device.Sequence("hello"), len(w.Relay.Log()) > 0)
	// Output: 3 true
}
