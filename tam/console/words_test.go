package console

import (
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	for got, want := range map[string]string{
		count(0, "device", "devices"): "0 devices", count(int64(1), "device", "devices"): "1 device",
		count(uint64(1234567), "device", "devices"): "1,234,567 devices",
		plain(&[]int64{1234}[0]):                    "1234", plain((*int64)(nil)): "<nil>",
		grouped("100"):   "100",
		grouped("-1000"): "-1000", grouped("1000"): "1,000",
		size(1): "1 byte", size(9_999): "9,999 bytes", size(10_000): "10 kB", size(1_234_567): "1.23 MB",
		span(0): "", span(90 * time.Minute): "1 hour 30 minutes", span(49*time.Hour + time.Second): "2 days 1 hour 1 second",
		ago(0): "now", ago(59 * time.Second): "59 seconds ago", ago(-time.Minute): "in 1 minute", ago(47 * time.Hour): "47 hours ago",
		ago(72*time.Hour + time.Second):      "3 days ago",
		moderate(now, now):                   "1 Mar, 12:30:00",
		moderate(now.AddDate(-1, 0, 0), now): "1 Mar 2025, 12:30:00",
		sentence("tam: there is none"):       "There is none.",
		sentence("policy: really?"):          "Really?",
		sentence("écrit \u202e"):             "Écrit ⟨U+202E⟩.",
		sentence(""):                         "",
		vendor("197ed9"):                     "pen:32473",
		vendor("zz\u202e"):                   "zz⟨U+202E⟩",
		readable("64656d6f"):                 "demo",
		readable("00ff"):                     "",
		readable("e280ae"):                   "",
		explainClaim("measurements of x"):    "what software runs in the TEE",
		explainClaim("pcr-4"):                "what the machine booted",
		explainClaim("anything"):             "",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
