package describe_test

import (
	"fmt"
	"log"
	"testing/fstest"

	"github.com/go-teep/teep/suit/describe"
)

func Example() {
	files := fstest.MapFS{"hello.wasm": {Data: []byte("\x00asm\x01\x00\x00\x00")}}
	result, err := describe.Build([]byte(`
manifest-component-id: [hello, manifest]
sequence-number: 1
vendor: {domain: example.com}
class: {name: sandbox-wasm}
components:
  - id: [hello]
    payload: {file: hello.wasm, integrated: true}
`), describe.Options{Name: "hello.yaml", ReadFile: describe.FromFS(files)})
	if err != nil {
		log.Fatal(err)
	}
	// The envelope still has to be signed: result.Envelope.Sign(rand.Reader, signer).
	manifest, err := result.Envelope.UnverifiedManifest()
	if err != nil {
		log.Fatal(err)
	}
	for _, command := range manifest.Install.Commands {
		fmt.Println(command.Code)
	}

	_, err = describe.Build([]byte("sequence-number: 1\ncomponent: []"), describe.Options{Name: "hello.yaml"})
	fmt.Println(err)
	// Output:
	// directive-override-parameters
	// directive-fetch
	// condition-image-match
	// hello.yaml:2:1: "component" is not known in description: did you mean "components"?
}
