package rehearse_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/go-teep/teep/suit/describe"
	"github.com/go-teep/teep/suit/processor"
	"github.com/go-teep/teep/suit/processor/rehearse"
)

// An author tries a manifest that nobody has signed yet.
func ExampleDevice_Rehearse() {
	made, err := describe.Build([]byte(`
manifest-component-id: [greeting, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: board}
components:
  - id: [greeting]
    content: {text: hello}
`), describe.Options{})
	if err != nil {
		log.Fatal(err)
	}
	device, err := rehearse.ParseYAML([]byte(`
vendor: {domain: example.com}
class: {name: board}
components: [[greeting]]
`), rehearse.Options{Name: "device.yaml"})
	if err != nil {
		log.Fatal(err)
	}
	outcome, err := device.Rehearse(context.Background(), rehearse.Run{
		Envelope: made.Envelope.Encode(), Procedure: processor.ProcedureUpdate,
		InsecureUnverified: true, Rand: rand.Reader,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range outcome.Trail {
		fmt.Println(step.Command, step.Component)
	}
	fmt.Println("refused:", outcome.Failure != nil)
	// Output:
	// directive-override-parameters 'greeting'
	// condition-vendor-identifier 'greeting'
	// condition-class-identifier 'greeting'
	// directive-override-parameters 'greeting'
	// directive-write 'greeting'
	// condition-image-match 'greeting'
	// directive-override-parameters 'greeting'
	// condition-vendor-identifier 'greeting'
	// condition-class-identifier 'greeting'
	// condition-image-match 'greeting'
	// refused: false
}
