package policy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/appraisal"
	"github.com/go-teep/teep/attest/eat"
	"github.com/go-teep/teep/attest/policy"
	"github.com/go-teep/teep/cose"
)

func parse(t testing.TB, rules string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte("id: https://example.com/p\nclasses:\n  - oemid: pen:3704\n    hwmodel: 4d696c616e\n" + rules))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func appraised() *eat.Appraisal {
	oemid, err := attest.ParseOEMID("pen:3704")
	if err != nil {
		panic(err)
	}
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	label, err := eat.ComponentLabel([][]byte{[]byte("hello")})
	if err != nil {
		panic(err)
	}
	digest := appraisal.Digest{Algorithm: cose.AlgSHA256, Value: make([]byte, 32)}
	return &eat.Appraisal{
		MediaType: "application/vnd.go-teep.sev-snp-report", Owner: "Operator", Now: now,
		Claims: &eat.Claims{
			UEID: []byte{1, 2, 3, 4, 5, 6, 7}, OEMID: oemid, HWModel: []byte("Milan"), HWVersion: &eat.Version{Text: "1"},
			Debug: eat.DebugDisabledSinceBoot, Weaknesses: []string{"no counter"}, IssuedAt: now.Add(-time.Minute),
			Measurements: []eat.Measurement{{Component: &eat.MeasuredComponent{Name: "sev-snp-launch", Version: &eat.Version{Text: "7"}, Digest: digest}}, {ContentFormat: 1}},
			Submods: map[string]eat.Submodule{label: {Claims: &eat.Claims{SWName: "x", SWVersion: &eat.Version{Text: "3"},
				Manifests: []eat.Manifest{{Reference: &eat.ManifestReference{URI: "https://example.com/h", Digest: digest}}}}}},
		},
		Vector:  appraisal.TrustVector{appraisal.Hardware: 2, appraisal.Executables: 32},
		Reasons: []attest.Reason{{Claim: "tcb", Status: attest.StatusAffirming, Text: "good"}},
	}
}

func TestJudge(t *testing.T) {
	all := `media_type.endsWith("sev-snp-report") && ueid == "01020304050607" && oemid == "pen:3704" && hwmodel == "4d696c616e" &&
          hwversion == "1" && owner == "Operator" && debug.startsWith("disabled") && "no counter" in weaknesses && age < duration("2m") &&
          measurements.exists_one(m, m.name == "sev-snp-launch" && m.version == "7" && m.digest.startsWith("sha-256:00")) &&
          components.all(c, c.id == ["68656c6c6f"] && c.sequence_number == 3u && c.manifest_uri.startsWith("https:") && c.manifest_digest != "") &&
          vector.hardware == "affirming" && vector.executables == "warning" && vector.sourced_data == "none" &&
          reasons.exists(r, r.claim == "tcb" && r.status == "affirming" && r.text == "good")`
	for name, c := range map[string]struct {
		rules string
		want  attest.Status
		says  string
	}{
		"every variable":     {"    affirming:\n      - if: |\n          " + all, attest.StatusAffirming, "line 6"},
		"why":                {"    affirming:\n      - if: \"true\"\n        why: trusted for now", attest.StatusAffirming, "trusted for now"},
		"worst rule first":   {"    affirming:\n      - if: \"true\"\n    warning:\n      - if: \"true\"\n    contraindicated:\n      - if: \"true\"", attest.StatusContraindicated, "line 10"},
		"then a warning":     {"    affirming:\n      - if: \"true\"\n    warning:\n      - if: \"true\"\n    contraindicated:\n      - if: \"false\"", attest.StatusWarning, "line 8"},
		"silence":            {"    affirming:\n      - if: debug == \"enabled\"", attest.StatusContraindicated, "none of the 1 rules"},
		"cannot be divided":  {"    affirming:\n      - if: 1 / weaknesses.size() == 1\n    warning:\n      - if: 1 / (weaknesses.size() - 1) == 1", attest.StatusContraindicated, "cannot be evaluated"},
		"index out of range": {"    affirming:\n      - if: weaknesses[7] == \"\"", attest.StatusContraindicated, "cannot be evaluated"},
		"costs too much": {"    affirming:\n      - if: |\n          [1,2,3,4,5,6,7,8,9,0].all(a, [1,2,3,4,5,6,7,8,9,0].all(b, [1,2,3,4,5,6,7,8,9,0].all(c, [1,2,3,4,5,6,7,8,9,0].all(d, [1,2,3,4,5,6,7,8,9,0].all(e, [1,2,3,4,5,6,7,8,9,0].all(f, a + b + c + d + e + f + weaknesses.size() > 0))))))",
			attest.StatusContraindicated, "cost limit"},
	} {
		t.Run(name, func(t *testing.T) {
			status, reasons, err := parse(t, c.rules).Judge(context.Background(), appraised())
			if err != nil || status != c.want || len(reasons) != 1 || reasons[0].Status != c.want || !strings.Contains(reasons[0].Text, c.says) {
				t.Errorf("%v, %+v, %v", status, reasons, err)
			}
		})
	}
}

func TestClasses(t *testing.T) {
	p, err := policy.Parse([]byte(`
id: https://example.com/p
classes:
  - oemid: pen:3704
    affirming: [{if: "true", why: vendor}]
  - oemid: pen:3704
    hwmodel: 4d696c616e
    affirming: [{if: "true", why: model}]
`))
	if err != nil {
		t.Fatal(err)
	}
	for model, says := range map[string]string{"Milan": "model", "Genoa": "vendor"} {
		a := appraised()
		a.Claims.HWModel = []byte(model)
		if s, reasons, err := p.Judge(context.Background(), a); err != nil || s != attest.StatusAffirming || !strings.Contains(reasons[0].Text, says) {
			t.Errorf("%s: %v, %v, %v", model, s, reasons, err)
		}
	}
	a := appraised()
	a.Claims.OEMID = []byte{0x19, 0x01, 0x57}
	if s, reasons, err := p.Judge(context.Background(), a); err != nil || s != attest.StatusContraindicated || !strings.Contains(reasons[0].Text, "class") {
		t.Errorf("%v, %v, %v", s, reasons, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, _, err := p.Judge(ctx, appraised()); !errors.Is(err, context.Canceled) || s != attest.StatusNone {
		t.Errorf("%v, %v", s, err)
	}
}

// TestSavedIsChecked: what a policy gets wrong is found before it is in force.
func TestSavedIsChecked(t *testing.T) {
	rule := func(text string) string {
		return "id: https://example.com/p\nclasses:\n  - oemid: pen:3704\n    affirming:\n      - if: " + text + "\n"
	}
	for name, c := range map[string]struct{ file, says string }{
		"empty":               {"", "EOF"},
		"no id":               {"classes: [{oemid: 'pen:1', affirming: [{if: 'true'}]}]", "absolute URI"},
		"relative id":         {"id: p\nclasses: [{oemid: 'pen:1', affirming: [{if: 'true'}]}]", "absolute URI"},
		"no classes":          {"id: https://example.com/p", "no classes"},
		"unknown key":         {"id: https://example.com/p\nclass: []", "class"},
		"two documents":       {rule("'true'") + "---\nid: x\n", "more than one"},
		"bad oemid":           {"id: https://example.com/p\nclasses: [{oemid: amd, affirming: [{if: 'true'}]}]", "oemid"},
		"bad hwmodel":         {"id: https://example.com/p\nclasses: [{oemid: 'pen:1', hwmodel: Milan, affirming: [{if: 'true'}]}]", "hexadecimal"},
		"nothing affirms":     {"id: https://example.com/p\nclasses: [{oemid: 'pen:1', warning: [{if: 'true'}]}]", "no affirming rule"},
		"class twice":         {"id: https://example.com/p\nclasses: [{oemid: 'pen:1', affirming: [{if: 'true'}]}, {oemid: 'pen:1', affirming: [{if: 'true'}]}]", "twice"},
		"rule without if":     {"id: https://example.com/p\nclasses: [{oemid: 'pen:1', affirming: [{why: x}]}]", "no if"},
		"rule with more":      {"id: https://example.com/p\nclasses: [{oemid: 'pen:1', affirming: [{if: 'true', then: x}]}]", "then"},
		"rule is text":        {"id: https://example.com/p\nclasses: [{oemid: 'pen:1', affirming: ['true']}]", "line 2"},
		"syntax":              {rule("debug =="), "line 5"},
		"unknown variable":    {rule("dbg == 'x'"), "undeclared reference to 'dbg'"},
		"unknown field":       {rule("vector.software == 'affirming'"), "undefined field 'software'"},
		"types":               {rule("debug == 1"), "no matching overload"},
		"unsigned and signed": {rule("components.all(c, c.sequence_number > 3)"), "no matching overload"},
		"not a condition":     {rule("debug"), "true or false"},
		"bad regex":           {rule("debug.matches('(')"), "invalid matches"},
		"bad duration":        {rule("age < duration('soon')"), "duration"},
		"unknown function":    {rule("http('https://example.com')"), "undeclared"},
		"too long":            {rule("debug == '" + strings.Repeat("x", 5000) + "'"), "size"},
		"too deep":            {rule(strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300)), "recursion"},
		"too large":           {strings.Repeat(" ", policy.MaxFileBytes+1), "at most"},
		"too many rules":      {rule("'true'") + strings.Repeat("      - if: 'true'\n", policy.MaxRules), "rules"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.Parse([]byte(c.file))
			if !errors.Is(err, policy.ErrPolicy) || p != nil {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says: %v", err)
			}
		})
	}
}

// FuzzParse: whatever a file says, it is refused or judges without an error.
func FuzzParse(f *testing.F) {
	f.Add("id: https://example.com/p\nclasses:\n  - oemid: pen:3704\n    affirming:\n      - if: vector.hardware == \"affirming\"\n")
	f.Add("id: a:b\nclasses: [{oemid: 'pen:3704', affirming: [{if: 'weaknesses[0].size() / 0 == 1'}]}]")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse([]byte(text))
		if err != nil {
			if !errors.Is(err, policy.ErrPolicy) {
				t.Fatal(err)
			}
			return
		}
		if status, reasons, err := p.Judge(context.Background(), appraised()); err != nil || status == attest.StatusNone || len(reasons) != 1 {
			t.Fatal(status, reasons, err)
		}
	})
}
