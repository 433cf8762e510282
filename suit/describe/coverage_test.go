package describe

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/go-teep/teep/suit"
)

// What the format has, a description can say, and the schema knows: every command and parameter that has a
// name, every section, every key.
func TestNothingIsLeftOut(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(schema, &doc); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	words(doc, known)
	const registered = 64
	for n := int64(1); n < registered; n++ {
		if code := suit.CommandCode(n); isNamed(code.String(), "condition-", "directive-") {
			if !slices.Contains(commandCodes, code) {
				t.Errorf("no description can say %s", code)
			}
			if _, short, _ := strings.Cut(code.String(), "-"); !known[short] {
				t.Errorf("the schema does not know %s", short)
			}
		}
		if label := suit.ParameterLabel(n); !strings.Contains(label.String(), "(") {
			if !slices.Contains(parameterLabels, label) {
				t.Errorf("no description can set %s", label)
			}
			if !known[label.String()] {
				t.Errorf("the schema does not know parameter %s", label)
			}
		}
	}
	for _, list := range [][]string{topLevel, componentKeys, payloadKeys, slotKeys, imageKeys, encryptKeys, invokeKeys, dependencyKeys,
		allTextKeys, waitKeys, otherDeviceKeys, metadataKeys, vendorForms, classForms, deviceForms, digestForms, bytesForms, actorForms,
		coswidForms, infoPlaces, fileTypes, hashNames, labelNames(severable), sequenceNames()} {
		for _, word := range list {
			if !known[word] {
				t.Errorf("the schema does not know %s", word)
			}
		}
	}
	if len(commandCodes) != 29 || len(parameterLabels) != 20 {
		t.Errorf("%d commands and %d parameters, the texts have 14 + 15 and 20", len(commandCodes), len(parameterLabels))
	}
}

func isNamed(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// words collects property names and the values of enum and const.
func words(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			into[key] = true
			words(value, into)
		}
	case []any:
		for _, item := range v {
			words(item, into)
		}
	case string:
		into[v] = true
	}
}
