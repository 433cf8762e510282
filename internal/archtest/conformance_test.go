package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	root             = "../.."
	conformanceTable = "docs/conformance.md"
	suiteFolder      = "teeptest/conform"
)

// requirement is one row of the table.
type requirement struct {
	line             int
	text, section    string
	code, tests      []string
	level, statement string
	remark           string
}

var quoted = regexp.MustCompile("`([^`]+)`")

func requirements(t *testing.T) []requirement {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, conformanceTable))
	if err != nil {
		t.Fatal(err)
	}
	var all []requirement
	number := regexp.MustCompile(`^(TEEP|HTTP|SUIT[A-Z-]*) ([0-9.]+)-[0-9]+$`)
	for i, line := range strings.Split(string(data), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 2 {
			continue
		}
		id := number.FindStringSubmatch(strings.TrimSpace(cells[1]))
		if id == nil {
			continue
		}
		if len(cells) != 8 {
			t.Errorf("%s:%d: %d cells, not 6", conformanceTable, i+1, len(cells)-2)
			continue
		}
		names := func(cell string) (all []string) {
			for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
				all = append(all, m[1])
			}
			return all
		}
		all = append(all, requirement{
			line: i + 1, text: id[1], section: id[2], level: strings.TrimSpace(cells[2]), statement: strings.TrimSpace(cells[3]),
			code: names(cells[4]), tests: names(cells[5]), remark: strings.TrimSpace(cells[6]),
		})
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rows", conformanceTable)
	}
	return all
}

// TestConformanceTableIsTrue: what the table names exists.
func TestConformanceTableIsTrue(t *testing.T) {
	for _, r := range requirements(t) {
		for _, c := range r.code {
			if fault := codeExists(c); fault != "" {
				t.Errorf("%s:%d: %s: %s", conformanceTable, r.line, c, fault)
			}
		}
		for _, name := range r.tests {
			if fault := testExists(name); fault != "" {
				t.Errorf("%s:%d: %s: %s", conformanceTable, r.line, name, fault)
			}
		}
		if r.remark == "" && (len(r.code) == 0 || len(r.tests) == 0) {
			t.Errorf("%s:%d: a row without remark names code and a test", conformanceTable, r.line)
		}
	}
}

// codeExists tells what is wrong with `file` or `file.go:declaration`.
func codeExists(name string) string {
	file, declaration, named := strings.Cut(name, ":")
	if _, err := os.Stat(filepath.Join(root, file)); err != nil {
		return "no such file"
	}
	if !named {
		return ""
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
	if err != nil {
		return err.Error()
	}
	if !declares(f, declaration) {
		return "the file declares no such name"
	}
	return ""
}

func declares(f *ast.File, name string) bool {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == name {
				return true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.Name == name {
						return true
					}
				case *ast.ValueSpec:
					for _, n := range s.Names {
						if n.Name == name {
							return true
						}
					}
				}
			}
		}
	}
	return false
}

// testExists tells what is wrong with `package.TestName` or `package.TestName/check`. The root
// package is called teep.
func testExists(name string) string {
	name, check, checked := strings.Cut(strings.Replace(name, ".Test", "\x00Test", 1), "\x00")
	if !checked {
		return "not of the form package.TestName"
	}
	folder, test := name, check
	test, check, checked = strings.Cut(test, "/")
	if folder == "teep" {
		folder = "."
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		return "no tests in that package"
	}
	if !anyDeclares(files, test) {
		return "no such test"
	}
	if !checked {
		return ""
	}
	if folder != suiteFolder {
		return "only the conformance suite has checks"
	}
	return checkExists(check)
}

func anyDeclares(files []string, name string) bool {
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err == nil && declares(f, name) {
			return true
		}
	}
	return false
}

// checkExists looks for a check's name among the strings of the suite. Checks of damaged messages
// are composed: "message-" and the damage.
func checkExists(name string) string {
	files, err := filepath.Glob(filepath.Join(root, suiteFolder, "*.go"))
	if err != nil {
		return err.Error()
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		for _, n := range []string{name, strings.TrimPrefix(name, "message-")} {
			if strings.Contains(string(data), "{"+strconv.Quote(n)+", ") {
				return ""
			}
		}
	}
	return "the conformance suite has no such check"
}

// specifications are the texts, where they lie beside the module: they are not part of it.
var specifications = map[string]string{
	"TEEP": "../shared/spec/teep-protocol.md",
	"HTTP": "../shared/spec/teep-over-http.md",

	"SUIT-REPORT":     "../shared/spec/suit-report.md",
	"SUIT-MANIFEST":   "../shared/spec/suit-manifest.md",
	"SUIT-TRUST":      "../shared/spec/suit-trust-domains.md",
	"SUIT-ENCRYPTION": "../shared/spec/suit-firmware-encryption.md",
	"SUIT-UPDATE":     "../shared/spec/suit-update-management.md",
	"SUIT-MTI":        "../shared/spec/suit-mti.md",
}

// TestConformanceTableIsComplete: each sentence of a text with a key word has a row in its section.
func TestConformanceTableIsComplete(t *testing.T) {
	rows := map[string]int{}
	for _, r := range requirements(t) {
		rows[r.text+" "+r.section]++
	}
	for text, path := range specifications {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Errorf("%s: %v", text, err)
				continue
			}
			t.Skipf("the texts are not here, so that rows cannot be counted: %v", err)
		}
		sentences := sentencesBySection(string(data))
		if len(sentences) == 0 {
			t.Errorf("%s: no sentence found", path)
		}
		for section, n := range sentences {
			if have := rows[text+" "+section]; have < n {
				t.Errorf("%s section %s: %d rows for %d sentences with a key word", text, section, have, n)
			}
		}
	}
}

var (
	keyWord     = regexp.MustCompile(`\b(MUST|SHALL|SHOULD|RECOMMENDED|REQUIRED)\b`)
	sentenceEnd = regexp.MustCompile(`[.:]\s+`)
	listItem    = regexp.MustCompile(`^\s*([-*]|\d\.|: )`)
)

// sentencesBySection counts the sentences with a key word in each section of a text in the
// Markdown of RFC authors, whose sections are numbered by their order.
func sentencesBySection(text string) map[string]int {
	_, text, _ = strings.Cut(text, "--- middle")
	text, _, _ = strings.Cut(text, "--- back")
	counts := map[string]int{}
	var numbers [6]int
	var paragraph []string
	section, fenced := "", false
	flush := func() {
		for _, s := range sentenceEnd.Split(strings.Join(paragraph, " "), -1) {
			if keyWord.MatchString(s) {
				counts[section]++
			}
		}
		paragraph = nil
	}
	for _, line := range strings.Split(text, "\n") {
		depth := len(line) - len(strings.TrimLeft(line, "#"))
		switch {
		case strings.HasPrefix(line, "~~~") || strings.HasPrefix(line, "```"):
			fenced = !fenced
			flush()
		case fenced:
		case depth > 0 && depth < len(numbers):
			flush()
			numbers[depth-1]++
			clear(numbers[depth:])
			parts := make([]string, depth)
			for i := range parts {
				parts[i] = strconv.Itoa(numbers[i])
			}
			section = strings.Join(parts, ".")
		default:
			if strings.TrimSpace(line) == "" || listItem.MatchString(line) {
				flush()
			}
			paragraph = append(paragraph, strings.TrimSpace(line))
		}
	}
	flush()
	return counts
}

// TestNamesThatDoNotExistAreNoticed: the checks above are checked themselves.
func TestNamesThatDoNotExistAreNoticed(t *testing.T) {
	for name, exists := range map[string]bool{
		"open.go": true, "open.go:Open": true, "open.go:Opened": true, "open.go:StepCBOR": true,
		"opened.go": false, "open.go:Close": false, "open.go:open": false,
	} {
		if (codeExists(name) == "") != exists {
			t.Errorf("code %s: %q", name, codeExists(name))
		}
	}
	for name, exists := range map[string]bool{
		"teep.TestValidationSteps": true, "attest/eat.TestPassport": true, suiteFolder + ".TestThisTAM/query-token": true,
		suiteFolder + ".TestThisTAM/message-crit": true, suiteFolder + ".TestThisTAM/message-nothing": false,
		"teep.TestNothing": false, "nowhere.TestValidationSteps": false, "teep.TestValidationSteps/step": false, "TestValidationSteps": false,
	} {
		if (testExists(name) == "") != exists {
			t.Errorf("test %s: %q", name, testExists(name))
		}
	}
}
