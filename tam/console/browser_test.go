package console

import (
	"bytes"
	"context"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-teep/teep/tam/api"
)

// chromium finds the browser, or says how to get it.
func chromium(t *testing.T) string {
	t.Helper()
	find := func() string {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
		return ""
	}
	if path := find(); path != "" {
		return path
	}
	if os.Getenv("CI") != "true" {
		t.Skip("skipped: no browser is installed; 'apt-get install chromium' makes this test run")
	}
	if out, err := exec.Command("apt-get", "install", "-y", "--no-install-recommends", "chromium").CombinedOutput(); err != nil {
		t.Fatalf("no browser is installed, and it cannot be: %v\n%s", err, out)
	}
	return find()
}

// TestInABrowser shows pages in a real browser, wide and as on a phone: they are drawn, nothing offends
// against their own policy, nothing is asked of anybody else, and hostile texts run no script.
// With TEEP_SCREENSHOTS=DIR the pictures are kept.
func TestInABrowser(t *testing.T) {
	browser := chromium(t)
	s := newService(t)
	text := hostile
	if os.Getenv("TEEP_SCREENSHOTS") != "" {
		text = "camera" // pictures for people
	}
	s.fillWith(t.Context(), text)
	c, _ := s.login(api.ScopeAdministrator)
	target, err := url.Parse(s.server.URL)
	must(t, err)
	cookie := localCookie + "=" + cookieOf(t, c, s.server.URL)
	requested := make(chan string, 100)
	// The browser comes in through a proxy that is logged in, because it has no one to type.
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Set("Cookie", cookie)
		requested <- r.In.URL.Path
	}}
	front := httptest.NewServer(http.Handler(proxy))
	defer front.Close()

	dir := os.Getenv("TEEP_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for _, shot := range []struct {
		name, path, size string
		flags            []string
	}{
		{"fleet", "", "1100,900", nil},
		{"fleet-dark-phone", "", "500,1400", []string{"--force-dark-mode", "--blink-settings=preferredColorScheme=0"}},
		{"device", "devices/0123", "1100,1200", nil},
		{"device-phone", "devices/4567", "500,1800", nil},
		{"policies", "policies", "1100,900", nil},
		{"audit", "audit", "1100,700", nil},
	} {
		file := filepath.Join(dir, shot.name+".png")
		args := append([]string{
			"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0", "--user-data-dir=" + t.TempDir(),
			"--window-size=" + shot.size, "--screenshot=" + file,
		}, shot.flags...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, browser, append(args, front.URL+Prefix+shot.path)...)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v\n%s", shot.name, err, out)
		}
		for _, bad := range []string{"Content Security Policy", "Refused to", "CONSOLE", "Uncaught"} {
			if bytes.Contains(out, []byte(bad)) {
				t.Errorf("%s: the browser complains:\n%s", shot.name, out)
				break
			}
		}
		picture, err := os.Open(file)
		must(t, err)
		p, err := png.DecodeConfig(picture)
		must(t, err)
		must(t, picture.Close())
		if w, _, _ := strings.Cut(shot.size, ","); p.Width == 0 || w == "" {
			t.Errorf("%s: the picture is empty", shot.name)
		}
	}
	close(requested)
	styled := false
	for path := range requested {
		styled = styled || strings.HasSuffix(path, "/console.css")
		if !strings.HasPrefix(path, Prefix) && path != "/favicon.ico" {
			t.Errorf("the browser asked for %s", path)
		}
	}
	if !styled {
		t.Error("the browser did not fetch the style sheet")
	}
}
