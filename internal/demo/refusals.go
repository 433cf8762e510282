package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/link"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/transport"
)

// refuse plays the attackers. Those against the agent speak to it as a broker that was taken
// over would, with whatever keys the attack assumes to be stolen.
func refuse(ctx context.Context, s *story) error {
	for _, attack := range []func(context.Context, *story) error{
		downgrade, tampered, unknownSigner, untrustedTAM, replayedResponse, unknownMeasurement,
	} {
		if err := attack(ctx, s); err != nil {
			return err
		}
	}
	output, err := s.invoke(ctx, "greet", "Ada")
	if err != nil || !strings.Contains(output, "2.0.0") {
		return fmt.Errorf("after the attacks greet answered %q (%v)", output, err)
	}
	s.tell("after all of them version 2 is installed and runs")
	return nil
}

// downgrade: the TAM itself turned bad, and sends version 1 again.
func downgrade(ctx context.Context, s *story) error {
	envelope, err := os.ReadFile(s.path("dev", "hello-1.suit"))
	if err != nil {
		return err
	}
	return s.refusedUpdate(ctx, "downgrade to version 1, by a TAM that turned bad", envelope, "sequence number")
}

// tampered: one bit of the payload is another. Signatures are of the manifest, so the digest in it
// has to catch this.
func tampered(ctx context.Context, s *story) error {
	envelope, err := s.nextVersion(s.developer)
	if err != nil {
		return err
	}
	payload := envelope.Integrated[integratedKey(envelope)]
	changed := bytes.Clone(payload)
	changed[len(changed)/2] ^= 1
	if err := envelope.AddIntegrated(integratedKey(envelope), changed); err != nil {
		return err
	}
	return s.refusedUpdate(ctx, "tampered payload", envelope.Encode(), "image-match")
}

// unknownSigner: the TAM sends a manifest that nobody signed whom the device trusts.
func unknownSigner(ctx context.Context, s *story) error {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		return err
	}
	stranger, err := key.Signer()
	if err != nil {
		return err
	}
	envelope, err := s.nextVersion(stranger)
	if err != nil {
		return err
	}
	return s.refusedUpdate(ctx, "manifest by an unknown signer", envelope.Encode(), "sign")
}

// untrustedTAM: everything is right except who sends it.
func untrustedTAM(ctx context.Context, s *story) error {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgESP256)
	if err != nil {
		return err
	}
	stranger, err := key.Signer()
	if err != nil {
		return err
	}
	envelope, err := s.nextVersion(s.developer)
	if err != nil {
		return err
	}
	// A stranger gets no answer from the agent: the broker learns why, and has nothing to send.
	_, err = s.attack(ctx, stranger, envelope.Encode())
	if !errors.Is(err, link.ErrRefused) {
		return fmt.Errorf("the agent did not refuse the Update of a stranger: %v", err)
	}
	s.tell("refused: Update by a TAM that is not trusted: %s", firstSentence(strings.TrimPrefix(err.Error(), "the agent did not answer: agent: ")))
	return nil
}

// nextVersion makes version 3, which would be acceptable but for what the attack changes. Its code
// is version 2 with a custom section: content that the TEE has already would not be fetched again.
func (s *story) nextVersion(signer cose.Signer) (*suit.Envelope, error) {
	if _, err := os.Stat(s.path("dev", "hello-3.suit")); errors.Is(err, os.ErrNotExist) {
		section := []byte{0, 6, 4, 'd', 'e', 'm', 'o', 3}
		wasm, err := os.ReadFile(s.program("hello-2.wasm"))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(s.path("dev", "hello-3.wasm"), append(wasm, section...), 0o600); err != nil {
			return nil, err
		}
		if err := os.WriteFile(s.path("dev", "hello-3.yaml"), []byte(helloYAML(3, "3.0.0")), 0o600); err != nil {
			return nil, err
		}
		if _, err := s.run(context.Background(), "teep", "suit", "create", "-f", "dev/hello-3.yaml", "-o", "dev/hello-3.suit"); err != nil {
			return nil, err
		}
	}
	data, err := os.ReadFile(s.path("dev", "hello-3.suit"))
	if err != nil {
		return nil, err
	}
	envelope, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, err
	}
	return envelope, envelope.Sign(rand.Reader, signer)
}

func integratedKey(e *suit.Envelope) string {
	for key := range e.Integrated {
		return key
	}
	return ""
}

// refusedUpdate sends an Update with the TAM's own key, and tells the reason that the agent gives.
func (s *story) refusedUpdate(ctx context.Context, what string, envelope []byte, want string) error {
	e, err := s.attack(ctx, s.tamSigner, envelope)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if e.Code != teep.ErrManifestProcessingFailed || len(e.SUITReports) != 1 {
		return fmt.Errorf("%s: the agent answered %v (%s) with %d reports", what, e.Code, e.Message, len(e.SUITReports))
	}
	report, err := s.openReport(e.SUITReports[0])
	if err != nil {
		return err
	}
	if report.Failure == nil {
		return fmt.Errorf("%s: the SUIT Report tells of a success", what)
	}
	if !strings.Contains(e.Message, want) {
		return fmt.Errorf("%s: refused for another reason than %q: %s", what, want, e.Message)
	}
	s.tell("refused: %s: %s (SUIT Report: %v)", what, e.Message, report.Failure.Reason)
	return nil
}

// attack sends an Update to the agent over the link, as a broker does, and returns its Error.
func (s *story) attack(ctx context.Context, signer cose.Signer, envelope []byte) (*teep.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	token := make([]byte, 16)
	if _, err := io.ReadFull(rand.Reader, token); err != nil {
		return nil, err
	}
	msg, err := teep.Protect(rand.Reader, &teep.Update{Token: token, Manifests: [][]byte{envelope}}, signer)
	if err != nil {
		return nil, err
	}
	if err := s.show(msg, false); err != nil {
		return nil, err
	}
	agent, err := s.dialAgent(ctx, s.agentSocket)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	ask, err := agent.ProcessTeepMessage(ctx, 0, msg)
	if err != nil {
		return nil, fmt.Errorf("the agent did not answer: %w", err)
	}
	if err := s.show(ask.Message, true); err != nil {
		return nil, err
	}
	reply, err := decode(ask.Message)
	if err != nil {
		return nil, err
	}
	e, ok := reply.(*teep.Error)
	if !ok {
		return nil, fmt.Errorf("the agent answered with a %v instead of an Error", reply.Type())
	}
	return e, nil
}

func (s *story) dialAgent(ctx context.Context, socket string) (*link.Client, error) {
	if s.inMachine() {
		return s.dialMachine(ctx, "device")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return link.NewClient(conn, link.ClientOptions{}), nil
}

// replayedResponse: a QueryResponse is good for one answer.
func replayedResponse(ctx context.Context, s *story) error {
	agent, err := s.dialAgent(ctx, s.agentSocket)
	if err != nil {
		return err
	}
	defer agent.Close()
	response, err := s.answerFor(ctx, agent)
	if err != nil {
		return err
	}
	if _, err := s.post(ctx, response); err != nil {
		return err
	}
	if reason, err := s.logged("teep-tam", "reason=replayed"); err == nil {
		return fmt.Errorf("the TAM took the first QueryResponse for a replay: %s", reason)
	}
	if err := s.show(response, true); err != nil {
		return err
	}
	again, err := s.post(ctx, response)
	if err != nil {
		return err
	}
	if len(again) != 0 {
		return errors.New("the TAM answered a QueryResponse that it had seen before")
	}
	if _, err := s.logged("teep-tam", "token or challenge was used before"); err != nil {
		return err
	}
	s.tell("refused: replayed QueryResponse: the TAM stays silent and logs: token or challenge was used before")
	return nil
}

// answerFor gets a QueryRequest from the TAM and the agent's answer to it.
func (s *story) answerFor(ctx context.Context, agent link.Agent) ([]byte, error) {
	query, err := s.post(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := s.show(query, false); err != nil {
		return nil, err
	}
	ask, err := agent.ProcessTeepMessage(ctx, 0, query)
	if err != nil {
		return nil, err
	}
	return ask.Message, s.show(ask.Message, true)
}

// post sends bytes to the TAM, as a broker does.
func (s *story) post(ctx context.Context, message []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.tamURI, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", transport.MediaType)
	if len(message) > 0 {
		r.Header.Set("Content-Type", transport.MediaType)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return nil, fmt.Errorf("the TAM answered %s", resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// logged finds the newest line with a text in a program's log, and returns the text's part of it.
func (s *story) logged(program, text string) (string, error) {
	data, err := os.ReadFile(s.path("logs", program+".log"))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], text) {
			_, reason, _ := strings.Cut(lines[i], "msg=")
			return reason, nil
		}
	}
	return "", fmt.Errorf("the log of %s does not say %q", program, text)
}

// unknownMeasurement: a device whose attestation key is endorsed runs an agent that is not the
// known one. The other agent is the same program with bytes appended, which is enough.
func unknownMeasurement(ctx context.Context, s *story) error {
	if s.inMachine() {
		return patchedMachine(ctx, s)
	}
	program, err := os.ReadFile(s.program("teep-agent"))
	if err != nil {
		return err
	}
	other := s.path("device2", "teep-agent")
	if err := os.MkdirAll(s.path("device2"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(other, append(program, "patched"...), 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{"agent.yaml": deviceConfig, "trust.yaml": s.trustText} {
		if err := os.WriteFile(s.path("device2", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := s.endorse(ctx); err != nil {
		return err
	}
	p, err := s.start("teep-agent-2", other, "serve", "--config", "device2/agent.yaml", "--log-level", "debug")
	if err != nil {
		return err
	}
	socket := s.path("device2", "agent.sock")
	if err := p.ready(ctx, listening("unix", socket)); err != nil {
		return err
	}
	agent, err := s.dialAgent(ctx, socket)
	if err != nil {
		return err
	}
	defer agent.Close()
	return s.refusedEvidence(ctx, agent, "Evidence of a patched agent")
}

// refusedEvidence gives the TAM what an agent answers to its query.
func (s *story) refusedEvidence(ctx context.Context, agent link.Agent, what string) error {
	response, err := s.answerFor(ctx, agent)
	if err != nil {
		return err
	}
	reply, err := s.post(ctx, response)
	if err != nil {
		return err
	}
	if err := s.show(reply, false); err != nil {
		return err
	}
	m, err := decode(reply)
	if err != nil {
		return err
	}
	u, ok := m.(*teep.Update)
	if !ok || u.ErrorCode != teep.ErrAttestationRequired || len(u.Manifests) > 0 {
		return fmt.Errorf("the TAM answered Evidence of an unknown agent with %+v", m)
	}
	s.tell("refused: %s: %v: %s", what, u.ErrorCode, u.ErrorMessage)
	return nil
}

// endorse adds the attestation key of the second device to what the verifier knows. Its reference
// values stay those of the genuine agent: the genuine program makes the second device's keys.
func (s *story) endorse(ctx context.Context) error {
	second, err := s.run(ctx, "teep-agent", "collateral", "--config", "device2/agent.yaml",
		"--owner", "Example Devices", "--insecure-accept-weaknesses")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("tam", "collateral2.yaml"), []byte(second), 0o600); err != nil {
		return err
	}
	return s.rereadCollateral()
}

// rereadCollateral waits until the TAM noticed the new file.
func (s *story) rereadCollateral() error {
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := s.logged("teep-tam", "collateral read again"); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the TAM did not read the new collateral file")
}
