package api

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// encrypted is data, encrypted to a key.
func (s *service) encrypted(to *cose.Key, alg cose.Algorithm, data string) (info, ciphertext []byte) {
	s.t.Helper()
	r, err := suit.PayloadRecipient(to.Public())
	must(s.t, err)
	var out bytes.Buffer
	info, err = suit.EncryptPayload(rand.Reader, strings.NewReader(data), &out, alg, r)
	must(s.t, err)
	return info, out.Bytes()
}

func (s *service) contentKey(manifest string, sequence uint64) ContentKey {
	info, _ := s.encrypted(s.recipient, cose.AlgA128GCM, "a payload")
	return ContentKey{Manifest: manifest, Sequence: sequence, EncryptionInfo: info}
}

func (s *service) personalization(manifest, component, data string, devices ...string) Personalization {
	info, ciphertext := s.encrypted(s.recipient, cose.AlgA128GCM, data)
	return Personalization{Manifest: manifest, Component: component, Devices: devices, EncryptionInfo: info, Ciphertext: ciphertext}
}

const depositFor = "'acme'/'app'/'suit'"

// TestDeposits: what is deposited is listed without its content, at rest it is encrypted, and it can be
// removed.
func TestDeposits(t *testing.T) {
	s := newService(t)
	operator, ctx := s.client(ScopeOperator, ScopePublisher), t.Context()
	d, err := operator.Distribution(ctx)
	must(t, err)
	recipient, err := cose.ParsePEM([]byte(d.Recipient))
	if err != nil || recipient.IsPrivate() || !recipient.Equal(s.recipient.Public()) {
		t.Fatalf("recipient %q: %v", d.Recipient, err)
	}
	const secret = "the licence that nobody else may read"
	if _, err := operator.DepositContentKey(ctx, s.contentKey(depositFor, 7)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second takes the place of the first
		if _, err := operator.DepositData(ctx, s.personalization(depositFor, "'keys'/'licence'", secret)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := operator.Deposits(ctx, "")
	must(t, err)
	if len(list.Items) != 2 {
		t.Fatalf("%d deposits", len(list.Items))
	}
	stored, err := s.config.Store.ListDeposits(ctx, "", 10)
	must(t, err)
	for _, one := range stored {
		if bytes.Contains(one.Ciphertext, []byte("licence")) || bytes.Contains(one.EncryptionInfo, []byte("licence")) {
			t.Error("a deposit lies in the clear")
		}
	}
	if strings.Contains(s.log.String(), "nobody else") {
		t.Error("the log has it")
	}
	entries, err := s.client(ScopeAuditor).Audit(ctx, "")
	must(t, err)
	put := 0
	for _, e := range entries.Items {
		if e.Action == "deposit.put" {
			put++
		}
	}
	if put != 3 {
		t.Errorf("%d deposits in the audit log", put)
	}
	must(t, operator.RemoveDeposit(ctx, list.Items[0].ID))
	if err := operator.RemoveDeposit(ctx, list.Items[0].ID); err == nil {
		t.Error("removed twice")
	}
}

func TestDepositsAreRefused(t *testing.T) {
	s := newService(t)
	operator, publisher, ctx := s.client(ScopeOperator), s.client(ScopePublisher), t.Context()
	stranger, _ := s.encrypted(key(t, cose.AlgECDHESA128KW), cose.AlgA128GCM, "x")
	open, openData := s.encrypted(s.recipient, cose.AlgA128CTR, "x")
	good := s.personalization(depositFor, "'keys'/'licence'", "x")
	changed := good
	changed.Ciphertext = bytes.Repeat([]byte{1}, len(good.Ciphertext))
	large := good
	large.Ciphertext = make([]byte, tam.MaxDepositData+1)
	elsewhere := s.personalization(depositFor, "'acme'/'app'", "x")
	unknown := s.personalization(depositFor, "'keys'/'licence'", "x", "no-such-device")
	group, both := good, unknown
	group.Group, both.Group = "no-such-group", "no-such-group"
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"data by a publisher":    {second(publisher.DepositData(ctx, good)), http.StatusForbidden},
		"a key by an operator":   {second(operator.DepositContentKey(ctx, s.contentKey(depositFor, 1))), http.StatusForbidden},
		"encrypted to another":   {second(publisher.DepositContentKey(ctx, ContentKey{Manifest: depositFor, Sequence: 1, EncryptionInfo: stranger})), http.StatusUnprocessableEntity},
		"no encryption info":     {second(publisher.DepositContentKey(ctx, ContentKey{Manifest: depositFor, Sequence: 1})), http.StatusUnprocessableEntity},
		"no identifier":          {second(publisher.DepositContentKey(ctx, s.contentKey("", 1))), http.StatusBadRequest},
		"not authenticated":      {second(operator.DepositData(ctx, Personalization{Manifest: depositFor, Component: "'keys'", EncryptionInfo: open, Ciphertext: openData})), http.StatusUnprocessableEntity},
		"changed data":           {second(operator.DepositData(ctx, changed)), http.StatusUnprocessableEntity},
		"too large":              {second(operator.DepositData(ctx, large)), http.StatusUnprocessableEntity},
		"another's component":    {second(operator.DepositData(ctx, elsewhere)), http.StatusUnprocessableEntity},
		"a group that is not":    {second(operator.DepositData(ctx, group)), http.StatusNotFound},
		"a group and a device":   {second(operator.DepositData(ctx, both)), http.StatusUnprocessableEntity},
		"a device that is not":   {second(operator.DepositData(ctx, unknown)), http.StatusNotFound},
		"removing what is not":   {operator.RemoveDeposit(ctx, "0123"), http.StatusNotFound},
		"removed by a publisher": {publisher.RemoveDeposit(ctx, "0123"), http.StatusForbidden},
	} {
		p, ok := c.err.(*Problem)
		if !ok || p.Status != c.status {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	list, err := operator.Deposits(ctx, "")
	must(t, err)
	if len(list.Items) != 0 {
		t.Errorf("%d deposits are left of what was refused", len(list.Items))
	}
}

func second[T any](_ T, err error) error { return err }

// TestDepositKeyOfAnother: a publisher's token is good for its own manifests, and for versions that it
// signed.
func TestDepositKeyOfAnother(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.client(ScopeAdministrator)
	for _, name := range []string{"acme", "other"} {
		k := s.author
		if name == "other" {
			k = key(t, cose.AlgESP256)
		}
		pem, err := k.Public().MarshalPEM()
		must(t, err)
		_, err = admin.AddPublisher(ctx, NewPublisher{Name: name, Keys: []string{string(pem)}, Prefixes: []string{"'" + name + "'"}})
		must(t, err)
	}
	secret, _, err := IssueToken(ctx, s.config.Store, TokenRequest{Name: "ci", Scopes: []Scope{ScopePublisher}, Publisher: "other", Lifetime: 1e12}, s.now, rand.Reader)
	must(t, err)
	other := &Client{BaseURL: s.server.URL, Token: secret, HTTP: s.server.Client()}
	if p, ok := second(other.DepositContentKey(ctx, s.contentKey(depositFor, 1))).(*Problem); !ok || p.Code != "component-identifier" {
		t.Errorf("for another's manifest: %v", p)
	}
	if _, err := other.DepositContentKey(ctx, s.contentKey("'other'/'suit'", 1)); err != nil {
		t.Error(err)
	}
	// The published version has a plain payload: no key would be used.
	_, err = admin.Publish(ctx, s.envelope(1, s.author))
	must(t, err)
	if p, ok := second(admin.DepositContentKey(ctx, s.contentKey(depositFor, 1))).(*Problem); !ok || p.Code != "deposit" {
		t.Errorf("for a plain payload: %v", p)
	}
	must(t, admin.RevokePublisher(ctx, "other"))
	if p, ok := second(other.DepositContentKey(ctx, s.contentKey("'other'/'suit'", 2))).(*Problem); !ok || p.Status != http.StatusForbidden {
		t.Errorf("by a revoked publisher: %v", p)
	}
}
