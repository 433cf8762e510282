package suit

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
)

//go:embed *.yaml
var descriptions embed.FS

// Template is a description to start from.
type Template struct {
	// Name is that of its file, without the extension.
	Name string
	// About says in a sentence what it is for, with the section that it follows.
	About string
	// Text is the YAML. Its first line names the schema for editors, as the file SchemaFile beside it.
	Text []byte
}

// SchemaFile is where the text of a template expects the JSON schema of descriptions.
const SchemaFile = "suit-description.schema.json"

// Templates returns all of them by name, one for each template of the SUIT texts and more.
func Templates() ([]Template, error) {
	entries, err := descriptions.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("examples: %w", err)
	}
	var all []Template
	for _, e := range entries {
		text, err := descriptions.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("examples: %w", err)
		}
		text = bytes.Replace(text, []byte("../../docs/"+SchemaFile), []byte(SchemaFile), 1)
		all = append(all, Template{Name: strings.TrimSuffix(e.Name(), ".yaml"), About: about(text), Text: text})
	}
	return all, nil
}

// about is the first sentence of the comment after the schema's line.
func about(text []byte) string {
	var words []string
	for _, line := range strings.Split(string(text), "\n")[1:] {
		comment, ok := strings.CutPrefix(line, "# ")
		if !ok {
			break
		}
		words = append(words, comment)
	}
	sentence, _, _ := strings.Cut(strings.Join(words, " "), ". ")
	return strings.TrimSuffix(sentence, ".")
}
