package agent_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// assigned are the codes that the text defines (TEEP §4.6).
func assigned() (codes []teep.ErrorCode) {
	for c := teep.ErrorCode(1); c <= 23; c++ {
		if strings.HasPrefix(c.String(), "ERR_") {
			codes = append(codes, c)
		}
	}
	return codes
}

// future is a message of a type that is not assigned.
type future struct{}

func (future) Type() teep.MessageType                  { return 9 }
func (future) Frame() (teep.Frame, error)              { return teep.Frame{Type: 9}, nil }
func (w *world) ask(q *teep.QueryRequest) teep.Message { return w.exchange(w.one, q) }

// TestEveryErrorCodeIsProduced: each code of the text has a situation in which the agent answers so, with
// what the text wants beside it, and a text for people.
func TestEveryErrorCodeIsProduced(t *testing.T) {
	produce := map[teep.ErrorCode]func(w *world) teep.Message{
		teep.ErrPermanentError: func(w *world) teep.Message {
			q := query(t, teep.DataAttestation)
			q.Challenge = nil
			return w.ask(q)
		},
		teep.ErrUnsupportedExtension: func(w *world) teep.Message { return w.exchange(w.one, future{}) },
		teep.ErrUnsupportedFreshnessMechanisms: func(w *world) teep.Message {
			q := query(t, teep.DataAttestation)
			q.FreshnessMechanisms = []teep.FreshnessMechanism{teep.FreshnessTimestamp}
			return w.ask(q)
		},
		teep.ErrUnsupportedMsgVersion: func(w *world) teep.Message {
			q := query(t, teep.DataTrustedComponents)
			q.Versions = []teep.Version{7}
			return w.ask(q)
		},
		teep.ErrUnsupportedCipherSuites: func(w *world) teep.Message {
			q := query(t, teep.DataTrustedComponents)
			q.CipherSuites = []teep.CipherSuite{teep.CipherSuiteSign1Ed25519()}
			ask, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protectWith(q, w.one.ed))
			if err != nil {
				t.Fatal(err)
			}
			return w.decode(ask)
		},
		teep.ErrBadCertificate:     func(w *world) teep.Message { return certified(t, w, time.Hour, true) },
		teep.ErrCertificateExpired: func(w *world) teep.Message { return certified(t, w, -time.Hour, false) },
		teep.ErrAttestationRequired: func(w *world) teep.Message {
			v := newWorld(t)
			v.one.mustAttest = true
			v.start()
			return v.ask(query(t, teep.DataTrustedComponents))
		},
		teep.ErrUnsupportedSUITReport: func(w *world) teep.Message {
			q := query(t, teep.DataTrustedComponents)
			q.SUITProfiles = []teep.SUITProfile{teep.SUITProfileEd25519A128CTR()}
			return w.ask(q)
		},
		teep.ErrTemporaryError: func(w *world) teep.Message {
			fetch, err := w.agent.ProcessTeepMessage(t.Context(), w.connect(w.one).Session, w.protect(w.one, install(t, w.fetchedHello(1, "app"))))
			if err != nil || fetch.Fetch == nil {
				t.Fatalf("%+v, %v", fetch, err)
			}
			return w.exchange(w.two, install(t, w.simple("two", 1, "app", "integrated: true")))
		},
		teep.ErrManifestProcessingFailed: func(w *world) teep.Message { return w.exchange(w.one, install(t, []byte{0xa0})) },
	}
	for _, code := range assigned() {
		t.Run(code.String(), func(t *testing.T) {
			if produce[code] == nil {
				t.Fatal("no situation is known in which the agent says so")
			}
			w := newWorld(t)
			w.start()
			e, ok := produce[code](w).(*teep.Error)
			if !ok || e.Code != code || e.Message == "" {
				t.Fatalf("got %#v", e)
			}
			for what, is := range map[teep.ErrorCode]bool{
				teep.ErrUnsupportedFreshnessMechanisms: e.FreshnessMechanisms != nil, teep.ErrUnsupportedMsgVersion: e.Versions != nil,
				teep.ErrUnsupportedCipherSuites: e.CipherSuites != nil, teep.ErrUnsupportedSUITReport: e.SUITProfiles != nil,
				teep.ErrAttestationRequired: e.Challenge != nil,
			} {
				if is != (what == code) && (code != teep.ErrAttestationRequired || what != teep.ErrUnsupportedFreshnessMechanisms) {
					t.Errorf("what belongs to %v is there: %v", what, is)
				}
			}
		})
	}
}

// certified sends a QueryRequest of a TAM that is trusted by certificate.
func certified(t *testing.T, w *world, validFor time.Duration, byStranger bool) teep.Message {
	t.Helper()
	ca := newAuthority(t, w.device.now.AddDate(-1, 0, 0))
	issuer := ca
	if byStranger {
		issuer = newAuthority(t, w.device.now.AddDate(-1, 0, 0))
	}
	carrier := newTAM(t, "carrier")
	root := strings.ReplaceAll(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}))), "\n", "\n        ")
	set := strings.Replace(string(w.trust()), "signers:\n", fmt.Sprintf(
		"  - name: carrier\n    uris: [%s]\n    certificate-subject: tam.carrier.example\n    certificate-authority: |\n        %s\nsigners:\n", carrier.uri, root), 1)
	v := newWorld(t)
	if _, err := v.tryStart([]byte(set)); err != nil {
		t.Fatal(err)
	}
	payload, err := teep.Encode(query(t, teep.DataTrustedComponents))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := carrier.p256.Signer()
	if err != nil {
		t.Fatal(err)
	}
	chain := issuer.certify(t, "tam.carrier.example", carrier.p256, w.device.now.Add(validFor))
	raw, err := cose.Sign1(nil, payload, signer, cose.SignOptions{X5Chain: [][]byte{chain}})
	if err != nil {
		t.Fatal(err)
	}
	ask, err := v.agent.ProcessTeepMessage(t.Context(), v.connect(carrier).Session, raw)
	if err != nil {
		t.Fatal(err)
	}
	return v.decode(ask)
}

// TestEveryErrorCodeIsHandled: what a TAM says of a QueryResponse decides when it is talked to again: late
// where nothing suggests that it will go better soon, early otherwise (TEEP §4.6).
func TestEveryErrorCodeIsHandled(t *testing.T) {
	pause := map[teep.ErrorCode]time.Duration{
		teep.ErrPermanentError:                 6 * time.Hour,
		teep.ErrUnsupportedExtension:           time.Minute, // none was used: the TAM may be another one soon
		teep.ErrUnsupportedFreshnessMechanisms: time.Minute, // of agents, as the next four
		teep.ErrUnsupportedMsgVersion:          time.Minute,
		teep.ErrUnsupportedCipherSuites:        time.Minute,
		teep.ErrUnsupportedSUITReport:          time.Minute,
		teep.ErrManifestProcessingFailed:       time.Minute,
		teep.ErrBadCertificate:                 time.Minute, // an operator renews, and may do so any time
		teep.ErrCertificateExpired:             time.Minute,
		teep.ErrAttestationRequired:            time.Minute,
		teep.ErrTemporaryError:                 time.Minute,
		22:                                     time.Minute, // not assigned
		999:                                    time.Minute, // beyond the range
	}
	for _, code := range slices.Concat(assigned(), []teep.ErrorCode{22, 999}) {
		t.Run(code.String(), func(t *testing.T) {
			wait, ok := pause[code]
			if !ok {
				t.Fatal("nobody says how the agent handles it")
			}
			w := newWorld(t)
			var log bytes.Buffer
			w.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			w.start()
			u := &teep.Update{Token: token(t), ErrorCode: code, ErrorMessage: "warum", ErrorLanguage: "de-CH"}
			if s, ok := w.exchange(w.one, u).(*teep.Success); !ok {
				t.Fatalf("got %#v", s)
			}
			for _, part := range []string{code.String(), "warum", "de-CH"} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("the log has no %q for people (TEEP §4.4):\n%s", part, log.String())
				}
			}
			w.device.now = w.device.now.Add(wait - time.Second)
			if w.due(w.one) {
				t.Errorf("asked again before %s passed", wait)
			}
			w.device.now = w.device.now.Add(time.Second)
			if !w.due(w.one) {
				t.Errorf("not asked again after %s", wait)
			}
		})
	}
}

// due tells whether a policy check names the TAM.
func (w *world) due(which *tam) bool {
	w.t.Helper()
	found := false
	for range 8 {
		ask, err := w.agent.RequestPolicyCheck(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if ask.TAMURI == "" {
			return found
		}
		found = found || strings.HasPrefix(ask.TAMURI, which.uri)
	}
	w.t.Fatal("the round does not end")
	return false
}
