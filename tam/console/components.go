package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-teep/teep/tam/api"
)

func (s *console) components(v *visit) error {
	page, err := v.api.Versions(v.r.Context(), v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "components", "Components", page)
	return nil
}

// componentData is a manifest with its versions and a part of its holders.
type componentData struct {
	Manifest string
	Versions []heldVersion
	// MaySee says whether to show who has them, MayWithdraw whether to show the form.
	MaySee, MayWithdraw bool
}

// heldVersion is a version with how many devices have it.
type heldVersion struct {
	api.Version
	Devices int64
}

func (s *console) component(v *visit) error {
	data := componentData{Manifest: v.r.PathValue("manifest"), MayWithdraw: v.may(api.ScopeOperator)}
	versions, err := api.Collect(0, "", func(after string) (*api.Page[api.Version], error) {
		return v.api.VersionsOf(v.r.Context(), data.Manifest, after)
	})
	if err != nil {
		return err
	}
	for _, version := range versions {
		data.Versions = append(data.Versions, heldVersion{Version: version})
	}
	slices.Reverse(data.Versions)
	if len(data.Versions) == 0 {
		return &api.Problem{Status: http.StatusNotFound, Detail: "Nothing was published under this identifier.", Next: "See the list of components."}
	}
	if v.may(api.ScopeOperator, api.ScopeAuditor) {
		installed, err := api.Collect(0, "", func(after string) (*api.Page[api.InstalledCount], error) {
			return v.api.Installed(v.r.Context(), data.Manifest, after)
		})
		if err != nil {
			return err
		}
		for _, count := range installed {
			for i := range data.Versions {
				if held := &data.Versions[i]; count.Sequence == held.Sequence {
					held.Devices = count.Devices
				}
			}
		}
		data.MaySee = true
	}
	s.render(v, http.StatusOK, "component", "Component "+visible(data.Manifest), data)
	return nil
}

// holdersData is a page of the devices that have a version.
type holdersData struct {
	Manifest string
	Sequence uint64
	*api.Page[api.Device]
}

func (s *console) holders(v *visit) error {
	sequence, err := strconv.ParseUint(v.r.PathValue("sequence"), 10, 64)
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Detail: "That is no sequence number.", Next: "Choose a version on the page of the component."}
	}
	manifest := v.r.PathValue("manifest")
	page, err := v.api.DevicesWith(v.r.Context(), manifest, sequence, v.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	s.render(v, http.StatusOK, "holders", fmt.Sprintf("Devices with version %d of %s", sequence, visible(manifest)), holdersData{manifest, sequence, page})
	return nil
}

func (s *console) withdraw(v *visit) error {
	manifest := v.r.PathValue("manifest")
	sequence, err := strconv.ParseUint(v.r.PathValue("sequence"), 10, 64)
	if err != nil {
		return &api.Problem{Status: http.StatusBadRequest, Detail: "That is no sequence number.", Next: "Reload the page."}
	}
	if err := v.api.Withdraw(v.r.Context(), manifest, sequence, v.r.PostFormValue("reason")); err != nil {
		return err
	}
	return v.back("components/" + url.PathEscape(manifest))
}
