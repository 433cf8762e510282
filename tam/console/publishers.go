package console

import (
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-teep/teep/tam/api"
)

// publishersData is the list of publishers.
type publishersData struct {
	Publishers []api.Publisher
	Next       string
	MayChange  bool
}

func (s *console) publishers(v *visit) error {
	page, err := v.api.Publishers(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "publishers", "Publishers", publishersData{page.Items, page.Next, v.may(api.ScopeAdministrator)})
	return nil
}

// publisherData is a publisher with what the visitor may do about it.
type publisherData struct {
	api.Publisher
	MayChange bool
	// Keys is what was written into the form for further ones, and Refused why they were not taken.
	Keys    string
	Refused *api.Problem
}

// Signers are its keys and certificates that count.
func (d publisherData) Signers() []signer {
	var list []signer
	for _, kind := range []struct {
		name  string
		items []string
	}{{"key", d.Publisher.Keys}, {"certificate", d.Publisher.Anchors}} {
		for _, id := range kind.items {
			gone := func(w api.WithdrawnKey) bool { return w.Key == id }
			if !slices.ContainsFunc(d.Publisher.Withdrawn, gone) {
				list = append(list, signer{kind.name, id})
			}
		}
	}
	return list
}

// signer is a key, or the certificate of an authority.
type signer struct{ Kind, ID string }

// publisherNamed finds a publisher.
func (v *visit) publisherNamed(name string) (*api.Publisher, error) {
	for after := ""; ; {
		page, err := v.api.Publishers(v.r.Context(), after)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			if page.Items[i].Name == name {
				return &page.Items[i], nil
			}
		}
		if after = page.Next; after == "" {
			return nil, &api.Problem{Status: http.StatusNotFound, Detail: "There is no publisher of that name.", Next: "See the list of publishers."}
		}
	}
}

func (s *console) publisher(v *visit) error {
	p, err := v.publisherNamed(v.r.PathValue("publisher"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "publisher", "Publisher "+visible(p.Name), publisherData{Publisher: *p, MayChange: v.may(api.ScopeAdministrator)})
	return nil
}

// publisherForm is a publisher as somebody writes it.
type publisherForm struct {
	Name, Prefixes, Keys string
	Refused              *api.Problem
}

func (s *console) newPublisher(v *visit) error {
	s.render(v, http.StatusOK, "publisherform", "Trust a publisher", publisherForm{})
	return nil
}

func (s *console) addPublisher(v *visit) error {
	f := publisherForm{Name: v.field("name"), Prefixes: v.area("prefixes"), Keys: v.area("keys")}
	n := api.NewPublisher{Name: f.Name, Prefixes: []string{}}
	for line := range strings.Lines(f.Prefixes) {
		if line = strings.TrimSpace(line); line != "" {
			n.Prefixes = append(n.Prefixes, line)
		}
	}
	var err error
	if n.Keys, n.Anchors, err = parsePEM(f.Keys); err == nil {
		_, err = v.api.AddPublisher(v.r.Context(), n)
	}
	if err != nil {
		f.Keys = withoutPrivate(f.Keys)
		return s.again(v, err, &f.Refused, "publisherform", "Trust a publisher", &f)
	}
	return v.back("publishers/" + url.PathEscape(f.Name))
}

func (s *console) addKeys(v *visit) error {
	name, text := v.r.PathValue("publisher"), v.area("keys")
	keys, anchors, err := parsePEM(text)
	if err == nil {
		_, err = v.api.AddKeys(v.r.Context(), name, api.NewKeys{Keys: keys, Anchors: anchors})
	}
	if err == nil {
		return v.back("publishers/" + url.PathEscape(name))
	}
	p, notFound := v.publisherNamed(name)
	if notFound != nil {
		return err
	}
	data := publisherData{Publisher: *p, MayChange: v.may(api.ScopeAdministrator), Keys: withoutPrivate(text)}
	return s.again(v, err, &data.Refused, "publisher", "Publisher "+visible(p.Name), &data)
}

// parsePEM sorts what somebody pasted into public keys and certificates. The API judges them.
func parsePEM(text string) (keys, anchors []string, err error) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		one := string(pem.EncodeToMemory(block))
		if block.Type == "CERTIFICATE" {
			anchors = append(anchors, one)
		} else {
			keys = append(keys, one)
		}
	}
	if len(keys)+len(anchors) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, nil, &api.Problem{Status: http.StatusUnprocessableEntity, Code: "form", Detail: "That is not keys and certificates in PEM, and nothing else.",
			Next: "Paste what begins with -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----, to its end; “teep key public” prints the public key of a key file."}
	}
	return keys, anchors, nil
}

// withoutPrivate keeps a private key that somebody pasted from being sent back.
func withoutPrivate(text string) string {
	if strings.Contains(text, "PRIVATE") {
		return ""
	}
	return text
}

func (s *console) revokePublisher(v *visit) error {
	name := v.r.PathValue("publisher")
	if err := v.api.RevokePublisher(v.r.Context(), name); err != nil {
		return err
	}
	return v.back("publishers/" + url.PathEscape(name))
}

// publisherKeyData is a key of a publisher, or a certificate, with what it signed.
type publisherKeyData struct {
	Publisher, Key string
	Signed         []api.SignedVersion
	Withdrawn      *api.WithdrawnKey
	MaySee         bool
	MayChange      bool
	Reason         string
	Refused        *api.Problem
}

// Devices is how many installations of it there are.
func (d publisherKeyData) Devices() (n int64) {
	for _, s := range d.Signed {
		n += s.Devices
	}
	return n
}

func (s *console) publisherKey(v *visit) error {
	data, err := v.keyOfPublisher()
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "publisherkey", "Key "+short(data.Key)+" of "+visible(data.Publisher), data)
	return nil
}

func (v *visit) keyOfPublisher() (*publisherKeyData, error) {
	data := &publisherKeyData{
		Publisher: v.r.PathValue("publisher"), Key: v.r.PathValue("key"),
		MaySee: v.may(api.ScopeOperator, api.ScopeAuditor), MayChange: v.may(api.ScopeAdministrator),
	}
	p, err := v.publisherNamed(data.Publisher)
	if err != nil {
		return nil, err
	}
	for i, w := range p.Withdrawn {
		if w.Key == data.Key {
			data.Withdrawn, data.MayChange = &p.Withdrawn[i], false
		}
	}
	if data.Withdrawn == nil && !slices.Contains(append(slices.Clone(p.Keys), p.Anchors...), data.Key) {
		return nil, &api.Problem{Status: http.StatusNotFound, Detail: "The publisher has no such key.", Next: "Choose one on the page of the publisher."}
	}
	data.Signed, err = api.Collect(0, "", func(after string) (*api.Page[api.SignedVersion], error) {
		return v.api.SignedBy(v.r.Context(), data.Publisher, data.Key, after)
	})
	return data, err
}

func (s *console) withdrawKey(v *visit) error {
	publisher, key := v.r.PathValue("publisher"), v.r.PathValue("key")
	w := api.KeyWithdrawal{Reason: v.field("reason"), Remove: v.r.PostFormValue("remove") != ""}
	if _, err := v.api.WithdrawKey(v.r.Context(), publisher, key, w); err != nil {
		return err
	}
	return v.back("publishers/" + url.PathEscape(publisher) + "/keys/" + url.PathEscape(key))
}
