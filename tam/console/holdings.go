package console

import (
	"cmp"
	"slices"

	"github.com/go-teep/teep/tam/api"
)

// holding is how many devices have a manifest, in which versions.
type holding struct {
	Manifest string
	Devices  int64
	// Newest are its newest versions that devices have, Others how many devices have another one.
	Newest []api.InstalledCount
	Others int64
}

const (
	// maxHoldings is how many manifests the fleet at a glance shows, maxNewest how many versions of each.
	maxHoldings = 10
	maxNewest   = 3
)

// installed counts the devices that have each version of everything.
func (v *visit) installed() ([]api.InstalledCount, error) {
	return api.Collect(0, "", func(after string) (*api.Page[api.InstalledCount], error) {
		return v.api.Installed(v.r.Context(), "", after)
	})
}

// holdings are the manifests that devices have, that of most devices first.
func holdings(counts []api.InstalledCount) []holding {
	counts = slices.SortedFunc(slices.Values(counts), func(a, b api.InstalledCount) int {
		return cmp.Or(cmp.Compare(a.Manifest, b.Manifest), cmp.Compare(b.Sequence, a.Sequence))
	})
	var all []holding
	for _, c := range counts {
		if len(all) == 0 || all[len(all)-1].Manifest != c.Manifest {
			all = append(all, holding{Manifest: c.Manifest})
		}
		h := &all[len(all)-1]
		h.Devices += c.Devices
		if len(h.Newest) < maxNewest {
			h.Newest = append(h.Newest, c)
		} else {
			h.Others += c.Devices
		}
	}
	slices.SortStableFunc(all, func(a, b holding) int { return cmp.Compare(b.Devices, a.Devices) })
	return all
}
