package e2e

import (
	"bytes"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// collect TAM TOKENFILE OUT: writes everything that a TAM's operator side answers into a file: every GET route of its OpenAPI
// document for everything that is there, every route without a token, with a wrong one and with bodies that are
// none, and every page of the console that links lead to.
func collect(ts *testscript.TestScript, _ bool, args []string) {
	token, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(args[2]))
	ts.Check(err)
	c := &collector{ts: ts, base: args[0], token: strings.TrimSpace(string(token)), out: out, known: map[string][]string{}, seen: map[string]bool{}}
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	c.client = &http.Client{Jar: jar, Timeout: 20 * time.Second}
	c.routes()
	c.console()
	ts.Logf("%d answers in %s", c.answers, args[2])
	if c.answers < 100 {
		ts.Fatalf("only %d answers: the test would prove nothing", c.answers)
	}
	ts.Check(out.Close())
}

type collector struct {
	ts          *testscript.TestScript
	base, token string
	client      *http.Client
	out         io.Writer
	answers     int
	known       map[string][]string // values of path parameters
	seen        map[string]bool
}

// ask makes a request and notes the answer, with its headers.
func (c *collector) ask(method, path, token, body string) (int, []byte) {
	req, err := http.NewRequest(method, c.base+path, strings.NewReader(body))
	c.ts.Check(err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.client.Do(req)
	c.ts.Check(err)
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	c.ts.Check(err)
	c.answers++
	fmt.Fprintf(c.out, "%s %s: %d\n", method, path, res.StatusCode)
	c.ts.Check(res.Header.Write(c.out))
	_, err = c.out.Write(append(data, '\n'))
	c.ts.Check(err)
	return res.StatusCode, data
}

var parameter = regexp.MustCompile(`\{([a-z]+)\}`)

// routes asks for all GET routes, those without parameters first, whose answers say what there is.
func (c *collector) routes() {
	_, data := c.ask("GET", "/v1/openapi.json", "", "")
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	c.ts.Check(json.Unmarshal(data, &doc))
	var reads []string
	for path, methods := range doc.Paths {
		for method := range methods {
			method = strings.ToUpper(method)
			some := parameter.ReplaceAllString(path, "x")
			if strings.HasSuffix(path, "/stream") {
				continue // it does not end; its events are those of /v1/events
			}
			c.ask(method, some, "", "")
			c.ask(method, some, "teep_wrong"+c.token[10:], "")
			if method == "GET" {
				reads = append(reads, path)
				continue
			}
			// Faults in what is sent, beside something that is secret: it must not be repeated.
			c.ask(method, some, c.token, `{"name": {"x": "`+c.token+`"}}`)
		}
	}
	slices.SortFunc(reads, func(a, b string) int { return strings.Count(a, "{") - strings.Count(b, "{") })
	for _, path := range reads {
		for _, p := range c.expand(path) {
			status, data := c.ask("GET", p, c.token, "")
			if status == http.StatusOK {
				c.learn(path, data)
			}
		}
	}
}

// learn takes names out of a list.
func (c *collector) learn(path string, data []byte) {
	var page struct {
		Items []map[string]any `json:"items"`
	}
	if json.Unmarshal(data, &page) != nil {
		return
	}
	room := strings.Split(path, "/")[2]
	for _, item := range page.Items {
		for _, name := range []string{"id", "name", "manifest", "sequence"} {
			if s, ok := item[name].(string); ok {
				c.known[room+"."+name] = append(c.known[room+"."+name], s)
			} else if n, ok := item[name].(float64); ok && strings.HasSuffix(path, "/messages") {
				c.known["devices.message"] = append(c.known["devices.message"], fmt.Sprintf("%.0f", n))
			}
		}
	}
}

// expand puts every known value in the place of each parameter.
func (c *collector) expand(path string) []string {
	m := parameter.FindStringSubmatch(path)
	if m == nil {
		return []string{path}
	}
	values := c.known[strings.Split(path, "/")[2]+"."+m[1]]
	slices.Sort(values)
	values = slices.Compact(values)
	var all []string
	for _, v := range append(values, "none") {
		all = append(all, c.expand(strings.Replace(path, m[0], url.PathEscape(v), 1))...)
	}
	return all
}

var link = regexp.MustCompile(`href="([^"#]*)"`)

// console logs in and follows links.
func (c *collector) console() {
	u, err := url.Parse(c.base)
	c.ts.Check(err)
	res, err := c.client.PostForm(c.base+"/console/login", url.Values{"token": {c.token}})
	c.ts.Check(err)
	ok := res.Request.URL.Path == u.Path+"/console/"
	c.ts.Check(res.Body.Close())
	if !ok {
		c.ts.Fatalf("the console did not let in: %v", res.Request.URL)
	}
	pages := 0
	for todo := []string{"/console/"}; len(todo) > 0 && pages < 200; todo = todo[1:] {
		if c.seen[todo[0]] {
			continue
		}
		c.seen[todo[0]] = true
		pages++
		_, data := c.ask("GET", todo[0], "", "")
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			to := strings.ReplaceAll(m[1], "&amp;", "&")
			if rest, ok := strings.CutPrefix(to, u.Path); ok && strings.HasPrefix(rest, "/console/") && !strings.Contains(rest, "/static/") {
				todo = append(todo, rest)
			}
		}
	}
	if pages < 10 {
		c.ts.Fatalf("only %d pages", pages)
	}
}

// get URL FILE: writes what is at a URL into a file.
func get(ts *testscript.TestScript, _ bool, args []string) {
	res, err := http.Get(args[0])
	ts.Check(err)
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
}

// receive-hooks NAME OUT: receives webhooks and writes them into a file; $NAME is the URL.
func receiveHooks(ts *testscript.TestScript, _ bool, args []string) {
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	ln := listenLocally(ts)
	var mu sync.Mutex
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = r.Header.Write(out)
		_, _ = io.Copy(out, io.LimitReader(r.Body, 1<<20))
	})}
	go func() { _ = server.Serve(ln) }()
	ts.Defer(func() { _ = server.Close(); _ = out.Close() })
	ts.Setenv(args[0], "http://"+ln.Addr().String()+"/hook")
}

// token-keys STORE OUT: writes the keys that authenticate a TAM's tokens, in hexadecimal, a line each.
func tokenKeys(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	rows, err := db.Query(`SELECT secret FROM token_keys`)
	ts.Check(err)
	defer rows.Close()
	var out []byte
	for rows.Next() {
		var secret []byte
		ts.Check(rows.Scan(&secret))
		out = fmt.Appendf(out, "hex:%x\n", secret)
	}
	ts.Check(rows.Err())
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out, 0o600))
}

// conceals SECRETS… -- FILES…: nothing of what the first files hold is anywhere in the others, in whatever way
// it is written. The first are keys in PEM, or lines of secrets; folders are read with all that is below.
func conceals(ts *testscript.TestScript, _ bool, args []string) {
	n := slices.Index(args, "--")
	if n < 1 || n == len(args)-1 {
		ts.Fatalf("usage: conceals SECRETS… -- FILES…")
	}
	secrets := map[string][]byte{}
	for _, file := range args[:n] {
		walk(ts, file, func(path string, data []byte) {
			for i, s := range secretsIn(ts, path, data) {
				secrets[fmt.Sprintf("%s #%d", path, i+1)] = s
			}
		})
	}
	if len(secrets) < n {
		ts.Fatalf("there are %d secrets in %d files", len(secrets), n)
	}
	for name, s := range secrets {
		for how, form := range formsOf(s) {
			// The search itself is searched for, so that it cannot fail to find.
			if !bytes.Contains(bytes.ToLower(append([]byte("xyz"), form...)), bytes.ToLower(form)) || len(form) < 8 {
				ts.Fatalf("%s as %s is no use: %q", name, how, form)
			}
		}
	}
	for _, file := range args[n+1:] {
		walk(ts, file, func(path string, data []byte) {
			for name, s := range secrets {
				for how, form := range formsOf(s) {
					if i := bytes.Index(data, form); i >= 0 {
						ts.Fatalf("%s has %s in it, as %s: …%q…", path, name, how, data[max(0, i-200):min(len(data), i+len(form)+40)])
					}
				}
			}
		})
	}
}

func walk(ts *testscript.TestScript, file string, visit func(path string, data []byte)) {
	seen := false
	ts.Check(filepath.WalkDir(ts.MkAbs(file), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		seen = seen || len(data) > 0
		visit(path, data)
		return err
	}))
	if !seen {
		ts.Fatalf("%s is empty: nothing can be found in it", file)
	}
}

// secretsIn are the secrets of a file, as bytes.
func secretsIn(ts *testscript.TestScript, path string, data []byte) (all [][]byte) {
	if block, _ := pem.Decode(data); block != nil {
		if !strings.Contains(block.Type, "PRIVATE") {
			return nil
		}
		var key any
		var err error
		if block.Type == "EC PRIVATE KEY" {
			key, err = x509.ParseECPrivateKey(block.Bytes)
		} else {
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		}
		ts.Check(err)
		switch k := key.(type) {
		case interface{ Seed() []byte }:
			return [][]byte{k.Seed()}
		case interface{ Bytes() ([]byte, error) }:
			scalar, err := k.Bytes()
			ts.Check(err)
			return [][]byte{scalar}
		case interface{ Bytes() []byte }:
			return [][]byte{k.Bytes()}
		}
		ts.Fatalf("%s: a key of type %T", path, key)
	}
	if bytes.IndexByte(data, 0) >= 0 || filepath.Base(path) == "device-secret" {
		return [][]byte{data}
	}
	for _, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if encoded, ok := strings.CutPrefix(line, "hex:"); ok {
			raw, err := hex.DecodeString(encoded)
			ts.Check(err)
			all = append(all, raw)
		} else if len(line) >= 12 {
			all = append(all, []byte(line))
			if encoded, ok := strings.CutPrefix(line, "whsec_"); ok {
				raw, err := base64.StdEncoding.DecodeString(encoded)
				ts.Check(err)
				all = append(all, raw)
			}
		}
	}
	return all
}

// formsOf is how bytes may be written: as they are, in hexadecimal, in base64 wherever they begin in what is
// encoded, as JSON and Go quote them, and in decimal as Go prints them.
func formsOf(s []byte) map[string][]byte {
	forms := map[string][]byte{"bytes": s, "hex": []byte(hex.EncodeToString(s)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(s))),
		"decimal": []byte(strings.Trim(fmt.Sprint(s), "[]"))}
	if quoted, err := json.Marshal(string(s)); err == nil {
		forms["JSON"] = quoted[1 : len(quoted)-1]
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for offset := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, offset), s...))
			// The first and the last digits depend on what is beside the secret.
			first := []int{0, 2, 3}[offset]
			last := len(encoded)
			if (offset+len(s))%3 != 0 {
				last--
			}
			forms[fmt.Sprintf("%s+%d", name, offset)] = []byte(encoded[first:last])
		}
	}
	return forms
}
