package tam_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/tam"
)

// rotation is a TAM in the middle of one: its new keys are current, and the old ones still count.
type rotation struct {
	*world
	old, new []*cose.Key // ESP256, Ed25519
}

func newRotation(t *testing.T, change ...func(*tam.Config)) *rotation {
	t.Helper()
	r := &rotation{}
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		r.old, r.new = append(r.old, key(t, alg)), append(r.new, key(t, alg))
	}
	r.world = newWorld(t, append(change, func(c *tam.Config) { c.Signers = signersOf(t, r.new, r.old) })...)
	r.publish(release{name: "app", sequence: 1, payload: "one"})
	return r
}

func signersOf(t testing.TB, lists ...[]*cose.Key) (all []cose.Signer) {
	for _, list := range lists {
		for _, k := range list {
			all = append(all, signer(t, k))
		}
	}
	return all
}

// knows is an agent that knows the given keys of the TAM, and nothing of this project's extension.
func (r *rotation) knows(keys ...*cose.Key) (*agent, cose.KeySet) {
	set, err := cose.NewKeySet(keys...)
	must(r.world.t, err)
	return r.agent(keys[0].Alg()), set
}

// ask opens a session for an agent. say adds what it says of the key that it knows.
func (r *rotation) ask(a *agent, set cose.KeySet, say func(*teep.QueryResponse, *cose.Key)) (reply []byte) {
	t := r.world.t
	t.Helper()
	data, err := r.tam.ProcessConnect(ctx())
	must(t, err)
	opened, err := teep.Open(data, set, teep.OpenOptions{})
	must(t, err)
	if q := opened.Message.(*teep.QueryRequest); len(q.CipherSuites) != 2 {
		t.Fatalf("offers %v", q.CipherSuites)
	}
	m := a.response(opened.Message.(*teep.QueryRequest))
	if say != nil {
		say(m, opened.Key)
	}
	reply, err = r.tam.ProcessTeepMessage(ctx(), a.protect(m))
	must(t, err)
	return reply
}

func saysKey(m *teep.QueryResponse, known *cose.Key) {
	m.Extensions, _ = teep.TAMKeyOption(known.Thumbprint()) // 32 bytes are no error
}

// TestRotationForAgentsThatSay: an agent that says which key it knows has its Update under that at once.
func TestRotationForAgentsThatSay(t *testing.T) {
	for i, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		r := newRotation(t)
		for name, keys := range map[string][]*cose.Key{"old": {r.old[i]}, "new": {r.new[i]}, "both": {r.old[i], r.new[i]}} {
			a, set := r.knows(keys...)
			a.requests(componentID("app"))
			opened, err := teep.Open(r.ask(a, set, saysKey), set, teep.OpenOptions{})
			if err != nil || opened.Multiple {
				t.Fatalf("%v, knows %s: %v", alg, name, err)
			}
			if name == "both" && !opened.Key.Equal(r.new[i]) {
				t.Errorf("%v: who knows both is served with the old one", alg)
			}
			a.succeed(opened.Message.(*teep.Update))
			if !bytes.Equal(a.device().TAMKey, opened.Key.Thumbprint()) {
				t.Errorf("%v, knows %s: the record says %x", alg, name, a.device().TAMKey)
			}
		}
	}
}

// TestRotationForOtherAgents: one that does not say it is served under another key when it does not answer,
// and from then on under the one that it answered to.
func TestRotationForOtherAgents(t *testing.T) {
	r := newRotation(t)
	a, set := r.knows(r.old[0])
	a.requests(componentID("app"))
	if _, err := teep.Open(r.ask(a, set, nil), set, teep.OpenOptions{}); !errors.Is(err, cose.ErrUnknownSigner) {
		t.Fatalf("the first guess is the current key: %v", err)
	}
	opened, err := teep.Open(r.ask(a, set, nil), set, teep.OpenOptions{})
	must(t, err)
	a.succeed(opened.Message.(*teep.Update))
	for sequence := range uint64(3) {
		r.publish(release{name: "app", sequence: sequence + 2, payload: "more"})
		opened, err := teep.Open(r.ask(a, set, nil), set, teep.OpenOptions{})
		if err != nil {
			t.Fatalf("version %d: %v", sequence+2, err)
		}
		a.succeed(opened.Message.(*teep.Update))
	}
	use, err := tam.CountKeyUse(ctx(), r.store)
	must(t, err)
	if u := use[string(r.old[0].Thumbprint())]; len(use) != 1 || u.Devices != 1 || u.LastSeen.IsZero() {
		t.Errorf("key use %+v", use)
	}
	// The device is given the new key by other means, and the old one is retired.
	must(t, r.tam.SetKeys(tam.KeyRing{Signers: signersOf(t, r.new), DecryptionKeys: r.config.DecryptionKeys}))
	data, err := r.tam.ProcessConnect(ctx())
	must(t, err)
	if _, err := teep.Open(data, set, teep.OpenOptions{}); !errors.Is(err, cose.ErrUnknownSigner) {
		t.Fatalf("the retired key still signs: %v", err)
	}
	set, err = cose.NewKeySet(r.new[0])
	must(t, err)
	r.publish(release{name: "app", sequence: 9, payload: "last"})
	opened, err = teep.Open(r.ask(a, set, nil), set, teep.OpenOptions{})
	must(t, err)
	a.succeed(opened.Message.(*teep.Update))
}

// TestForeignKeyNames: what an agent says of the TAM's keys chooses among them, and does nothing else.
func TestForeignKeyNames(t *testing.T) {
	r := newRotation(t)
	for name, option := range map[string]teep.RawMessage{
		"unknown":     append([]byte{0x58, 32}, make([]byte, 32)...),
		"another alg": append([]byte{0x58, 32}, r.new[1].Thumbprint()...),
		"short":       {0x41, 1}, "text": {0x61, 'x'}, "empty": {0x40},
	} {
		a, set := r.knows(r.new[0])
		a.requests(componentID("app"))
		reply := r.ask(a, set, func(m *teep.QueryResponse, _ *cose.Key) {
			m.Extensions = map[uint64]teep.RawMessage{teep.ExtensionTAMKey: option}
		})
		if opened, err := teep.Open(reply, set, teep.OpenOptions{}); err != nil || opened.Message.Type() != teep.TypeUpdate {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDecryptionKeysOverlap: what was encrypted to the old key is read as long as it is there.
func TestDecryptionKeysOverlap(t *testing.T) {
	w := newWorld(t)
	old, next := w.encrypt, key(t, cose.AlgECDHESA128KW)
	attested := func() bool {
		a := w.agent(cose.AlgESP256)
		m := a.response(a.connect())
		to := cose.ECDHESRecipient(old.Public(), "EAT Encryption")
		sealed, _, err := cose.Encrypt(rand.Reader, m.AttestationPayload, cose.AlgA128GCM, []cose.Recipient{to}, cose.EncryptOptions{})
		must(t, err)
		m.AttestationPayload = sealed
		a.send(m)
		return a.device() != nil
	}
	must(t, w.tam.SetKeys(tam.KeyRing{Signers: w.config.Signers, DecryptionKeys: []*cose.Key{next, old}}))
	if !attested() {
		t.Error("Evidence to the previous key was not read")
	}
	must(t, w.tam.SetKeys(tam.KeyRing{Signers: w.config.Signers, DecryptionKeys: []*cose.Key{next}}))
	if attested() {
		t.Error("Evidence to a retired key was read")
	}
}

func TestSetKeysRefuses(t *testing.T) {
	r := newRotation(t)
	before := signersOf(t, r.new, r.old)
	var many []cose.Signer
	for range 9 {
		many = append(many, signer(t, key(t, cose.AlgESP256)), signer(t, key(t, cose.AlgEd25519)))
	}
	for name, signers := range map[string][]cose.Signer{
		"none": nil, "no Ed25519": before[:1], "no ESP256": before[1:2], "a key twice": append(before[:4:4], before[0]),
		"more than agents read": many, "nil": append(before[:4:4], nil),
	} {
		if err := r.tam.SetKeys(tam.KeyRing{Signers: signers}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a, set := r.knows(r.old[0])
	a.requests(componentID("app"))
	if _, err := teep.Open(r.ask(a, set, saysKey), set, teep.OpenOptions{}); err != nil {
		t.Errorf("what was refused took the keys in force with it: %v", err)
	}
}

// TestSetKeysInTheMiddleOfASession: a session that began under the old keys ends under the new ones.
func TestSetKeysInTheMiddleOfASession(t *testing.T) {
	r := newRotation(t)
	must(t, r.tam.SetKeys(tam.KeyRing{Signers: signersOf(t, r.old)}))
	a, _ := r.knows(r.old[0])
	a.requests(componentID("app"))
	both, err := cose.NewKeySet(r.old[0], r.new[0])
	must(t, err)
	data, err := r.tam.ProcessConnect(ctx())
	must(t, err)
	opened, err := teep.Open(data, both, teep.OpenOptions{})
	must(t, err)
	must(t, r.tam.SetKeys(tam.KeyRing{Signers: signersOf(t, r.new, r.old)}))
	r.clock.advance(time.Second)
	reply, err := r.tam.ProcessTeepMessage(ctx(), a.protect(a.response(opened.Message.(*teep.QueryRequest))))
	must(t, err)
	if opened, err = teep.Open(reply, both, teep.OpenOptions{}); err != nil {
		t.Fatal(err)
	}
	a.succeed(opened.Message.(*teep.Update))
}
