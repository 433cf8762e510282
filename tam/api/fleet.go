package api

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/policy"
)

func (h *handler) listDevices(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	filter, err := deviceFilter(r)
	if err != nil {
		return err
	}
	if text := r.URL.Query().Get(queryUEID); text != "" {
		if filter != (tam.DeviceFilter{}) || r.URL.Query().Get(queryMatch) != "" {
			return badRequest("ueid", "ueid goes with no other filter.", "Leave the others out: a device has few TEEs.")
		}
		return h.listTEEs(w, r, text, after, limit)
	}
	if source := r.URL.Query().Get(queryMatch); source != "" {
		return h.listMatching(w, r, source, filter, after, limit)
	}
	list, err := h.Store.FindDevices(r.Context(), filter, after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewDevice, func(d *tam.Device) string { return d.ID }))
}

// listTEEs lists the records of one device.
func (h *handler) listTEEs(w http.ResponseWriter, r *http.Request, text, after string, limit int) error {
	ueid, err := hex.DecodeString(text)
	if err != nil {
		return badRequest("ueid", "ueid is not hexadecimal.", "Use the UEID as devices show it.")
	}
	list, err := h.Store.DevicesByUEID(r.Context(), ueid)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(d tam.Device) bool { return d.ID <= after })
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewDevice, func(d *tam.Device) string { return d.ID }))
}

// maxLookedAt bounds how many devices one page of a filtered list looks at. A page may have few devices, or
// none, and still lead on.
const maxLookedAt = 20_000

func (h *handler) listMatching(w http.ResponseWriter, r *http.Request, source string, f tam.DeviceFilter, after string, limit int) error {
	matches, err := h.TAM.Matching(source)
	if err != nil {
		return err
	}
	p := Page[Device]{Items: []Device{}}
	for seen := 0; ; {
		list, err := h.Store.FindDevices(r.Context(), f, after, maxPage)
		if err != nil {
			return err
		}
		for i := range list {
			if after = list[i].ID; matches(&list[i]) {
				p.Items = append(p.Items, viewDevice(&list[i]))
			}
			if len(p.Items) == limit {
				p.Next = after
				return writeJSON(w, http.StatusOK, p)
			}
		}
		seen += len(list)
		if len(list) < maxPage {
			return writeJSON(w, http.StatusOK, p)
		}
		if seen >= maxLookedAt {
			p.Next = after
			return writeJSON(w, http.StatusOK, p)
		}
	}
}

// DeviceChange is what an operator changes about a device. What is left out stays.
type DeviceChange struct {
	Status tam.DeviceStatus `json:"status,omitempty"`
	// Labels are added to those that are there, or replace those of the same name; an empty value
	// removes one.
	Labels map[string]string `json:"labels,omitempty"`
}

func (c *DeviceChange) check() error {
	switch {
	case c.Status == "" && len(c.Labels) == 0:
		return badRequest("status", "The request changes nothing.", "Give a status, labels, or both.")
	case c.Status != "" && !c.Status.Valid():
		return badRequest("status", fmt.Sprintf("%q is not a status.", c.Status), "Use pending, accepted, blocked or retired.")
	}
	return policy.CheckLabels(c.Labels)
}

func (h *handler) changeDevice(w http.ResponseWriter, r *http.Request) error {
	var body DeviceChange
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := body.check(); err != nil {
		return err
	}
	// Devices write their record too. Unless the caller insists on a revision, the change is
	// made to whatever is newest.
	for range 5 {
		d, err := h.Store.Device(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		condition := preconditionOf(r)
		if !condition.holds(deviceETag(d)) {
			return tam.ErrConflict
		}
		detail, err := body.apply(d, personOf(r).Name)
		if err != nil {
			return err
		}
		err = h.Store.CommitExchange(r.Context(), tam.Exchange{
			Device: d, Event: &tam.Event{DeviceID: d.ID, At: h.Clock(), Kind: tam.EventStatus, Detail: detail},
			Reindex: body.Status != "", // devices that left the fleet have nothing
		})
		if errors.Is(err, tam.ErrConflict) && !condition.given() {
			continue
		}
		if err != nil {
			return err
		}
		h.log(r, "device changed", "device", d.ID, "what", detail)
		w.Header().Set("ETag", deviceETag(d))
		return writeJSON(w, http.StatusOK, viewDevice(d))
	}
	return tam.ErrConflict
}

// labelChanges says which labels were written and which removed, in the order of their names.
func labelChanges(labels map[string]string) string {
	var changes []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if value := labels[name]; value == "" {
			changes = append(changes, name+" removed")
		} else {
			changes = append(changes, name+"="+value)
		}
	}
	return strings.Join(changes, ", ")
}

// apply makes the change, and says what it was.
func (c *DeviceChange) apply(d *tam.Device, who string) (detail string, err error) {
	if c.Status != "" {
		detail = fmt.Sprintf("%s → %s by %s", d.Status, c.Status, who)
		d.Decide(c.Status, who)
	}
	if len(c.Labels) > 0 {
		d.SetLabels(c.Labels)
		if detail != "" {
			detail += "; "
		}
		detail += fmt.Sprintf("labels %s by %s", labelChanges(c.Labels), who)
		if err := policy.CheckLabels(d.Labels); err != nil {
			return "", err
		}
	}
	return detail, nil
}

// Replacement names the record that a device takes the place of.
type Replacement struct {
	Device string `json:"device"` // ID of the old record
}

func (h *handler) replaceDevice(w http.ResponseWriter, r *http.Request) error {
	var body Replacement
	if err := readJSON(r, &body); err != nil {
		return err
	}
	d, err := h.TAM.ReplaceDevice(r.Context(), r.PathValue("id"), body.Device, personOf(r).Name)
	if err != nil {
		return err
	}
	h.log(r, "device replaced", "device", d.ID, "replaces", body.Device)
	return writeJSON(w, http.StatusOK, viewDevice(d))
}

// DevicePolicy is what a device should have, and who says so.
type DevicePolicy struct {
	Groups []string `json:"groups"`
	// NotEvaluated are groups whose condition cannot be evaluated for the device: it is not in them.
	NotEvaluated []string         `json:"notEvaluated"`
	Manifests    []DeviceManifest `json:"manifests"`
	// Next are the changes that the device's next message brings, whatever it asks for; Notes say why
	// others do not come.
	Next  []string `json:"next"`
	Notes []string `json:"notes"`
	// TEEs are the IDs of other records with the same attested UEID.
	TEEs []string `json:"tees"`
}

// DeviceManifest is what counts for one manifest on a device.
type DeviceManifest struct {
	Manifest string   `json:"manifest"`
	Mode     tam.Mode `json:"mode"`
	Source   string   `json:"source"` // who says so
	// Installed and Offered are sequence numbers; left out: nothing.
	Installed uint64 `json:"installed,omitempty,string"`
	Offered   uint64 `json:"offered,omitempty,string"`
	Rollout   string `json:"rollout,omitempty"` // that brings it
}

func (h *handler) devicePolicy(w http.ResponseWriter, r *http.Request) error {
	e, err := h.TAM.Explain(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	view := DevicePolicy{
		Groups: append([]string{}, e.Groups...), NotEvaluated: append([]string{}, e.NotEvaluated...),
		Manifests: []DeviceManifest{}, Next: append([]string{}, e.Next...), Notes: append([]string{}, e.Notes...), TEEs: []string{},
	}
	for _, m := range e.Manifests {
		one := DeviceManifest{Manifest: m.Manifest.String(), Mode: m.Mode, Source: m.Source, Offered: m.Offered, Rollout: m.Rollout}
		if m.Installed != nil {
			one.Installed = m.Installed.Sequence
		}
		view.Manifests = append(view.Manifests, one)
	}
	if len(e.Device.UEID) > 0 {
		same, err := h.Store.DevicesByUEID(r.Context(), e.Device.UEID)
		if err != nil {
			return err
		}
		for _, d := range same {
			if d.ID != e.Device.ID {
				view.TEEs = append(view.TEEs, d.ID)
			}
		}
	}
	return writeJSON(w, http.StatusOK, view)
}

func (h *handler) devicesWith(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("manifest"))
	if err != nil {
		return err
	}
	sequence, err := strconv.ParseUint(r.PathValue("sequence"), 10, 64)
	if err != nil {
		return badRequest("sequence-number", fmt.Sprintf("%q is not a sequence number.", r.PathValue("sequence")), "Use the number that the list of components shows.")
	}
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.DevicesWith(r.Context(), id, sequence, after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewDevice, func(d *tam.Device) string { return d.ID }))
}

// InstalledCount is how many devices have a version. Sequence 0 is one that is not known here.
type InstalledCount struct {
	Manifest string `json:"manifest"`
	Sequence uint64 `json:"sequence,string"`
	Devices  int64  `json:"devices"`
}

func (h *handler) installed(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	cursor, only, err := versionRange(r, after)
	if err != nil {
		return err
	}
	all, _, err := h.versions.Read(r.Context())
	if err != nil {
		return err
	}
	first := sort.Search(len(all), func(i int) bool { return cursor.Before(all[i].Manifest, all[i].Sequence) })
	list := all[first:min(first+limit+1, len(all))]
	list = within(only, list, func(c *tam.InstalledCount) suit.ComponentID { return c.Manifest })
	return writeJSON(w, http.StatusOK, newPage(list, limit, func(c *tam.InstalledCount) InstalledCount {
		return InstalledCount{c.Manifest.String(), c.Sequence, c.Devices}
	}, func(c *tam.InstalledCount) string { return versionCursor(c.Manifest, c.Sequence) }))
}

// NewKeys are further keys of a publisher.
type NewKeys struct {
	Keys    []string `json:"keys,omitempty"`    // public keys in PEM
	Anchors []string `json:"anchors,omitempty"` // certificates of authorities in PEM
}

func (h *handler) addKeys(w http.ResponseWriter, r *http.Request) error {
	var body NewKeys
	if err := readJSON(r, &body); err != nil {
		return err
	}
	keys, err := parseKeys(body.Keys)
	if err != nil {
		return err
	}
	anchors, err := parseCertificates(body.Anchors)
	if err != nil {
		return err
	}
	p, err := h.TAM.AddPublisherKeys(r.Context(), r.PathValue("name"), keys, anchors)
	if err != nil {
		return err
	}
	h.log(r, "publisher's keys added", "name", p.Name)
	return writeJSON(w, http.StatusOK, viewPublisher(p))
}

func parseKeys(list []string) (keys []*cose.Key, err error) {
	for i, text := range list {
		k, err := cose.ParsePEM([]byte(text))
		switch {
		case err != nil:
			return nil, badRequest("key", fmt.Sprintf("Key %d is not a key in PEM: %v.", i, err), "Send the public key; “teep key public” prints it.")
		case k.IsPrivate():
			return nil, badRequest("private-key", fmt.Sprintf("Key %d is a private key. It was not stored.", i),
				"Send the public key, and replace this one if the connection or a log may have exposed it.")
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseCertificates(list []string) (certificates []*x509.Certificate, err error) {
	for i, text := range list {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
			return nil, badRequest("certificate", fmt.Sprintf("Certificate %d is not one certificate in PEM.", i), "Send the certificate of the authority, and nothing behind it.")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badRequest("certificate", fmt.Sprintf("Certificate %d cannot be read: %v.", i, err), "Send the certificate of the authority.")
		}
		certificates = append(certificates, c)
	}
	return certificates, nil
}

// KeyWithdrawal says why a key is withdrawn.
type KeyWithdrawal struct {
	Reason string `json:"reason"`
	// Remove also takes what it signed off devices, unless a newer version of another key takes its place.
	Remove bool `json:"remove,omitempty"`
}

// SignedVersion is a version that a key signed, and how many devices have it.
type SignedVersion struct {
	Manifest string `json:"manifest"`
	Sequence uint64 `json:"sequence,string"`
	Devices  int64  `json:"devices"`
}

func keyOf(r *http.Request) ([]byte, error) {
	key, err := hex.DecodeString(r.PathValue("key"))
	if err != nil || len(key) != 32 {
		return nil, badRequest("thumbprint", "The thumbprint is not 32 bytes in hexadecimal.", "Use one that the list of publishers shows.")
	}
	return key, nil
}

func (h *handler) withdrawKey(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	var body KeyWithdrawal
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if body.Reason == "" || len(body.Reason) > policy.MaxReason {
		return badRequest("reason", "A reason of 1 to 500 bytes is missing.", "Say in a sentence why the key is withdrawn.")
	}
	if err := h.TAM.WithdrawPublisherKey(r.Context(), r.PathValue("name"), key, body.Reason, body.Remove); err != nil {
		return err
	}
	h.log(r, "publisher's key withdrawn", "name", r.PathValue("name"), "key", r.PathValue("key"))
	return h.signedBy(w, r)
}

func (h *handler) signedBy(w http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	cursor, _, err := versionRange(r, after)
	if err != nil {
		return err
	}
	if _, err := h.Store.Publisher(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	signed, next, err := h.versionsSignedBy(r.Context(), r.PathValue("name"), string(key), cursor, limit)
	if err != nil {
		return err
	}
	p := Page[SignedVersion]{Items: []SignedVersion{}, Next: next}
	devices, err := h.devicesHaving(r.Context(), signed)
	if err != nil {
		return err
	}
	for i, v := range signed {
		p.Items = append(p.Items, SignedVersion{v.Manifest.String(), v.Sequence, devices[i]})
	}
	return writeJSON(w, http.StatusOK, p)
}

// versionsSignedBy lists what a key, or a signer below a certificate, signed for a publisher, and where to go on.
func (h *handler) versionsSignedBy(ctx context.Context, publisher, key string, after tam.VersionCursor, limit int) (signed []tam.Version, next string, err error) {
	for seen := 0; ; {
		list, err := h.Store.ListVersions(ctx, after, maxPage)
		if err != nil {
			return nil, "", err
		}
		for _, v := range list {
			if len(signed) == limit || seen == maxLookedAt {
				return signed, versionCursor(after.Manifest, after.Sequence), nil
			}
			seen++
			after = tam.VersionCursor{Manifest: v.Manifest, Sequence: v.Sequence}
			// Of a version of an older release nobody knows which key signed it.
			if v.Publisher == publisher && (string(v.Signer) == key || string(v.Anchor) == key || v.Signer == nil) {
				signed = append(signed, v)
			}
		}
		if len(list) < maxPage {
			return signed, "", nil
		}
	}
}

// devicesHaving counts the devices that have each of the versions.
func (h *handler) devicesHaving(ctx context.Context, versions []tam.Version) ([]int64, error) {
	devices := make([]int64, len(versions))
	if len(versions) == 0 {
		return devices, nil
	}
	all, _, err := h.versions.Read(ctx)
	if err != nil {
		return nil, err
	}
	for n, v := range versions {
		at := tam.VersionCursor{Manifest: v.Manifest, Sequence: v.Sequence}
		after := sort.Search(len(all), func(i int) bool { return at.Before(all[i].Manifest, all[i].Sequence) })
		if after > 0 && all[after-1].Sequence == v.Sequence && all[after-1].Manifest.Equal(v.Manifest) {
			devices[n] = all[after-1].Devices
		}
	}
	return devices, nil
}
