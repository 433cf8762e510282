package e2e

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/go-teep/teep/attest/tpm/tpmtest"
)

// TestAttestation runs the scripts for devices with a TPM, which is emulated. $TPM is its socket, and
// $EKROOT and $EKISSUER are the certificates of its maker.
func TestAttestation(t *testing.T) {
	t.Parallel()
	tpmtest.Require(t)
	dir, err := os.MkdirTemp("", "tpm") // short: the names of sockets are bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	maker, err := tpmtest.NewMaker(dir)
	if err != nil {
		t.Fatal(err)
	}
	var factory sync.Mutex // scripts run at the same time, and each has a TPM of its own
	testscript.Run(t, testscript.Params{
		Dir: "testdata/attestation",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("PROGRAMS", programs)
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, "tmp"))
			factory.Lock()
			defer factory.Unlock()
			env.Setenv("TPM", maker.ManufactureSocket(t))
			env.Setenv("EKROOT", filepath.Join(dir, "ca", "swtpm-localca-rootca-cert.pem"))
			env.Setenv("EKISSUER", filepath.Join(dir, "ca", "issuer.pem"))
			return os.MkdirAll(filepath.Join(env.WorkDir, "tmp"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeaddr": freeAddress, "await": await, "eventually": eventually, "expand": expand, "measure": measure, "certify": certifyDevice,
		},
	})
}

// measure PCR TEXT: extends a PCR, as firmware does with what it starts. No agent may use the TPM.
func measure(ts *testscript.TestScript, _ bool, args []string) {
	chip, err := linuxudstpm.Open(ts.Getenv("TPM"))
	ts.Check(err)
	defer chip.Close()
	pcr, err := strconv.ParseUint(args[0], 10, 8)
	ts.Check(err)
	digest := sha256.Sum256([]byte(args[1]))
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(chip)
	ts.Check(err)
}
