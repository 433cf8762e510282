package metrics_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// everything is what a TAM that uses all that can be measured tells Prometheus.
func everything(t *testing.T) string {
	t.Helper()
	m, backend := newMetrics(t)
	backend.down = true
	_ = m.Store().CommitExchange(t.Context(), attested("a")) // counts a failure
	backend.down = false
	if err := m.Store().CommitExchange(t.Context(), attested("a")); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		m.Handler("teep", refuse).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/tam", nil))
	}
	m.Connections("teep", counted{})
	m.Certificate("teep", func() time.Time { return now })
	m.Traces(func() (exported, failed, dropped uint64) { return 1, 2, 3 })
	return scrape(t, m)
}

type counted struct{}

func (counted) Max() int       { return 3 }
func (counted) Open() int      { return 2 }
func (counted) Closed() uint64 { return 1 }

func readExample(t *testing.T, name string, parse func([]byte, any) error, into any) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/operations/" + name)
	if err == nil {
		err = parse(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(data)
}

// expressions are what the example alerts and the example dashboard ask Prometheus for, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	var alerts struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	readExample(t, "alerts.yaml", yaml.Unmarshal, &alerts)
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if _, twice := all[r.Alert]; twice || r.Alert == "" || r.Expr == "" {
				t.Errorf("alert %q has no name, no expression or a twin", r.Alert)
			}
			if _, err := time.ParseDuration(r.For); err != nil {
				t.Errorf("%s: for: %v", r.Alert, err)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("%s does not say how bad it is, what it is and what to do", r.Alert)
			}
			all[r.Alert] = r.Expr
		}
	}
	var dashboard struct {
		UID    string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ RefID, Expr string }
		}
	}
	readExample(t, "dashboard.json", json.Unmarshal, &dashboard)
	seen := map[[2]int]bool{}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if at := [2]int{p.GridPos.X, p.GridPos.Y}; ids[p.ID] || seen[at] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.W == 0 {
			t.Errorf("panel %d %q has no title or place of its own", p.ID, p.Title)
		}
		ids[p.ID], seen[[2]int{p.GridPos.X, p.GridPos.Y}] = true, true
		for _, target := range p.Targets {
			all[p.Title+" "+target.RefID] = target.Expr
		}
	}
	if len(all) < 15 || dashboard.UID == "" {
		t.Fatalf("only %d expressions", len(all))
	}
	return all
}

var (
	metricName = regexp.MustCompile(`(teep_tam|process)_[a-z_]+`)
	selected   = regexp.MustCompile(`((?:teep_tam|process)_[a-z_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(=~|=)\s*"([^"]*)"`)
	grouped    = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
)

// TestExamplesNameWhatThereIs: alerts and dashboard ask for measurements, labels and values of labels that exist.
func TestExamplesNameWhatThereIs(t *testing.T) {
	text := everything(t)
	fromPrometheus := []string{"job", "instance"}
	for where, expr := range expressions(t) {
		for _, pair := range []string{"()", "[]", "{}"} {
			if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
				t.Errorf("%s: %s does not close: %s", where, pair, expr)
			}
		}
		names := metricName.FindAllString(expr, -1)
		if len(names) == 0 && !strings.HasPrefix(expr, "up{") {
			t.Errorf("%s asks for no measurement: %s", where, expr)
		}
		lines := ""
		for _, name := range names {
			of := regexp.MustCompile(`(?m)^`+name+`[{ ].*$`).FindAllString(text, -1)
			if len(of) == 0 {
				t.Errorf("%s asks for %s, which there is not", where, name)
			}
			lines += strings.Join(of, "\n")
		}
		for _, labels := range grouped.FindAllStringSubmatch(expr, -1) {
			for _, label := range strings.Split(labels[1], ",") {
				if label = strings.TrimSpace(label); !slices.Contains(fromPrometheus, label) && !strings.Contains(lines, label+`="`) {
					t.Errorf("%s groups by %s, a label that there is not", where, label)
				}
			}
		}
		for _, m := range selected.FindAllStringSubmatch(expr, -1) {
			for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
				for _, value := range strings.Split(label[3], "|") {
					if slices.Contains(fromPrometheus, label[1]) || m[1] == "teep_tam_devices" {
						continue // devices of every state are not there
					}
					if !regexp.MustCompile(`(?m)^` + m[1] + `\{[^}]*` + label[1] + `="` + value + `"`).MatchString(text) {
						t.Errorf("%s selects %s of %s by %q, which there is not", where, label[1], m[1], value)
					}
				}
			}
		}
	}
}
