package archtest

import (
	"bufio"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxLines is where a file has outgrown its room. Generated code is not counted.
const maxLines = 600

func TestPackagesSayWhatTheyAre(t *testing.T) {
	for _, p := range packages(t) {
		commented := false
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc == nil {
				continue
			}
			commented = true
			want := "Package " + f.Name.Name + " "
			if f.Name.Name == "main" {
				want = "Command "
			}
			if !strings.HasPrefix(f.Doc.Text(), want) {
				t.Errorf("%s/%s: the package comment does not start with %q", p.ImportPath, name, want)
			}
		}
		if len(p.GoFiles) > 0 && !commented {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestFilesStaySmall(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			if lines := countLines(t, path); lines > maxLines {
				t.Errorf("%s has %d lines, more than %d: split it by what is in it", path, lines, maxLines)
			}
		}
	}
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		if n == 0 && strings.HasPrefix(s.Text(), "// Code generated") {
			return 0
		}
	}
	return n
}

func TestNamesSaySomething(t *testing.T) {
	for _, p := range packages(t) {
		r, _ := room(p.ImportPath)
		for _, part := range append(strings.Split(r, "/"), p.GoFiles...) {
			switch strings.TrimSuffix(part, ".go") {
			case "util", "utils", "common", "helper", "helpers", "misc":
				t.Errorf("%s: %q says nothing; name it for what is in it", p.ImportPath, part)
			}
		}
	}
}

// TestArchitectureNamesEveryRoom holds ARCHITECTURE.md to the code. Packages that only tests of
// their parent use need no line.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		r, _ := room(p.ImportPath)
		if !strings.Contains(string(text), "`"+r+"`") && !strings.HasSuffix(r, "test") {
			t.Errorf("ARCHITECTURE.md does not mention %s: say what is in it", r)
		}
	}
}
