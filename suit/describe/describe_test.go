package describe_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/suit"
	"github.com/go-teep/teep/suit/describe"
)

var update = flag.Bool("update", false, "write the golden files anew")

// files are what the descriptions of the tests refer to.
func files(t testing.TB) fstest.MapFS {
	t.Helper()
	f := fstest.MapFS{
		"hello.wasm": {Data: []byte("\x00asm\x01\x00\x00\x00")}, "app.bin": {Data: []byte("application")},
		"a.bin": {Data: []byte("AAAA")}, "empty": {},
	}
	source, err := os.ReadFile("testdata/hello.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := describe.Build(source, describe.Options{ReadFile: describe.FromFS(f)})
	if err != nil {
		t.Fatal(err)
	}
	f["hello.suit"] = &fstest.MapFile{Data: r.Envelope.Encode()}
	return f
}

func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no descriptions: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			o := describe.Options{Name: name, ReadFile: describe.FromFS(files(t))}
			r, err := describe.Build(source, o)
			if err != nil {
				t.Fatal(err)
			}
			again, err := describe.Build(source, o)
			if err != nil || !bytes.Equal(r.Envelope.Encode(), again.Envelope.Encode()) {
				t.Errorf("the same description gives another envelope: %v", err)
			}
			got, err := suit.Annotate(r.Envelope.Encode())
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".diag"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; run the test with -update and look at the change. Now:\n%s", golden, got)
			}
			checkManifest(t, r)
		})
	}
}

// Each section selects a component first when there are several (SUIT §6.2).
func checkManifest(t *testing.T, r *describe.Result) {
	t.Helper()
	m, err := r.Envelope.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	if m.Common.IndexCount() < 2 {
		return
	}
	for _, label := range append(suit.SectionLabels(), suit.LabelCommon) {
		if s := m.Section(label); s.Available() && s.Commands[0].Code != suit.DirSetComponentIndex {
			t.Errorf("%v does not begin with set-component-index", label)
		}
	}
}

func TestPayloadsToServe(t *testing.T) {
	source, err := os.ReadFile("testdata/fetch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := describe.Build(source, describe.Options{ReadFile: describe.FromFS(files(t))})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Payloads) != 1 || r.Payloads[0].URI != "https://example.com/app.bin" ||
		string(r.Payloads[0].Content) != "application" || r.Payloads[0].File != "app.bin" || r.Payloads[0].Encrypted {
		t.Errorf("payloads are %+v", r.Payloads)
	}
}

// simple is a description with lines of its own below the mandatory ones.
func simple(lines string) string {
	return "sequence-number: 1\n" + lines
}

func TestErrors(t *testing.T) {
	component := func(rest string) string { return simple("components:\n  - id: [a]\n    " + rest) }
	install := func(command string) string {
		return simple("components: [{id: [a]}]\nsequences:\n  install:\n    - " + command)
	}
	for name, tc := range map[string]struct{ source, position, want string }{
		"empty":                     {"", "1:1", "description is empty"},
		"only a comment":            {"# nothing", "1:1", "description is empty"},
		"not YAML":                  {"a: b: c", "1:1", "not valid YAML"},
		"a list":                    {"- a", "1:1", "must be a mapping"},
		"two documents":             {"sequence-number: 1\n---\na: 1", "2:1", "only one document"},
		"alias":                     {simple("vendor: &v {domain: a}\nclass: *v"), "2:9", "aliases are not supported"},
		"unknown key":               {simple("component: []"), "2:1", `did you mean "components"?`},
		"unknown key, far off":      {simple("wheels: 4"), "2:1", "possible are manifest-component-id"},
		"duplicate key":             {simple("version: '1'\nversion: '2'"), "3:1", "twice"},
		"no sequence number":        {"components: [{id: [a]}]", "1:1", "sequence-number is missing"},
		"no components":             {simple(""), "1:1", "components are missing"},
		"negative sequence number":  {"sequence-number: -1\ncomponents: [{id: [a]}]", "1:18", "not negative"},
		"quoted sequence number":    {"sequence-number: '1'\ncomponents: [{id: [a]}]", "1:18", "must be a number"},
		"version as number":         {simple("version: 1.0\ncomponents: [{id: [a]}]"), "2:10", "put it into quotes"},
		"version with build":        {simple("version: 1.0.0+x\ncomponents: [{id: [a]}]"), "2:10", "build metadata"},
		"vendor as text":            {simple("vendor: example.com\ncomponents: [{id: [a]}]"), "2:9", "must be a mapping"},
		"vendor twice":              {simple("vendor: {domain: a, uuid: b}\ncomponents: [{id: [a]}]"), "2:9", "exactly one of domain, uuid, pen"},
		"vendor UUID":               {simple("vendor: {uuid: x}\ncomponents: [{id: [a]}]"), "2:16", "not a UUID"},
		"vendor PEN":                {simple("vendor: {pen: 4294967296}\ncomponents: [{id: [a]}]"), "2:15", "32 bits"},
		"class without vendor":      {simple("class: {name: x}\ncomponents: [{id: [a]}]"), "2:8", "needs a vendor"},
		"digest algorithm":          {simple("digest-algorithm: sha256\ncomponents: [{id: [a]}]"), "2:19", `did you mean "sha-256"?`},
		"components as mapping":     {simple("components: {id: [a]}"), "2:13", "must be a list"},
		"components empty":          {simple("components: []"), "2:13", "is empty"},
		"component without id":      {simple("components: [{invoke: true}]"), "2:14", "no id"},
		"component twice":           {simple("components: [{id: [a]}, {id: [a]}]"), "2:25", "described twice"},
		"id as text":                {simple("components: [{id: a}]"), "2:19", "list of segments"},
		"id with number":            {simple("components: [{id: [1]}]"), "2:20", "put it into quotes"},
		"id with odd hex":           {simple("components: [{id: [{hex: abc}]}]"), "2:26", "hexadecimal"},
		"file not there":            {component("payload: {file: nowhere, integrated: true}"), "4:21", `cannot read file "nowhere"`},
		"payload from nowhere":      {component("payload: {file: a.bin}"), "4:14", "give uri, or integrated: true"},
		"payload without digest":    {component("payload: {uri: 'https://example.com'}"), "4:14", "a digest is needed"},
		"integrated without file":   {component("payload: {integrated: true, digest: {sha-256: '00'}}"), "4:14", "needs its file"},
		"file and digest":           {component("payload: {file: a.bin, uri: u, size: 4}"), "4:14", "leave them out"},
		"short digest":              {component("payload: {uri: u, digest: {sha-256: '00'}}"), "4:41", "has 32 bytes, 1 are given"},
		"several sources":           {component("content: x\n    payload: {file: a.bin, integrated: true}"), "3:5", "several sources"},
		"image and payload":         {component("content: x\n    image: {file: a.bin}"), "5:12", "leave one out"},
		"copy from unknown":         {component("copy-from: [b]"), "3:5", "no component is called 'b'"},
		"copy from itself":          {component("copy-from: [a]"), "3:5", "its own source"},
		"one slot":                  {component("slots: [{slot: 0, file: a.bin, uri: u}]"), "4:12", "at least two"},
		"slot twice":                {component("slots: [{slot: 0, file: a.bin, uri: u}, {slot: 0, file: a.bin, uri: v}]"), "4:45", "described twice"},
		"slot without number":       {component("slots: [{file: a.bin, uri: u}, {slot: 0, file: a.bin, uri: v}]"), "4:13", "no number"},
		"invoke as text":            {component("invoke: 'yes'"), "4:13", "true or false"},
		"encrypt without recipient": {component("content: {text: x, encrypt: {}}"), "4:33", "needs recipients"},
		"encrypt without random":    {component("content: {text: x, encrypt: {to: [a.bin]}}"), "4:33", "randomness"},
		"encrypt without file":      {component("payload: {uri: u, digest: {file: a.bin}, encrypt: {to: [a.bin]}}"), "4:55", "only a file"},
		"text unknown":              {simple("components: [{id: [a]}]\ntext: {en: {descripton: x}}"), "3:13", `did you mean "description"?`},
		"text number":               {simple("components: [{id: [a]}]\ntext: {en: {description: 1}}"), "3:26", "must be text"},
		"text language":             {simple("components: [{id: [a]}]\ntext: {'e n': {description: x}}"), "1:1", "not a language tag"},
		"severable validate":        {simple("components: [{id: [a]}]\nseverable: [validate]"), "3:13", "possible are text"},
		"severable twice":           {simple("components: [{id: [a]}]\nseverable: [text, text]"), "3:19", "twice"},
		"coswid file missing":       {simple("components: [{id: [a]}]\ncoswid: {file: nowhere}"), "3:16", "cannot read"},
		"dependency without source": {simple("dependencies: [{id: [d], uri: u}]"), "2:16", "needs file, or digest"},
		"dependency no envelope":    {simple("dependencies: [{file: a.bin, integrated: true}]"), "2:23", "envelope"},
		"dependency from nowhere":   {simple("dependencies: [{file: hello.suit}]"), "2:16", "give uri, or integrated"},
		"dependency without id":     {simple("dependencies: [{uri: u, digest: {file: a.bin}}]"), "2:16", "has no id"},
		"dependency integrated":     {simple("dependencies: [{id: [a], integrated: true, digest: {file: a.bin}}]"), "2:16", "needs its file"},
		"sequences unknown":         {simple("components: [{id: [a]}]\nsequences: {instal: [fetch]}"), "3:13", `did you mean "install"?`},
		"sequence empty":            {simple("components: [{id: [a]}]\nsequences: {install: []}"), "3:22", "is empty"},
		"command unknown":           {install("fetsh"), "5:7", `did you mean "fetch"?`},
		"command of two words":      {install("{fetch: 1, copy: 2}"), "5:7", "each on a line of its own"},
		"command as list":           {install("[fetch]"), "5:7", "a command is a word"},
		"unassigned command":        {install("-255"), "5:7", "not known in sequence"},
		"index missing":             {install("set-component-index"), "5:7", "needs an argument"},
		"index false":               {install("set-component-index: false"), "5:28", "true for all"},
		"index text":                {install("set-component-index: a"), "5:28", "must be a number"},
		"policy too large":          {install("fetch: 16"), "5:14", "unknown bits"},
		"parameters empty":          {install("override-parameters: {}"), "5:28", "set at least one"},
		"parameter unknown":         {install("override-parameters: {url: x}"), "5:29", `did you mean "uri"?`},
		"parameter type":            {install("override-parameters: {image-size: big}"), "5:41", "must be a number"},
		"version operator":          {install("override-parameters: {version: '1.2'}"), "5:38", "must begin with"},
		"wait for nothing":          {install("override-parameters: {wait-info: {}}"), "5:40", "no event"},
		"wait unknown":              {install("override-parameters: {wait-info: {tide: 1}}"), "5:41", `did you mean "time"?`},
		"file type":                 {install("override-parameters: {component-metadata: {file-type: pipe}}"), "5:61", "regular, directory, symlink"},
		"try-each alone":            {install("try-each: [[fetch]]"), "5:17", "at least two"},
		"custom argument":           {install("-300: true"), "5:13", "a custom command takes"},
		"command in shared":         {simple("components: [{id: [a]}]\nsequences: {shared: [fetch]}"), "1:1", "not allowed in the shared sequence"},
		"too deep":                  {install(strings.Repeat("run-sequence: [", 12) + "fetch" + strings.Repeat("]", 12)), "5:", "nest too deep"},
	} {
		_, err := describe.Build([]byte(tc.source), describe.Options{Name: "x.yaml", ReadFile: describe.FromFS(files(t))})
		var de *describe.Error
		if !errors.As(err, &de) {
			t.Errorf("%s: got %v, want an error with its position", name, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), strings.TrimSuffix("x.yaml:"+tc.position, ":")+":") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %q, want position %s and %q", name, err, tc.position, tc.want)
		}
	}
}

func TestNoFilesWithoutReader(t *testing.T) {
	_, err := describe.Build([]byte(simple("components: [{id: [a], payload: {file: /etc/passwd, integrated: true}}]")), describe.Options{})
	if err == nil || !strings.Contains(err.Error(), "files cannot be read here") {
		t.Errorf("got %v", err)
	}
}

func TestEncryption(t *testing.T) {
	key, err := cose.GenerateKey(rand.Reader, cose.AlgECDHESA128KW)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	f := files(t)
	f["device.pub"] = &fstest.MapFile{Data: public}
	r, err := describe.Build([]byte(simple(`
components:
  - id: [config]
    content: {text: "secret settings", encrypt: {to: [device.pub], algorithm: A128CTR}}
  - id: [app]
    payload: {file: app.bin, uri: "https://example.com/app.enc", encrypt: {to: [device.pub]}}
`)), describe.Options{ReadFile: describe.FromFS(f), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(r.Envelope.Encode(), []byte("secret")) {
		t.Error("the plaintext is in the envelope")
	}
	m, err := r.Envelope.UnverifiedManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Common.Components; len(got) != 3 || got[2].String() != "'app'/'encrypted'" {
		t.Errorf("components are %v", got)
	}
	var content []byte
	var infos [][]byte
	m.Install.Commands.Walk(func(c *suit.Command) bool {
		if data, ok := c.Parameters.Content(); ok {
			content = data
		}
		if info, ok := c.Parameters.EncryptionInfo(); ok {
			infos = append(infos, info)
		}
		return true
	})
	if len(infos) != 2 || len(r.Payloads) != 1 || !r.Payloads[0].Encrypted {
		t.Fatalf("%d encryption infos, payloads %+v", len(infos), r.Payloads)
	}
	for i, want := range []string{"secret settings", "application"} {
		ciphertext := [][]byte{content, r.Payloads[0].Content}[i]
		plain, err := suit.DecryptPayload(infos[i], cose.DecryptKeys{key}, bytes.NewReader(ciphertext), int64(len(ciphertext)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || string(got) != want {
			t.Errorf("decrypts to %q (%v), want %q", got, err, want)
		}
	}
}

// Hostile descriptions must not crash the reader.
func FuzzBuild(f *testing.F) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source)
	}
	fsys := describe.FromFS(files(f))
	f.Fuzz(func(t *testing.T, source []byte) {
		r, err := describe.Build(source, describe.Options{ReadFile: fsys})
		if err != nil {
			var de *describe.Error
			if !errors.As(err, &de) {
				t.Errorf("error without position: %v", err)
			}
			return
		}
		if _, err := suit.ParseEnvelope(r.Envelope.Encode()); err != nil {
			t.Error(err)
		}
	})
}
