package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam/api"
)

// install has an app ask for the application, and looks at every message that this caused.
func install(ctx context.Context, s *story) error {
	if _, err := s.run(ctx, "teep", "app", "request", "--broker", "device/app.sock", "hello"); err != nil {
		return err
	}
	all, err := s.passed()
	if err != nil {
		return err
	}
	if s.messages.connected != s.tamURI {
		return fmt.Errorf("the broker connected to %q instead of %s", s.messages.connected, s.tamURI)
	}
	s.tell("an app asked the broker for %q; the agent named %s, and the broker connected there", "hello", s.tamURI)
	query, err := s.checkQuery(all)
	if err != nil {
		return err
	}
	if err := s.checkResponse(all, query); err != nil {
		return err
	}
	if err := s.checkOutcome(all, 1, 0); err != nil {
		return err
	}
	return s.checkInventory(ctx, "hello/manifest", 1)
}

func (s *story) checkQuery(all []message) (*teep.QueryRequest, error) {
	query, raw, ok := find[*teep.QueryRequest](all)
	if !ok {
		return nil, errors.New("no QueryRequest passed the broker")
	}
	if len(query.Challenge) < 8 || query.Token != nil {
		return nil, errors.New("the QueryRequest does not have a challenge and no token, as one that asks for attestation must")
	}
	for _, file := range []string{"tam/keys/esp256.pem", "tam/keys/ed25519.pem"} {
		key, err := s.key(file)
		if err != nil {
			return nil, err
		}
		only, err := cose.NewKeySet(key.Public())
		if err != nil {
			return nil, err
		}
		if _, err := teep.Open(raw, only, teep.OpenOptions{}); err != nil {
			return nil, fmt.Errorf("the QueryRequest cannot be verified with %s alone: %w", file, err)
		}
	}
	s.tell("TAM → agent: QueryRequest, fresh challenge of %d bytes; its ESP256 (-9) and its Ed25519 (-19) signature both verify", len(query.Challenge))
	return query, nil
}

// checkResponse opens the Evidence with the TAM's decryption key and looks for what it must bind.
func (s *story) checkResponse(all []message, query *teep.QueryRequest) error {
	response, raw, ok := find[*teep.QueryResponse](all)
	if !ok {
		return errors.New("no QueryResponse passed the broker")
	}
	if len(response.RequestedComponents) != 1 || suit.ComponentID(response.RequestedComponents[0].ID).String() != "'hello'" {
		return fmt.Errorf("the QueryResponse requests %v instead of hello", response.RequestedComponents)
	}
	if !eat.IsEncrypted(response.AttestationPayload) {
		return errors.New("the Evidence is readable on its way")
	}
	key, err := s.key("tam/keys/encryption.pem")
	if err != nil {
		return err
	}
	token, err := eat.Decrypt(response.AttestationPayload, cose.DecryptKeys{key})
	if err != nil {
		return err
	}
	open := cose.UnverifiedPayload
	if s.inMachine() {
		open = boundClaims
	}
	payload, err := open(token)
	if err != nil {
		return err
	}
	claims, err := eat.ParseClaims(payload)
	if err != nil {
		return err
	}
	if err := claims.CheckProfile(); err != nil {
		return err
	}
	if !bytes.Equal(claims.Nonce, query.Challenge) {
		return errors.New("eat_nonce is not the challenge")
	}
	agentKey, err := cose.NewKeySet(claims.Confirmation.Key)
	if err != nil {
		return err
	}
	if _, err := teep.Open(raw, agentKey, teep.OpenOptions{}); err != nil {
		return fmt.Errorf("cnf does not name the key that signed the QueryResponse: %w", err)
	}
	public, err := claims.Confirmation.Key.CryptoPublic()
	if err != nil {
		return err
	}
	if ec, is := public.(*ecdsa.PublicKey); is {
		if s.agentKey, err = ec.Bytes(); err != nil {
			return err
		}
		s.agentKey = s.agentKey[1:33] // X, behind the byte that says "uncompressed"
	}
	s.tell("agent → TAM: QueryResponse with Evidence for this challenge (cnf, ueid, oemid, hwmodel, hwversion, manifests), encrypted to the TAM")
	return nil
}

// checkOutcome looks at the Update, which must install and unlink so many manifests, and at the
// Success that answered it.
func (s *story) checkOutcome(all []message, install, unlink int) error {
	update, _, ok := find[*teep.Update](all)
	if !ok {
		return errors.New("no Update passed the broker")
	}
	if update.ErrorCode != 0 {
		return fmt.Errorf("the TAM refused: %v: %s", update.ErrorCode, update.ErrorMessage)
	}
	if len(update.Manifests) != install || len(update.UnneededManifests) != unlink {
		return fmt.Errorf("the Update installs %d manifests instead of %d, and unlinks %d instead of %d",
			len(update.Manifests), install, len(update.UnneededManifests), unlink)
	}
	success, _, ok := find[*teep.Success](all)
	if !ok {
		if e, _, ok := find[*teep.Error](all); ok {
			return fmt.Errorf("the agent answered the Update with %v: %s", e.Code, e.Message)
		}
		return errors.New("no Success passed the broker")
	}
	if !bytes.Equal(success.Token, update.Token) {
		return errors.New("the Success does not carry the Update's token")
	}
	for _, raw := range success.SUITReports {
		report, err := s.openReport(raw)
		if err != nil {
			return err
		}
		if report.Failure != nil || !bytes.Equal(report.Nonce, update.Token) {
			return errors.New("the SUIT Report tells of a failure, or its nonce is not the Update's token")
		}
	}
	if len(success.SUITReports) == 0 {
		return errors.New("the Success carries no SUIT Report")
	}
	what := "a manifest-list"
	if unlink > 0 {
		what = "an unneeded-manifest-list"
	}
	s.tell("TAM → agent: Update with %s; agent → TAM: Success, with %d SUIT Report whose nonce is the Update's token", what, len(success.SUITReports))
	return nil
}

// openReport takes signature and encryption off a SUIT Report, with the TAM's key.
func (s *story) openReport(raw []byte) (*suit.Report, error) {
	inner, err := cose.UnverifiedPayload(raw)
	if err != nil {
		return nil, err
	}
	key, err := s.key("tam/keys/encryption.pem")
	if err != nil {
		return nil, err
	}
	opened, err := suit.OpenReport(inner, suit.OpenReportOptions{
		AuthenticatedByContainer: true, RequireEncryption: true, DecryptKeys: cose.DecryptKeys{key},
	})
	if err != nil {
		return nil, err
	}
	return opened.Report, nil
}

// devices asks the TAM what it knows.
func (s *story) devices(ctx context.Context) ([]api.Device, error) {
	text, err := s.run(ctx, "teep", "devices", "--json", "--tam", s.apiURL, "--token-file", "tam/token")
	if err != nil {
		return nil, err
	}
	var all []api.Device
	return all, json.Unmarshal([]byte(text), &all)
}

// checkInventory compares what the TAM knows of the device with what should be installed;
// sequence 0 means that nothing should.
func (s *story) checkInventory(ctx context.Context, manifest string, sequence uint64) error {
	all, err := s.devices(ctx)
	if err != nil {
		return err
	}
	if s.device == "" && len(all) == 1 {
		s.device = all[0].ID // the first and, until the attacks, the only one
	}
	i := slices.IndexFunc(all, func(d api.Device) bool { return d.ID == s.device })
	if i < 0 {
		return fmt.Errorf("the TAM knows %d devices, and not the one of this story", len(all))
	}
	d := all[i]
	if d.Attestation.Status != "affirming" {
		return fmt.Errorf("the device's attestation is %s", d.Attestation.Status)
	}
	if manifest != "" {
		id, err := suit.ParseComponentID(manifest)
		if err != nil {
			return err
		}
		manifest = id.String()
	}
	installed := "nothing"
	if len(d.Inventory) > 0 {
		installed = fmt.Sprintf("%s #%d", d.Inventory[0].Manifest, d.Inventory[0].Sequence)
	}
	want := "nothing"
	if sequence > 0 {
		want = fmt.Sprintf("%s #%d", manifest, sequence)
	}
	if installed != want || len(d.Inventory) > 1 {
		return fmt.Errorf("the TAM's inventory of the device says %s instead of %s", installed, want)
	}
	s.tell("teep devices: %.8s… %s, attestation %s (%d claims appraised), installed: %s",
		d.ID, d.Status, d.Attestation.Status, len(d.Attestation.Claims), installed)
	return nil
}
