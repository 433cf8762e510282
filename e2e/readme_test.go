package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func readme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// block returns the first fenced block after a text.
func block(t *testing.T, text, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, after)
	if !ok {
		t.Fatalf("README.md does not contain %q", after)
	}
	_, rest, _ = strings.Cut(rest, "```")
	_, rest, _ = strings.Cut(rest, "\n")
	body, _, ok := strings.Cut(rest, "\n```")
	if !ok {
		t.Fatalf("no fenced block after %q", after)
	}
	return body
}

// What differs from run to run.
var (
	hexadecimal = regexp.MustCompile(`\b[0-9a-f]{8,}(…|\b)`)
	port        = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	seconds     = regexp.MustCompile(`Done in [0-9.]+ s`)
	claims      = regexp.MustCompile(`\d+ claims`) // the kernel's walls decide how many
	accounts    = regexp.MustCompile(`the broker's account cannot read that folder.*|the broker runs under the same account.*`)
	bytesCount  = regexp.MustCompile(`\b\d+ (bytes|lines|files)\b`)
)

func normalized(text string) string {
	text = hexadecimal.ReplaceAllString(text, "HEX")
	text = port.ReplaceAllString(text, "127.0.0.1:PORT")
	text = claims.ReplaceAllString(text, "N claims")
	text = accounts.ReplaceAllString(text, "ACCOUNTS")
	text = seconds.ReplaceAllString(text, "Done in N s")
	return bytesCount.ReplaceAllString(strings.TrimSpace(text), "N $1")
}

// TestReadmeTranscript holds the README to what the demo really prints.
func TestReadmeTranscript(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "teep"), "demo")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("teep demo: %v\n%s\n%s", err, out, stderr.String())
	}
	got := strings.Split(normalized(string(out)), "\n")
	want := strings.Split(normalized(block(t, readme(t), "make demo ")), "\n")
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d of the transcript\nREADME: %s\ndemo:   %s", i+1, w, g)
		}
	}
}

// TestReadmeByHand runs the README's second screen as it stands, but for ports that may be in use here.
func TestReadmeByHand(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "byhand-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tam, api := unusedAddress(t), unusedAddress(t)
	script := block(t, readme(t), "<!-- byhand")
	script = strings.Replace(script, "teep-tam init tam", "teep-tam init tam --listen "+tam+" --api-listen "+api, 1)
	script = strings.ReplaceAll(script, "127.0.0.1:8081", api)
	script = "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\ncp " + filepath.Join(programs, "hello-1.wasm") + " .\n" + script

	runByHand(t, dir, script, "is installed", "Hello, Ada!", "affirming", "#1")
}

// runByHand runs a script in a folder, with the programs at hand, and looks for what it has to print.
func runByHand(t *testing.T, dir, script string, wants ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	for _, want := range wants {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q was not printed:\n%s\n%s", want, out, stderr.String())
		}
	}
}
