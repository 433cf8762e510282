package console

import (
	"net/http"

	"github.com/go-teep/teep/tam/api"
)

// payloadsData is what lies beside its envelopes, and the space that it takes.
type payloadsData struct {
	*api.PayloadList
	Shares []share
}

func (s *console) payloads(v *visit) error {
	list, err := v.api.PayloadList(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "payloads", "Payloads", payloadsData{list, shares(list.Limit, list.Used, 0, 0)})
	return nil
}
