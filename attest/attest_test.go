package attest_test

import (
	"testing"

	"github.com/go-teep/teep/attest"
)

// TestStatusOf walks the tiers of rats-ar4si §2.3.2 at their borders.
func TestStatusOf(t *testing.T) {
	for claim, want := range map[int8]attest.Status{
		-1: attest.StatusNone, 0: attest.StatusNone, 1: attest.StatusNone,
		2: attest.StatusAffirming, 31: attest.StatusAffirming, -2: attest.StatusAffirming, -32: attest.StatusAffirming,
		32: attest.StatusWarning, 95: attest.StatusWarning, -33: attest.StatusWarning, -96: attest.StatusWarning,
		96: attest.StatusContraindicated, 127: attest.StatusContraindicated,
		-97: attest.StatusContraindicated, -128: attest.StatusContraindicated,
	} {
		if got := attest.StatusOf(claim); got != want {
			t.Errorf("%d lies in %v, want %v", claim, got, want)
		}
	}
}

func TestWorst(t *testing.T) {
	worst := attest.StatusNone
	for _, s := range []attest.Status{attest.StatusAffirming, attest.StatusContraindicated, attest.StatusWarning} {
		worst = worst.Worst(s)
	}
	if worst != attest.StatusContraindicated {
		t.Error(worst)
	}
}

func TestParseStatus(t *testing.T) {
	for _, s := range []attest.Status{attest.StatusAffirming, attest.StatusWarning, attest.StatusContraindicated} {
		if got, err := attest.ParseStatus(s.String()); err != nil || got != s {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	for _, name := range []string{"", "none", "Affirming", "ok"} {
		if s, err := attest.ParseStatus(name); err == nil {
			t.Errorf("%q became %v", name, s)
		}
	}
}
