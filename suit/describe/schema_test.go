package describe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/go-teep/teep/suit/describe"
)

const schemaFile = "../../docs/suit-description.schema.json"

// validator knows as much of JSON schema as the schema of descriptions uses; a keyword beyond that
// is an error, so that nothing goes unchecked.
type validator struct{ defs map[string]any }

var annotations = []string{"$schema", "$defs", "title", "description"}

func (v validator) check(s map[string]any, value any, at string) error {
	for key, argument := range s {
		if slices.Contains(annotations, key) {
			continue
		}
		if err := v.keyword(key, argument, s, value, at); err != nil {
			return err
		}
	}
	return nil
}

func (v validator) keyword(key string, argument any, s map[string]any, value any, at string) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...))
	}
	object, isObject := value.(map[string]any)
	list, isList := value.([]any)
	number, isNumber := value.(float64)
	switch key {
	case "$ref":
		return v.check(v.defs[strings.TrimPrefix(argument.(string), "#/$defs/")].(map[string]any), value, at)
	case "anyOf":
		var all []string
		for _, choice := range argument.([]any) {
			err := v.check(choice.(map[string]any), value, at)
			if err == nil {
				return nil
			}
			all = append(all, err.Error())
		}
		return wrong("fits none of: %s", strings.Join(all, "; "))
	case "type":
		types, several := argument.([]any)
		if !several {
			types = []any{argument}
		}
		if !slices.ContainsFunc(types, func(t any) bool { return isType(t.(string), value) }) {
			return wrong("%v is not of type %v", value, argument)
		}
	case "enum":
		if !slices.Contains(argument.([]any), value) {
			return wrong("%v is none of the known words", value)
		}
	case "const":
		if argument != value {
			return wrong("%v is not %v", value, argument)
		}
	case "pattern":
		if text, ok := value.(string); ok && !regexp.MustCompile(argument.(string)).MatchString(text) {
			return wrong("%q does not fit %s", text, argument)
		}
	case "minimum", "maximum", "exclusiveMaximum":
		limit := argument.(float64)
		if isNumber && (key == "minimum" && number < limit || key == "maximum" && number > limit || key == "exclusiveMaximum" && number >= limit) {
			return wrong("%v is beyond the %s %v", number, key, limit)
		}
	case "minItems":
		if isList && float64(len(list)) < argument.(float64) {
			return wrong("has %d elements", len(list))
		}
	case "items":
		for i, item := range list {
			if err := v.check(argument.(map[string]any), item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "minProperties", "maxProperties":
		limit := argument.(float64)
		if n := float64(len(object)); isObject && (key == "minProperties" && n < limit || key == "maxProperties" && n > limit) {
			return wrong("has %v keys", n)
		}
	case "required":
		for _, name := range argument.([]any) {
			if _, ok := object[name.(string)]; isObject && !ok {
				return wrong("%s is missing", name)
			}
		}
	case "properties", "patternProperties":
		// with additionalProperties
	case "additionalProperties":
		return v.properties(s, object, at)
	default:
		return wrong("the schema uses %q, which this test does not know", key)
	}
	return nil
}

func (v validator) properties(s, object map[string]any, at string) error {
	named, _ := s["properties"].(map[string]any)
	patterns, _ := s["patternProperties"].(map[string]any)
	for key, value := range object {
		fits, ok := named[key]
		for pattern, p := range patterns {
			if regexp.MustCompile(pattern).MatchString(key) {
				fits, ok = p, true
			}
		}
		if !ok {
			fits = s["additionalProperties"]
		}
		if fits == false {
			return fmt.Errorf("%s: %q is not known", at, key)
		}
		if err := v.check(fits.(map[string]any), value, at+"."+key); err != nil {
			return err
		}
	}
	return nil
}

func isType(name string, value any) bool {
	switch x := value.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "integer" && x == math.Trunc(x)
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}

// asJSON is how an editor sees YAML.
func asJSON(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return asJSON(n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = asJSON(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, asJSON(c))
		}
		return list
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return err.Error()
	}
	switch x := v.(type) {
	case int:
		return float64(x)
	case uint64:
		return float64(x)
	case bool, nil, string, float64:
		return x
	}
	return n.Value
}

func validate(t *testing.T, source []byte) error {
	t.Helper()
	data, err := describe.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(source, &doc); err != nil {
		return err
	}
	return validator{root["$defs"].(map[string]any)}.check(root, asJSON(&doc), "")
}

// The file that editors use is the schema of this code.
func TestSchemaFileIsCurrent(t *testing.T) {
	want, err := describe.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s differs from the code (%v); run the test with -update and look at the change", schemaFile, err)
	}
}

// Every description that builds fits the schema.
func TestSchemaAcceptsDescriptions(t *testing.T) {
	var names []string
	for _, pattern := range []string{"testdata/*.yaml", "../../examples/suit/*.yaml", "../../examples/hello/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, source); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the schema refuses, Build refuses too.
func TestSchemaRefuses(t *testing.T) {
	for _, lines := range []string{
		"component: []", "components: []", "components: {}", "components: [{}]", "components: [{id: a}]", "", "dependencies: []",
		"components: [{id: [a], payload: {url: x}}]", "components: [{id: [a], invoke: 1}]", "components: [{id: [a]}]\nvendor: {domain: a, uuid: b}",
		"components: [{id: [a]}]\nvendor: {}", "components: [{id: [a]}]\nclass: {uuid: x}", "components: [{id: [a]}]\nversion: 1.0",
		"components: [{id: [a]}]\nseverable: [validate]", "components: [{id: [a]}]\ndigest-algorithm: md5",
		"components: [{id: [a]}]\nsequences: {instal: [fetch]}", "components: [{id: [a]}]\nsequences: {install: [fetsh]}",
		"components: [{id: [a]}]\nsequences: {install: [{fetch: 16}]}", "components: [{id: [a]}]\nsequences: {install: [{fetch: 1, copy: 1}]}",
		"components: [{id: [a]}]\nsequences: {install: [set-component-index]}", "components: [{id: [a]}]\nsequences: {install: [{set-component-index: false}]}",
		"components: [{id: [a]}]\nsequences: {install: [{try-each: [[fetch]]}]}", "components: [{id: [a]}]\nsequences: {install: [{override-parameters: {url: x}}]}",
		"components: [{id: [a]}]\nsequences: {install: [{override-parameters: {}}]}", "components: [{id: [a]}]\nsequences: {install: [{override-parameters: {image-size: big}}]}",
		"components: [{id: [a]}]\nsequences: {install: [{override-parameters: {version: '1.2'}}]}", "components: [{id: [a]}]\nuninstall: 1",
		"components: [{id: [a], slots: [{slot: 0, uri: u}]}]", "components: [{id: [a], metadata: {file-type: pipe}}]",
		"components: [{id: [a], content: {text: x, encrypt: {from: [k]}}}]", "components: [{id: [a]}]\ntext: {en: {descripton: x}}",
	} {
		source := []byte("sequence-number: 1\n" + lines)
		if err := validate(t, source); err == nil {
			t.Errorf("the schema accepts %q", lines)
		}
		if _, err := describe.Build(source, describe.Options{ReadFile: describe.FromFS(files(t))}); err == nil {
			t.Errorf("Build accepts %q", lines)
		}
	}
	if err := validate(t, []byte("components: [{id: [a]}]")); err == nil {
		t.Error("the schema accepts a description without sequence number")
	}
}
