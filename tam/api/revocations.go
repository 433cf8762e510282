package api

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/go-teep/teep/cose/revocation"
	"github.com/go-teep/teep/tam"
)

// maxRevocationLists leaves room for [revocation.MaxSize] as PEM.
const maxRevocationLists = 2 * revocation.MaxSize

// NewRevocationLists are certificate revocation lists to put in force.
type NewRevocationLists struct {
	// Lists are X.509 CRLs in PEM, one or several in each string. Those of other issuers stay in force.
	Lists []string `json:"lists,omitempty"`
	// Remove also takes what a revoked certificate signed off devices, unless something newer replaces it. Without
	// this member it is as it was.
	Remove *bool `json:"remove,omitempty"`
}

// RevocationLists are the certificate revocation lists of a publisher's signers.
type RevocationLists struct {
	Lists   []RevocationList `json:"lists"`
	Remove  bool             `json:"remove"`
	Renewed *time.Time       `json:"renewed,omitempty"`
	// Versions are those that are not offered, because devices refuse them.
	Versions []RevokedVersion `json:"versions"`
}

// RevocationList is one that is in force.
type RevocationList struct {
	Issuer     string    `json:"issuer"`
	Number     string    `json:"number,omitempty"`
	ThisUpdate time.Time `json:"thisUpdate"`
	// NextUpdate is when the next one is due; without it, nothing of its issuer's signers is taken or offered any more.
	NextUpdate   *time.Time `json:"nextUpdate,omitempty"`
	Certificates int        `json:"certificates"` // that it revokes
	// Known is false of one whose issuer no anchor is and no upload has shown yet: it is of no effect until then.
	Known bool `json:"known"`
}

// RevokedVersion is a version that a certificate signed which is revoked, or whose list is overdue.
type RevokedVersion struct {
	SignedVersion
	Reason string `json:"reason"`
}

func (h *handler) renewRevocationLists(w http.ResponseWriter, r *http.Request) error {
	var body NewRevocationLists
	if err := readJSON(r, &body); err != nil {
		return err
	}
	var lists [][]byte
	for i, text := range body.Lists {
		more, err := revocation.Parse([]byte(text))
		if err != nil {
			return badRequest("revocation-lists", fmt.Sprintf("Entry %d: %v.", i, err), "Send X.509 CRLs in PEM.")
		}
		lists = append(lists, more...)
	}
	if len(lists) == 0 && body.Remove == nil {
		return badRequest("revocation-lists", "There is nothing to change.", "Send lists, or say in remove what becomes of installed copies.")
	}
	name := r.PathValue("name")
	if err := h.TAM.RenewRevocationLists(r.Context(), name, lists, body.Remove); err != nil {
		return err
	}
	h.log(r, "publisher's revocation lists renewed", "name", name, "lists", len(lists))
	return h.revocationLists(w, r)
}

func (h *handler) revocationLists(w http.ResponseWriter, r *http.Request) error {
	in, gone, err := h.TAM.RevocationsOf(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	p, err := h.Store.Publisher(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	versions := make([]tam.Version, len(gone))
	for i, v := range gone {
		versions[i] = *v.Version
	}
	devices, err := h.devicesHaving(r.Context(), versions)
	if err != nil {
		return err
	}
	view, err := viewRevocations(p, in, gone, devices)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, view)
}

func viewRevocations(p *tam.Publisher, in *tam.Revocations, gone []tam.RevokedVersion, devices []int64) (*RevocationLists, error) {
	view := &RevocationLists{Lists: []RevocationList{}, Remove: in.Remove, Renewed: timePointer(in.Renewed), Versions: []RevokedVersion{}}
	for _, der := range in.Lists {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		one := RevocationList{
			Issuer: l.Issuer.String(), ThisUpdate: l.ThisUpdate.UTC(), NextUpdate: timePointer(l.NextUpdate.UTC()), Certificates: len(l.RevokedCertificateEntries),
		}
		if one.Known, err = in.Known(l, p); err != nil {
			return nil, err
		}
		if l.Number != nil {
			one.Number = l.Number.String()
		}
		view.Lists = append(view.Lists, one)
	}
	for i, v := range gone {
		view.Versions = append(view.Versions, RevokedVersion{SignedVersion{v.Manifest.String(), v.Sequence, devices[i]}, v.Reason})
	}
	return view, nil
}
