package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-teep/teep/tam/api"
)

// componentsLookedAt bounds how many pages of versions one page of the console is made of.
const componentsLookedAt = 10

// componentsData is a part of what is published, by manifest.
type componentsData struct {
	Components []publishedManifest
	Next       string
	// MaySee says whether to show how many devices have them.
	MaySee bool
}

// publishedManifest is a manifest with what there is of it.
type publishedManifest struct {
	// Newest is its newest version that is offered, or the newest of all.
	Newest               api.Version
	Versions, NotOffered int
	Devices              int64
}

func (s *console) components(v *visit) error {
	data := componentsData{MaySee: v.may(readers()...), Next: v.r.URL.Query().Get("after")}
	for range componentsLookedAt {
		page, err := v.api.Versions(v.r.Context(), data.Next)
		if err != nil {
			return err
		}
		for _, version := range page.Items {
			data.add(version)
		}
		if data.Next = page.Next; data.Next == "" {
			break
		}
	}
	if data.MaySee {
		installed, err := v.installed()
		if err != nil {
			return err
		}
		held := map[string]int64{}
		for _, c := range installed {
			held[c.Manifest] += c.Devices
		}
		for i := range data.Components {
			data.Components[i].Devices = held[data.Components[i].Newest.Manifest]
		}
	}
	s.render(v, http.StatusOK, "components", "Components", data)
	return nil
}

// add takes the next version; those of a manifest follow each other, and rise.
func (d *componentsData) add(version api.Version) {
	if n := len(d.Components); n == 0 || d.Components[n-1].Newest.Manifest != version.Manifest {
		d.Components = append(d.Components, publishedManifest{Newest: version})
	}
	m := &d.Components[len(d.Components)-1]
	m.Versions++
	if offered(version) || !offered(m.Newest) {
		m.Newest = version
	}
	if !offered(version) {
		m.NotOffered++
	}
}

// offered tells whether devices get a version.
func offered(version api.Version) bool {
	return version.Withdrawn == nil && version.NotOffered == ""
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
