//go:build pkcs11 && cgo

package pkcs11_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	token "github.com/miekg/pkcs11"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/pkcs11"
	"github.com/go-teep/teep/suit"
)

// softHSM finds the library of Debian's package softhsm2.
func softHSM(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("SoftHSM is not installed: apt-get install softhsm2")
	}
	t.Skip("SoftHSM is not installed: apt-get install softhsm2")
	return ""
}

const (
	userPIN   = "1234"
	tokenName = "developer"
)

// curves by algorithm: mechanism to make a key, and CKA_EC_PARAMS.
var curves = map[cose.Algorithm]struct {
	mechanism uint
	params    []byte
}{
	cose.AlgESP256:  {token.CKM_EC_KEY_PAIR_GEN, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
	cose.AlgESP384:  {token.CKM_EC_KEY_PAIR_GEN, []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}},
	cose.AlgEd25519: {0x1055, []byte{0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'}},
}

// newToken makes a token with a key for each algorithm, labelled with its name.
func newToken(t *testing.T) (module string) {
	t.Helper()
	module = softHSM(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	p := token.New(module)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Initialize())
	defer func() { must(p.Finalize()) }()
	slots, err := p.GetSlotList(true)
	must(err)
	must(p.InitToken(slots[0], "so-pin", tokenName))
	slots, err = p.GetSlotList(true)
	must(err)
	session, err := p.OpenSession(slots[0], token.CKF_SERIAL_SESSION|token.CKF_RW_SESSION)
	must(err)
	must(p.Login(session, token.CKU_SO, "so-pin"))
	must(p.InitPIN(session, userPIN))
	must(p.Logout(session))
	must(p.Login(session, token.CKU_USER, userPIN))
	id := byte(0)
	for alg, c := range curves {
		id++
		attribute := token.NewAttribute
		_, _, err := p.GenerateKeyPair(session, []*token.Mechanism{token.NewMechanism(c.mechanism, nil)},
			[]*token.Attribute{attribute(token.CKA_TOKEN, true), attribute(token.CKA_VERIFY, true), attribute(token.CKA_EC_PARAMS, c.params),
				attribute(token.CKA_LABEL, alg.String()), attribute(token.CKA_ID, []byte{id})},
			[]*token.Attribute{attribute(token.CKA_TOKEN, true), attribute(token.CKA_SIGN, true), attribute(token.CKA_PRIVATE, true),
				attribute(token.CKA_SENSITIVE, true), attribute(token.CKA_EXTRACTABLE, false),
				attribute(token.CKA_LABEL, alg.String()), attribute(token.CKA_ID, []byte{id})})
		must(err)
	}
	must(p.CloseSession(session))
	return module
}

// An envelope that a token signed verifies like any other.
func TestTokenSignsEnvelopes(t *testing.T) {
	where := pkcs11.Location{Module: newToken(t), Token: tokenName, PIN: userPIN}
	for alg := range curves {
		t.Run(alg.String(), func(t *testing.T) {
			l := where
			l.Object = alg.String()
			key, err := pkcs11.Open(l)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := cose.NewSigner(alg, key)
			if err != nil {
				t.Fatal(err)
			}
			var m suit.Manifest
			m.SequenceNumber = 1
			m.Common.Components = []suit.ComponentID{suit.NewComponentID("app")}
			m.Validate.Commands = suit.Sequence{suit.Condition(suit.CondImageMatch, 0)}
			e, err := suit.Builder{Manifest: m}.Build()
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Sign(rand.Reader, signer); err != nil {
				t.Fatal(err)
			}
			keys, err := cose.NewKeySet(signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Verify(keys, suit.VerifyOptions{}); err != nil {
				t.Error(err)
			}
			severalAtOnce(t, signer)
			if err := errors.Join(key.Close(), key.Close()); err != nil {
				t.Error(err)
			}
			if _, err := signer.Sign(rand.Reader, []byte("late")); err == nil {
				t.Error("a closed key signs")
			}
		})
	}
}

func severalAtOnce(t *testing.T, signer cose.Signer) {
	t.Helper()
	verifier, err := signer.Public().Verifier()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			message := fmt.Appendf(nil, "message %d", i)
			signature, err := signer.Sign(rand.Reader, message)
			if err == nil {
				err = verifier.Verify(message, signature)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestLostSession: a key signs on after its session was ended from outside, or the library was.
func TestLostSession(t *testing.T) {
	l := pkcs11.Location{Module: newToken(t), Token: tokenName, PIN: userPIN, Object: cose.AlgESP256.String()}
	key, err := pkcs11.Open(l)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close() //nolint:errcheck // tested elsewhere
	signer, err := cose.NewSigner(cose.AlgESP256, key)
	if err != nil {
		t.Fatal(err)
	}
	other := token.New(l.Module)
	slots, err := other.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{
		"sessions": func() error { return other.CloseAllSessions(slots[0]) },
		"library":  other.Finalize,
	} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		severalAtOnce(t, signer)
	}
	if err := other.Finalize(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv("SOFTHSM2_CONF"), fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\n", t.TempDir()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(rand.Reader, []byte("x")); err == nil || !strings.Contains(err.Error(), "could not be begun again") {
		t.Errorf("without its token: %v", err)
	}
}

func TestTokenRefuses(t *testing.T) {
	good := pkcs11.Location{Module: newToken(t), Token: tokenName, PIN: userPIN, Object: cose.AlgESP256.String()}
	for name, change := range map[string]func(l *pkcs11.Location){
		"no such token":            func(l *pkcs11.Location) { l.Token = "another" },
		"no such key":              func(l *pkcs11.Location) { l.Object = "another" },
		"label of one, id of none": func(l *pkcs11.Location) { l.ID = []byte{99} },
		"wrong PIN":                func(l *pkcs11.Location) { l.PIN = "4321" },
		"several keys":             func(l *pkcs11.Location) { l.Object = "" },
		"not a library":            func(l *pkcs11.Location) { l.Module = os.Args[0] },
	} {
		l := good
		change(&l)
		if k, err := pkcs11.Open(l); err == nil {
			_ = k.Close()
			t.Errorf("%s: opened", name)
		}
	}
	k, err := pkcs11.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := cose.NewSigner(cose.AlgEd25519, k); err == nil {
		t.Error("a P-256 key signs with Ed25519")
	}
}
