package console

import (
	"net/http"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// webhooksData is the list of webhooks, with the form for a new one as it was filled in.
type webhooksData struct {
	Webhooks  []api.Webhook
	Next      string
	MayChange bool

	URL     string
	Kinds   []choice
	Refused *api.Problem
}

// choice is something that can be chosen, and whether it is.
type choice struct {
	Value, Text string
	Chosen      bool
}

func (s *console) webhooks(v *visit) error {
	data, err := v.webhookList(nil)
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "webhooks", "Webhooks", data)
	return nil
}

func (v *visit) webhookList(chosen []tam.EventKind) (*webhooksData, error) {
	page, err := v.api.Webhooks(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return nil, err
	}
	return &webhooksData{Webhooks: page.Items, Next: page.Next, MayChange: v.may(api.ScopeAdministrator), Kinds: eventKinds(chosen...)}, nil
}

func (s *console) addWebhook(v *visit) error {
	n := api.NewWebhook{URL: v.field("url")}
	for _, kind := range v.r.PostForm["kind"] {
		n.Kinds = append(n.Kinds, tam.EventKind(kind))
	}
	made, err := v.api.AddWebhook(v.r.Context(), n)
	if err == nil {
		s.render(v, http.StatusCreated, "webhooksecret", "The webhook’s secret", made)
		return nil
	}
	data, listErr := v.webhookList(n.Kinds)
	if listErr != nil {
		return listErr
	}
	data.URL = n.URL
	return s.again(v, err, &data.Refused, "webhooks", "Webhooks", data)
}

func (s *console) deleteWebhook(v *visit) error {
	if err := v.api.DeleteWebhook(v.r.Context(), v.r.PathValue("id")); err != nil {
		return err
	}
	return v.back("webhooks")
}
