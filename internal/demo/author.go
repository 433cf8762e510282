package demo

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// helloYAML describes one version of the application. Sequence numbers order versions for devices;
// the version text is for people.
func helloYAML(sequence int, version string) string {
	return fmt.Sprintf(`manifest-component-id: [hello, manifest]
sequence-number: %d
version: "%s"
vendor: {domain: example.com}
class: {name: sandbox-wasm}
components:
  - id: [hello]
    payload: {file: hello-%d.wasm, integrated: true}
text:
  en:
    description: Hello, a Trusted Application
`, sequence, version, sequence)
}

// author makes the signed envelope of version 1 with the commands that developers use.
func author(ctx context.Context, s *story) error {
	if err := s.authorVersion(ctx, 1, "1.0.0"); err != nil {
		return err
	}
	s.tell("teep suit create: hello.yaml and hello.wasm (Go, built for WebAssembly) became an envelope")
	s.tell("teep suit sign, verify: signed with the developer's key, and verified with its public part")
	if reason, err := s.refused(ctx, "", "teep", "suit", "verify", "--key", "tam/keys/verifier.pem", "dev/hello-1.suit"); err != nil {
		return err
	} else if !strings.Contains(reason, "hello-1.suit") {
		return fmt.Errorf("the refusal does not name the envelope: %s", reason)
	}
	shown, err := s.run(ctx, "teep", "suit", "show", "dev/hello-1.suit")
	if err != nil {
		return err
	}
	for _, want := range []string{"manifest-sequence-number", "condition-vendor-identifier", "image-digest"} {
		if !strings.Contains(shown, want) {
			return fmt.Errorf("teep suit show does not mention %s", want)
		}
	}
	s.tell("teep suit show: %d lines of annotated diagnostic notation", strings.Count(shown, "\n"))
	return nil
}

func (s *story) authorVersion(ctx context.Context, sequence int, version string) error {
	wasm, err := os.ReadFile(s.program(fmt.Sprintf("hello-%d.wasm", sequence)))
	if err != nil {
		return err
	}
	name := fmt.Sprintf("dev/hello-%d", sequence)
	if err := os.WriteFile(s.path(name+".wasm"), wasm, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(s.path(name+".yaml"), []byte(helloYAML(sequence, version)), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"suit", "create", "-f", name + ".yaml", "-o", name + ".suit"},
		{"suit", "sign", "--key", "dev/dev.pem", name + ".suit"},
		{"suit", "verify", "--key", "dev/dev.pub.pem", name + ".suit"},
	} {
		if _, err := s.run(ctx, "teep", args...); err != nil {
			return err
		}
	}
	return nil
}

// publish uploads version 1, after everything that must be refused was.
func publish(ctx context.Context, s *story) error {
	upload := []string{"publish", "--tam", s.apiURL, "--token-file", "tam/token", "dev/hello-1.suit"}
	if err := os.WriteFile(s.path("tam", "no-token"), nil, 0o600); err != nil {
		return err
	}
	if _, err := s.refused(ctx, "token", "teep", "publish", "--tam", s.apiURL, "--token-file", "tam/no-token", "dev/hello-1.suit"); err != nil {
		return err
	}
	s.tell("refused: upload without a token")
	reason, err := s.refused(ctx, "signer", "teep", upload...)
	if err != nil {
		return err
	}
	s.tell("refused: upload by a signer that the TAM does not know: %s", firstSentence(strings.TrimPrefix(reason, "dev/hello-1.suit: tam: ")))
	if _, err := s.run(ctx, "teep", "publisher", "add", "--tam", s.apiURL, "--token-file", "tam/token",
		"--name", "example-developer", "--key", "dev/dev.pub.pem", "--component", "hello"); err != nil {
		return err
	}
	if _, err := s.run(ctx, "teep", upload...); err != nil {
		return err
	}
	s.tell("teep publish: the TAM knows the developer now, checked the envelope as an agent would, and offers version 1")
	return nil
}

// firstSentence shortens a reason to what was wrong, for one line of the story.
func firstSentence(reason string) string {
	reason, _, _ = strings.Cut(reason, "\n")
	reason, _, _ = strings.Cut(reason, ": ")
	return strings.TrimSuffix(reason, ".")
}
