// Package config reads the programs' configuration files: one strict YAML document, decoded into
// a struct whose fields are the only keys there are. A key that is not known is an error that
// names its line, because a misspelt "require-attestation" must not pass in silence.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds a configuration file in bytes.
const maxSize = 4 << 20

// Load reads the file at path into the struct that into points to. Fields that the file does not
// mention keep their values, so defaults are set before.
func Load(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(data) > maxSize {
		return fmt.Errorf("configuration: %s is larger than %d bytes", path, maxSize)
	}
	if err := Parse(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Parse is Load for bytes in memory.
func Parse(data []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return Plain(err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("a second YAML document follows the first; keep one document in the file")
	}
	return nil
}

var (
	// notFound is how the YAML library says that a key has no field.
	notFound = regexp.MustCompile(`field (\S+) not found in type \S+`)
	// wrongType is how it says that a value does not fit its field.
	wrongType = regexp.MustCompile("cannot unmarshal !!(\\w+)( `([^`]*)`)? into (\\S+)")
)

// Plain rewrites the YAML library's messages, which speak of Go types, in the user's words.
func Plain(err error) error {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	lines := make([]string, len(typed.Errors))
	for i, line := range typed.Errors {
		line = notFound.ReplaceAllString(line, `unknown key "$1": check its spelling, or remove it`)
		lines[i] = wrongType.ReplaceAllStringFunc(line, func(text string) string {
			part := wrongType.FindStringSubmatch(text)
			return strings.TrimSpace(part[3] + " is not " + wanted(part[4]))
		})
	}
	return errors.New(strings.Join(lines, "; "))
}

// wanted says what a field takes.
func wanted(goType string) string {
	switch {
	case goType == "time.Duration":
		return `a duration such as "24h" or "1m30s"`
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "text"
	case strings.HasPrefix(goType, "[]"):
		return `a list: begin each entry with "- ", or write [a, b]`
	case strings.HasPrefix(goType, "int"):
		return "a whole number"
	case strings.HasPrefix(goType, "uint"):
		return "a whole number from 0"
	}
	return "what is expected here, which is a group of keys"
}

// Relative makes a path that a configuration file names absolute: relative ones are relative to
// the file that names them, so that a folder can be moved. An empty path stays empty.
func Relative(configFile, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(configFile), path)
}
