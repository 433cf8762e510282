package tam_test

import (
	"crypto/rand"
	"syscall"
	"testing"
	"time"

	"github.com/go-teep/teep"
	"github.com/go-teep/teep/cose"
)

// BenchmarkSession measures what an attested session costs the TAM: connect, QueryResponse with an
// Attestation Result, Update, Success. It prints its CPU time beside that of its bare signatures and
// verifications in the same run, and the ratio of the two.
func BenchmarkSession(b *testing.B) {
	w := newWorld(b)
	w.publish(release{name: "app", sequence: 1, payload: "one"})
	a := w.agent(cose.AlgESP256).requests(componentID("app"))
	a.mediaType, a.attester = "", w.results
	var inTAM time.Duration
	process := func(msg []byte) []byte {
		start := cpuTime(b)
		var reply []byte
		var err error
		if msg == nil {
			reply, err = w.tam.ProcessConnect(ctx())
		} else {
			reply, err = w.tam.ProcessTeepMessage(ctx(), msg)
		}
		inTAM += cpuTime(b) - start
		must(b, err)
		return reply
	}
	for b.Loop() {
		q := a.open(process(nil)).(*teep.QueryRequest)
		u := a.open(process(a.protect(a.response(q)))).(*teep.Update)
		process(a.protect(&teep.Success{Token: u.Token, SUITReports: [][]byte{a.report(u.Manifests[0], u.Token, nil)}}))
	}
	floor := cryptography(b, w, b.N)
	b.ReportMetric(float64(inTAM.Microseconds())/float64(b.N), "µs-cpu/session")
	b.ReportMetric(float64(floor.Microseconds())/float64(b.N), "µs-cpu-floor/session")
	b.ReportMetric(float64(inTAM)/float64(floor), "x-floor")
}

// cryptography does the signatures and verifications of a session and nothing else: two signatures
// for the QueryRequest, one for the Update, and a verification of each of QueryResponse, Attestation
// Result and Success.
func cryptography(b *testing.B, w *world, n int) time.Duration {
	b.Helper()
	message := make([]byte, 600)
	p256, ed := signer(b, key(b, cose.AlgESP256)), signer(b, key(b, cose.AlgEd25519))
	signature, err := p256.Sign(rand.Reader, message)
	must(b, err)
	v, err := p256.Public().Verifier()
	must(b, err)
	start := cpuTime(b)
	for range n {
		for _, s := range []cose.Signer{p256, ed, p256} {
			if _, err := s.Sign(rand.Reader, message); err != nil {
				b.Fatal(err)
			}
		}
		for range 3 {
			if err := v.Verify(message, signature); err != nil {
				b.Fatal(err)
			}
		}
	}
	return cpuTime(b) - start
}

// cpuTime is the processor time of this process so far.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	must(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
