package metrics_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestExamplesNameWhatThereIs: alerts and dashboard parse, and ask for measurements and labels that exist.
func TestExamplesNameWhatThereIs(t *testing.T) {
	m, backend := newMetrics(t)
	backend.down = true
	_ = m.Store().CommitExchange(t.Context(), attested("a")) // counts a failure
	backend.down = false
	if err := m.Store().CommitExchange(t.Context(), attested("a")); err != nil {
		t.Fatal(err)
	}
	m.Handler("teep", http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	text := scrape(t, m)
	for file, parse := range map[string]func([]byte, any) error{"alerts.yaml": yaml.Unmarshal, "dashboard.json": json.Unmarshal} {
		data, err := os.ReadFile("../../docs/operations/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var any map[string]any
		if err := parse(data, &any); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		names := regexp.MustCompile(`(teep_tam|process)_[a-z_]+`).FindAllString(string(data), -1)
		if len(names) == 0 {
			t.Errorf("%s names no measurement", file)
		}
		for _, name := range names {
			if !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n"+name+" ") {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
		for _, kind := range regexp.MustCompile(`kind=~?\\?"([a-z|-]+)`).FindAllStringSubmatch(string(data), -1) {
			for _, k := range strings.Split(kind[1], "|") {
				if !strings.Contains(text, `kind="`+k+`"`) {
					t.Errorf("%s asks for events of kind %s, which there are not", file, k)
				}
			}
		}
	}
}
