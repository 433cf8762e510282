package tdx_test

import (
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	tdxtest "github.com/google/go-tdx-guest/testing"

	"github.com/go-teep/teep/attest"
	"github.com/go-teep/teep/attest/tdx"
)

// recorder remembers what is asked for.
type recorder struct{ urls map[string]bool }

func (r recorder) Get(url string) (map[string][]string, []byte, error) {
	r.urls[url] = true
	return tdxtest.TestGetter.Get(url)
}

// fill writes what go-tdx-guest's sample collateral answers, as curl -i would.
func fill(t *testing.T, dir string) (urls []string) {
	t.Helper()
	asked := recorder{map[string]bool{}}
	if _, err := read(reports(t, asked), sample(t), testNow); err != nil {
		t.Fatal(err)
	}
	for url := range asked.urls {
		header, body, err := tdxtest.TestGetter.Get(url)
		if err != nil {
			continue
		}
		var text strings.Builder
		text.WriteString("HTTP/2 200\r\n")
		if err := http.Header(header).Write(&text); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, tdx.FileName(url)), []byte(text.String()+"\r\n"+string(body)), 0o600); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, url)
	}
	sort.Strings(urls)
	return urls
}

// TestFolderIsTheCache: from files, the verdict on the sample is that of its source.
func TestFolderIsTheCache(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir)
	if len(urls) < 4 {
		t.Fatalf("asked for %q only", urls)
	}
	folder, err := tdx.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := read(reports(t, cache{}), sample(t), testNow)
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(reports(t, folder), sample(t), testNow)
	if err != nil || got.Findings[0] != want.Findings[0] {
		t.Errorf("%+v, %v, want %+v", got, err, want.Findings[0])
	}
	// What is missing is contraindicated, and the reason says how to get it.
	for _, url := range urls {
		name := filepath.Join(dir, tdx.FileName(url))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		got, err := read(reports(t, folder), sample(t), testNow)
		if err != nil || attest.StatusOf(got.Findings[0].Value) != attest.StatusContraindicated || !strings.Contains(got.Findings[0].Text, "curl -si '"+url+"'") {
			t.Errorf("without %s: %+v, %v", url, got, err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFolderRefuses(t *testing.T) {
	dir := t.TempDir()
	if f, err := tdx.OpenFolder(filepath.Join(dir, "none")); err == nil {
		t.Error(f)
	}
	folder, err := tdx.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://example.com/a/b?c=d"
	name := filepath.Join(dir, "example.com_a_b_c_d")
	if f, err := tdx.OpenFolder(name); err == nil {
		t.Error(f)
	}
	for what, text := range map[string]string{
		"nothing":        "",
		"no status":      "{}\n\n",
		"another status": "HTTP/1.1 404 Not Found\r\n\r\n",
		"no end":         "HTTP/1.1 200 OK\r\nA: b\r\n",
		"no headers":     "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
		"too much":       "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 9<<20),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, body, err := folder.Get(url); err == nil {
			t.Errorf("%s: %.40q", what, body)
		}
	}
	if err := os.WriteFile(name, []byte("HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\nbody"), 0o600); err != nil {
		t.Fatal(err)
	}
	header, body, err := folder.Get(url)
	if err != nil || string(body) != "body" || header["A"][0] != "b" {
		t.Errorf("%v, %q, %v", header, body, err)
	}
}

// FuzzFolder: what lies in the folder is read, or refused with its name.
func FuzzFolder(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"))
	f.Add([]byte("HTTP/2 200\n\nbody"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n"))
	dir := f.TempDir()
	folder, err := tdx.OpenFolder(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "x"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, body, err := folder.Get("https://x"); err == nil && !strings.HasSuffix(string(data), string(body)) {
			t.Errorf("%q became %q", data, body)
		}
	})
}
