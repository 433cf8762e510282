package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// maxDeposit bounds a request that deposits something: base64 and what is around it.
const maxDeposit = 2*(tam.MaxDepositInfo+tam.MaxDepositData) + 64<<10

// Distributing is the part of a [tam.TAM] that takes deposits.
type Distributing interface {
	DepositRecipient() (*cose.Key, error)
	DepositContentKey(ctx context.Context, manifest suit.ComponentID, sequence uint64, info []byte, publisher string) (*tam.Deposit, error)
	DepositData(ctx context.Context, manifest, component suit.ComponentID, to tam.Audience, info, ciphertext []byte) ([]tam.Deposit, error)
}

// Distribution says to whom deposits are encrypted, and who signs what comes of them.
type Distribution struct {
	// Recipient is the public key, in PEM, that content keys and data are encrypted to.
	Recipient string `json:"recipient"`
}

// ContentKey is the key to a payload that is encrypted to the TAM, for every device that gets the version.
type ContentKey struct {
	Manifest string `json:"manifest"`
	Sequence uint64 `json:"sequence,string"`
	// EncryptionInfo is the SUIT_Encryption_Info that was kept out of the manifest, base64.
	EncryptionInfo []byte `json:"encryptionInfo"`
}

// Personalization is data for devices that have a manifest, encrypted to the TAM.
type Personalization struct {
	Manifest  string `json:"manifest"`
	Component string `json:"component"` // where the data is put
	// Devices limits it to some devices, by ID, or Group to those that are in a group at the time; without
	// both, it is for every device that gets the manifest.
	Devices []string `json:"devices,omitempty"`
	Group   string   `json:"group,omitempty"`
	// EncryptionInfo is a SUIT_Encryption_Info and Ciphertext the data, both base64.
	EncryptionInfo []byte `json:"encryptionInfo"`
	Ciphertext     []byte `json:"ciphertext"`
}

// Deposit is something that the TAM is to bring to devices, without what is in it.
type Deposit struct {
	ID        string          `json:"id"`
	Kind      tam.DepositKind `json:"kind"`
	Manifest  string          `json:"manifest"`
	Sequence  uint64          `json:"sequence,string,omitempty"` // of a content key
	Component string          `json:"component,omitempty"`       // of data
	Device    string          `json:"device,omitempty"`
	Group     string          `json:"group,omitempty"`
	Deposited time.Time       `json:"deposited"`
}

func viewDeposit(d *tam.Deposit) Deposit {
	view := Deposit{ID: d.ID, Kind: d.Kind, Manifest: d.Manifest.String(), Sequence: d.Sequence, Device: d.Device, Group: d.Group, Deposited: d.Deposited}
	if d.Component != nil {
		view.Component = d.Component.String()
	}
	return view
}

func (h *handler) distribution(w http.ResponseWriter, _ *http.Request) error {
	key, err := h.TAM.DepositRecipient()
	if err != nil {
		return err
	}
	pem, err := key.MarshalPEM()
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Distribution{Recipient: string(pem)})
}

func (h *handler) depositKey(w http.ResponseWriter, r *http.Request) error {
	var body ContentKey
	if err := readJSON(r, &body); err != nil {
		return err
	}
	manifest, err := parseID(body.Manifest)
	if err != nil {
		return err
	}
	d, err := h.TAM.DepositContentKey(r.Context(), manifest, body.Sequence, body.EncryptionInfo, caller(r.Context()).Publisher)
	if err != nil {
		return err
	}
	h.log(r, "content key deposited", "manifest", manifest.String(), "sequence", body.Sequence)
	return writeJSON(w, http.StatusCreated, viewDeposit(d))
}

func (h *handler) depositData(w http.ResponseWriter, r *http.Request) error {
	var body Personalization
	if err := readJSON(r, &body); err != nil {
		return err
	}
	var ids [2]suit.ComponentID
	for i, s := range []string{body.Manifest, body.Component} {
		var err error
		if ids[i], err = parseID(s); err != nil {
			return err
		}
	}
	list, err := h.TAM.DepositData(r.Context(), ids[0], ids[1], tam.Audience{Devices: body.Devices, Group: body.Group}, body.EncryptionInfo, body.Ciphertext)
	if err != nil {
		return err
	}
	h.log(r, "data deposited", "manifest", body.Manifest, "component", body.Component, "devices", strings.Join(body.Devices, " "), "group", body.Group)
	return writeJSON(w, http.StatusCreated, newPage(list, len(list), viewDeposit, nil))
}

func (h *handler) listDeposits(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := h.Store.ListDeposits(r.Context(), after, limit+1)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, newPage(list, limit, viewDeposit, func(d *tam.Deposit) string { return d.ID }))
}

func (h *handler) removeDeposit(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := h.Store.RemoveDeposit(r.Context(), id); err != nil {
		return err
	}
	h.log(r, "deposit removed", "id", id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
