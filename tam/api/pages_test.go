package api

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/tam"
)

// withVersions has versions of three manifests, signed in turn by two keys of a publisher, and devices that have some
// of them, one of each a version that is not known here.
func withVersions(t *testing.T) (s *service, key string) {
	s = newService(t)
	store, ctx := s.config.Store, t.Context()
	must(t, store.AddPublisher(ctx, tam.Publisher{Name: "acme"}))
	keys := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}
	for i, name := range []string{"a", "b", "c"} {
		for n := range uint64(5) {
			must(t, store.AddVersion(ctx, tam.Version{Manifest: suit.NewComponentID(name), Sequence: n, Publisher: "acme", Signer: keys[(uint64(i)+n)%2]}))
		}
	}
	for n := range 9 {
		d := &tam.Device{ID: fmt.Sprintf("%04d", n), KeyThumbprint: bytes.Repeat([]byte{byte(n)}, 32), AgentKey: []byte{1}, Status: tam.DeviceAccepted, FirstSeen: s.now, LastSeen: s.now}
		for _, name := range []string{"a", "b", "b2"} {
			d.Inventory = append(d.Inventory, tam.Installed{Manifest: suit.NewComponentID(name), Sequence: uint64(n % 4)})
		}
		must(t, store.CommitExchange(ctx, tam.Exchange{Device: d, Reindex: true}))
	}
	return s, hex.EncodeToString(keys[0])
}

// paged fetches a list in pages of two.
func paged[T any](t *testing.T, c *Client, path string, show func(T) string) string {
	t.Helper()
	all, err := Collect(0, "", func(after string) (*Page[T], error) {
		p := &Page[T]{}
		path := path + "limit=2"
		if after != "" {
			path += "&after=" + strings.NewReplacer("@", "%40", "'", "%27", "/", "%2F").Replace(after)
		}
		err := c.call(t.Context(), http.MethodGet, path, nil, p)
		if len(p.Items) > 2 {
			t.Errorf("%s: %d items in a page of two", path, len(p.Items))
		}
		return p, err
	})
	must(t, err)
	text := ""
	for _, item := range all {
		text += show(item) + " "
	}
	return strings.TrimSpace(text)
}

func TestListsOfVersions(t *testing.T) {
	s, key := withVersions(t)
	c := s.client(ScopeAuditor)
	version := func(v Version) string { return fmt.Sprint(v.Manifest, v.Sequence) }
	installed := func(i InstalledCount) string { return fmt.Sprint(i.Manifest, i.Sequence, "×", i.Devices) }
	signed := func(v SignedVersion) string { return fmt.Sprint(v.Manifest, v.Sequence, "×", v.Devices) }
	for want, got := range map[string]string{
		"'b'0 'b'1 'b'2 'b'3 'b'4":    paged(t, c, "/v1/components?manifest=b&", version),
		"'c'0 'c'1 'c'2 'c'3 'c'4":    paged(t, c, "/v1/components?manifest=%27c%27&", version),
		"":                            paged(t, c, "/v1/components?manifest=b2&", version),
		"'b'0×3 'b'1×2 'b'2×2 'b'3×2": paged(t, c, "/v1/installed?manifest=b&", installed),
		"'a'0×3 'a'2×2 'a'4×0 'b'1×2 'b'3×2 'c'0×0 'c'2×0 'c'4×0":                                 paged(t, c, "/v1/publishers/acme/keys/"+key+"/versions?", signed),
		"'a'0×3 'a'1×2 'a'2×2 'a'3×2 'b'0×3 'b'1×2 'b'2×2 'b'3×2 'b2'0×3 'b2'1×2 'b2'2×2 'b2'3×2": paged(t, c, "/v1/installed?", installed),
	} {
		if got != want {
			t.Errorf("listed %s\n  want %s", got, want)
		}
	}
	if all, err := c.VersionsOf(t.Context(), "'b'", ""); err != nil || len(all.Items) != 5 || all.Next != "" {
		t.Errorf("%+v, %v", all, err)
	}
	auth := "Bearer " + c.Token
	for path, code := range map[string]string{
		"/v1/components?manifest=%27": "component-identifier", "/v1/installed?manifest=%27": "component-identifier",
		"/v1/installed?after=x": "after", "/v1/installed?after=1@": "after", "/v1/installed/history?after=x": "after",
		"/v1/installed/history?after=2026-03-01T12:00:00Z": "after", "/v1/installed/history?after=x@1@a": "after", "/v1/installed/history?limit=0": "limit",
		"/v1/publishers/acme/keys/" + key + "/versions?after=1": "after", "/v1/publishers/acme/keys/" + key + "/versions?limit=x": "limit",
		"/v1/publishers/acme/keys/" + key + "/versions?manifest=a": "query",
	} {
		if status, p := s.request("GET", path, auth, nil, ""); status != http.StatusBadRequest || p.Code != code {
			t.Errorf("%s: %d %+v", path, status, p)
		}
	}
}
