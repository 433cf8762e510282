package teep

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/internal/vectors"
)

// draftExamples are appendix D of the text.
func draftExamples(tb testing.TB) map[string][]byte {
	tb.Helper()
	examples := make(map[string][]byte)
	for _, name := range []string{"query_request", "query_response", "update", "teep_success", "teep_error"} {
		examples[name] = vectors.Hex(tb, "teep/"+name+".hex.txt")
	}
	return examples
}

func TestDraftExamplesEncodeToTheSameBytes(t *testing.T) {
	for name, data := range draftExamples(t) {
		m, err := Decode(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := EncodeUnchecked(m)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: encodes to\n%x, want\n%x (%v)", name, again, data, err)
		}
	}
}

// The examples of messages that the rules for senders allow can also be sent; the other two are
// the faults that README.md of the vectors lists.
func TestDraftExamplesAgainstTheRulesForSenders(t *testing.T) {
	faults := map[string]string{
		"query_request":  "token with the attestation bit",
		"query_response": "attestation-payload is empty",
	}
	for name, data := range draftExamples(t) {
		m, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Encode(m)
		if fault := faults[name]; fault == "" && err != nil || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%s: %v, want %q", name, err, fault)
		}
	}
}

func TestDraftExampleValues(t *testing.T) {
	token := []byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
	examples := draftExamples(t)
	decode := func(name string) Message {
		m, err := Decode(examples[name])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(TokenOf(m), token) {
			t.Errorf("%s: token %x", name, TokenOf(m))
		}
		return m
	}
	q := decode("query_request").(*QueryRequest)
	if len(q.CipherSuites) != 2 || !q.CipherSuites[0].Equal(CipherSuiteSign1ESP256()) || !q.CipherSuites[1].Equal(CipherSuiteSign1Ed25519()) {
		t.Errorf("cipher suites %v", q.CipherSuites)
	}
	if len(q.SUITProfiles) != 4 || q.SUITProfiles[3] != SUITProfileEd25519ChaCha20Poly1305() {
		t.Errorf("profiles %v", q.SUITProfiles)
	}
	if q.DataItems != DataAttestation|DataTrustedComponents {
		t.Errorf("data items %v", q.DataItems)
	}
	r := decode("query_response").(*QueryResponse)
	if r.SelectedVersion == nil || *r.SelectedVersion != 0 || r.AttestationPayload == nil || len(r.AttestationPayload) != 0 || len(r.TrustedComponents) != 1 {
		t.Errorf("query-response %+v", r)
	}
	if u := decode("update").(*Update); len(u.Manifests) != 1 {
		t.Errorf("update %+v", u)
	}
	if e := decode("teep_error").(*Error); e.Code != ErrManifestProcessingFailed || e.Message != "disk-full" {
		t.Errorf("error %+v", e)
	}
	decode("teep_success")
}

func olderPeerKeys(t *testing.T) cose.KeySet {
	t.Helper()
	var set cose.KeySet
	for _, name := range []string{"tam", "teep_agent"} {
		k, err := cose.ParsePEM(vectors.Read(t, "keys/"+name+"_prime256v1.pem"))
		if err != nil {
			t.Fatal(err)
		}
		v, err := k.Public().VerifierFor(cose.AlgES256)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, v)
	}
	return set
}

func TestOlderPeers(t *testing.T) {
	keys := olderPeerKeys(t)
	for name, want := range map[string]MessageType{
		"query_request": TypeQueryRequest, "query_response": TypeQueryResponse, "update": TypeUpdate,
		"teep_success": TypeSuccess, "teep_error": TypeError,
	} {
		data := vectors.Read(t, "teep-es256/"+name+"_cose.cbor")
		var refused *ValidationError
		if _, err := Open(data, keys, OpenOptions{}); !errors.As(err, &refused) || refused.Step != StepHeader {
			t.Errorf("%s: without the mode: %v, want a refusal at step %d", name, err, StepHeader)
		}
		opened, err := Open(data, keys, OpenOptions{InsecureOlderPeers: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if opened.Message.Type() != want || opened.Algorithm != cose.AlgES256 {
			t.Errorf("%s: a %v by %v", name, opened.Message.Type(), opened.Algorithm)
		}
		again, err := EncodeUnchecked(opened.Message)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// query_response has the legacy label 5 in the middle; it comes back at the end.
		if name != "query_response" && !bytes.Equal(again, opened.Payload) {
			t.Errorf("%s: encodes to\n%x, want\n%x", name, again, opened.Payload)
		}
		if r, ok := opened.Message.(*QueryResponse); ok && r.Extensions[5] == nil {
			t.Errorf("%s: the legacy label 5 is lost", name)
		}
	}
}

// Tokens of Evidence and results are no TEEP messages: refused as such, at the last step.
func TestOlderPeersOtherObjects(t *testing.T) {
	verifier, err := cose.ParsePEM(vectors.Read(t, "keys/verifier_prime256v1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.Public().VerifierFor(cose.AlgES256)
	if err != nil {
		t.Fatal(err)
	}
	data := vectors.Read(t, "teep-es256/attestation_results_cose.cbor")
	var refused *ValidationError
	if _, err := Open(data, cose.KeySet{v}, OpenOptions{InsecureOlderPeers: true}); !errors.As(err, &refused) || refused.Step != StepMessage {
		t.Errorf("attestation result: %v", err)
	}
}
