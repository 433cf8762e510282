package tdx

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// maxCached is the largest answer that is read from a folder, in bytes.
const maxCached = 8 << 20

// Folder is a [Cache] of answers in files, each as "curl -i" writes it: status line, headers, and
// body. [FileName] says under which name. Files are read at every use, so that a job that renews
// them needs to tell nobody; it writes beside them and renames. That they are authentic and current
// is checked by Intel's signatures and dates in them.
type Folder struct{ dir string }

var _ Cache = (*Folder)(nil)

// OpenFolder checks that there is such a folder.
func OpenFolder(dir string) (*Folder, error) {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = errors.New("it is not a folder")
	}
	if err != nil {
		return nil, fmt.Errorf("tdx: cache of Intel's collateral %s: %w", dir, err)
	}
	return &Folder{dir: dir}, nil
}

// FileName is where the answer to a URL is: the URL without its scheme, in which everything but
// letters, digits, dot and hyphen is an underscore.
func FileName(url string) string {
	_, url, _ = strings.Cut(url, "://")
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '_'
	}, url)
}

// Get implements [Cache].
func (f *Folder) Get(url string) (map[string][]string, []byte, error) {
	name := filepath.Join(f.dir, FileName(url))
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s is not in the cache: fetch it with: curl -si '%s' -o %s", url, url, name)
	}
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxCached+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxCached {
		return nil, nil, fmt.Errorf("%s has more than %d bytes", name, maxCached)
	}
	return parseAnswer(name, data)
}

// parseAnswer reads an answer of HTTP/1.1 or of HTTP/2, whose status line curl writes without a
// minor version.
func parseAnswer(name string, data []byte) (map[string][]string, []byte, error) {
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	status := strings.Fields(string(line))
	if !ok || len(status) < 2 || !strings.HasPrefix(status[0], "HTTP/") {
		return nil, nil, fmt.Errorf("%s does not begin with an HTTP status: write it with curl -i", name)
	}
	if status[1] != "200" {
		return nil, nil, fmt.Errorf("%s is the answer %s, not 200: fetch it again", name, strings.Join(status[1:], " "))
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.0 200 OK\r\n"), bytes.NewReader(rest))), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	// The transfer is over: only what follows the headers counts.
	header := answer.Header
	body, ok := afterHeaders(data)
	if err := answer.Body.Close(); err != nil || !ok {
		return nil, nil, fmt.Errorf("%s has no end of its headers", name)
	}
	return header, body, nil
}

// afterHeaders returns what follows the first empty line.
func afterHeaders(data []byte) (body []byte, ok bool) {
	for _, end := range []string{"\r\n\r\n", "\n\n"} {
		if _, body, ok = bytes.Cut(data, []byte(end)); ok {
			return body, true
		}
	}
	return nil, false
}
