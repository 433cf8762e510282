package console

import (
	"net/http"

	"github.com/go-teep/teep/tam/api"
)

// depositsData is what the TAM is to bring to devices, without what is in it.
type depositsData struct {
	*api.Page[api.Deposit]
	MayChange bool
	// Recipient is the public key that they are encrypted to; None says why there is none.
	Recipient string
	None      *api.Problem
}

func (s *console) deposits(v *visit) error {
	page, err := v.api.Deposits(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	data := depositsData{Page: page, MayChange: v.may(api.ScopeOperator)}
	to, err := v.api.Distribution(v.r.Context())
	if data.None, err = refusedWith(err, http.StatusNotImplemented); err != nil {
		return err
	}
	if data.None == nil {
		data.Recipient = to.Recipient
	}
	s.render(v, http.StatusOK, "deposits", "Keys and data for devices", data)
	return nil
}

func (s *console) removeDeposit(v *visit) error {
	if err := v.api.RemoveDeposit(v.r.Context(), v.r.PathValue("id")); err != nil {
		return err
	}
	return v.back("deposits")
}
