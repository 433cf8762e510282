package confine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-teep/teep/tee/sandbox/confine"
)

func TestParseWalls(t *testing.T) {
	var all []string
	for _, w := range confine.Walls() {
		all = append(all, string(w))
	}
	if got, err := confine.ParseWalls(all); err != nil || len(got) != len(all) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, names := range [][]string{{"Seccomp"}, {"seccomp "}, {""}, {"sec"}, {"all"}, {"landlock", "landlock"}, {"landlock,seccomp"}} {
		if got, err := confine.ParseWalls(names); err == nil {
			t.Errorf("%q was read as %v", names, got)
		}
	}
	if _, err := confine.ParseWalls([]string{"firewall"}); err == nil || !strings.Contains(err.Error(), "landlock") {
		t.Errorf("the error does not say what there is: %v", err)
	}
}

func TestReport(t *testing.T) {
	var r confine.Report
	if len(r.Weaknesses()) != 0 || r.Require(confine.Walls()) != nil {
		t.Fatal("nothing is missing, and something is")
	}
	r.Miss(confine.WallSeccomp, nil)
	r.Miss(confine.WallSeccomp, errors.New("first"))
	r.Miss(confine.WallSeccomp, errors.New("second"))
	r.Miss(confine.WallUser, errors.New("it is root"))
	w := r.Weaknesses()
	if len(w) != 2 || !strings.Contains(w[0], "it is root") || !strings.Contains(w[1], "seccomp: first") {
		t.Fatal(w)
	}
	if err := r.Require([]confine.Wall{confine.WallLandlock}); err != nil {
		t.Fatal(err)
	}
	err := r.Require([]confine.Wall{confine.WallLandlock, confine.WallSeccomp})
	if !errors.Is(err, confine.ErrMissing) || !strings.Contains(err.Error(), "first") {
		t.Fatal(err)
	}
}
