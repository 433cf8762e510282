package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/api"
)

// TestWhoIsServedOn: blocking and retiring one TEE names those of the same device that are served still, and no other.
func TestWhoIsServedOn(t *testing.T) {
	fleet := []api.Device{
		{ID: "aa", UEID: "01ff", Status: tam.DeviceAccepted}, {ID: "bb", UEID: "01ff", Status: tam.DeviceAccepted},
		{ID: "cc", UEID: "01ff", Status: tam.DevicePending}, {ID: "dd", UEID: "01ff", Status: tam.DeviceRetired},
		{ID: "ee", UEID: "02ff", Status: tam.DeviceAccepted}, {ID: "ff", Status: tam.DeviceAccepted},
	}
	broken := false
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		if ueid := r.URL.Query().Get("ueid"); ueid != "" {
			page := api.Page[api.Device]{}
			for _, d := range fleet {
				if d.UEID == ueid {
					page.Items = append(page.Items, d)
				}
			}
			answer = page
		}
		for _, d := range fleet {
			if r.URL.Path == "/v1/devices/"+d.ID {
				if r.Method == http.MethodPatch {
					var change api.DeviceChange
					if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
						t.Error(err)
					}
					d.Status = change.Status
				}
				answer = d
			}
		}
		if answer == nil || broken && r.URL.RawQuery != "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer service.Close()
	files := commandFiles(t, t.TempDir())
	run := func(verb, id string) (string, error) {
		c := root()
		var said strings.Builder
		c.SetOut(&said)
		c.SetErr(&said)
		c.SetArgs([]string{"devices", verb, id, "--tam", service.URL, "--token-file", files["token"]})
		err := c.ExecuteContext(t.Context())
		return said.String(), err
	}
	for _, c := range []struct{ verb, id, want string }{
		{"block", "aa", "bb has the same UEID and is served on\n"},
		{"retire", "bb", "aa has the same UEID and is served on\n"},
		{"accept", "aa", ""}, // nobody wonders
		{"block", "ee", ""},  // the only one
		{"block", "ff", ""},  // without a UEID nothing is known of others
	} {
		if said, err := run(c.verb, c.id); err != nil || said != c.want {
			t.Errorf("%s %s says %q, %v; want %q", c.verb, c.id, said, err, c.want)
		}
	}
	broken = true
	if said, err := run("block", "aa"); err == nil || !strings.Contains(err.Error(), "aa is blocked, but") {
		t.Errorf("when others are not known, it says %q, %v", said, err)
	}
}
