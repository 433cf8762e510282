package describe

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/go-teep/teep/suit"
)

// Schema returns the JSON schema (draft 2020-12) of descriptions, for editors that complete and
// check YAML. It goes by the same lists of words as [Build]; what depends on more than one place of
// a description, Build alone knows.
func Schema() ([]byte, error) {
	root := schemaObject(topLevel, schema{
		"manifest-component-id": described(ref("component-id"), "Where devices record the manifest, as a list of segments. The signer needs rights to it."),
		"sequence-number":       described(unsigned, "Rises with every version of the manifest: devices never go back."),
		"version":               described(text, "Semantic version of what the manifest installs, such as 1.2.0-rc.1."),
		"vendor":                ref("vendor"), "class": ref("class"), "device": ref("device"),
		"components":       described(listOf(ref("component")), "What the manifest installs, or looks at."),
		"dependencies":     described(listOf(ref("dependency")), "Manifests that have to be installed with this one, and before it."),
		"text":             ref("text"),
		"reference-uri":    described(text, "Where the envelope is found."),
		"coswid":           described(form(coswidForms, schema{"file": text}), "Concise software identification tag (RFC 9393)."),
		"severable":        described(listOf(schema{"enum": labelNames(severable)}), "Members that may be left out of the envelope later."),
		"digest-algorithm": schema{"enum": hashNames},
		"uninstall":        described(boolean, "False leaves out the uninstall section."),
		"sequences":        described(schemaObject(sequenceNames(), same(sequenceNames(), anyOf(ref("sequence"), schema{"type": "null"}))), "Sections written out, instead of what the templates would make; null leaves one out."),
		"untagged":         described(boolean, "Leaves out tag 107."),
	})
	root["required"] = []string{"sequence-number"}
	root["anyOf"] = []schema{{"required": []string{"components"}}, {"required": []string{"dependencies"}}}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Description of a SUIT manifest"
	root["$defs"] = definitions()
	data, err := json.MarshalIndent(root, "", "  ")
	return append(data, '\n'), err
}

// schema is one JSON schema.
type schema map[string]any

var (
	text     = schema{"type": "string"}
	unsigned = schema{"type": "integer", "minimum": 0}
	integer  = schema{"type": "integer"}
	boolean  = schema{"type": "boolean"}
	// hexText may look like a number to YAML.
	hexText  = schema{"type": []string{"string", "integer"}}
	uuidText = schema{"type": "string", "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"}
)

func ref(name string) schema         { return schema{"$ref": "#/$defs/" + name} }
func anyOf(choices ...schema) schema { return schema{"anyOf": choices} }
func listOf(item schema) schema      { return schema{"type": "array", "minItems": 1, "items": item} }
func described(s schema, d string) schema {
	s = maps.Clone(s)
	s["description"] = d
	return s
}

// schemaObject is a mapping with certain keys. Each of the keys needs a schema, and nothing else may have
// one; a mistake here is found by the first test.
func schemaObject(keys []string, properties schema) schema {
	if !slices.Equal(slices.Sorted(slices.Values(keys)), slices.Sorted(maps.Keys(properties))) {
		panic("describe: schema and reader disagree about " + strings.Join(keys, ", "))
	}
	return schema{"type": "object", "properties": properties, "additionalProperties": false}
}

// form is a mapping of exactly one of the keys.
func form(keys []string, properties schema) schema {
	s := schemaObject(keys, properties)
	s["minProperties"], s["maxProperties"] = 1, 1
	return s
}

func same(keys []string, s schema) schema {
	all := schema{}
	for _, k := range keys {
		all[k] = s
	}
	return all
}

// open is a mapping with keys that are the author's.
func open(value schema) schema { return schema{"type": "object", "additionalProperties": value} }

func definitions() schema {
	bytesSchemas := schema{"text": text, "hex": hexText, "uuid": uuidText, "file": text}
	content := maps.Clone(bytesSchemas)
	content["encrypt"] = ref("encrypt")
	hexes := same(digestForms, hexText)
	hexes["file"] = text
	return schema{
		"bytes":        anyOf(text, form(bytesForms, bytesSchemas)),
		"component-id": described(schema{"type": "array", "items": ref("bytes")}, "Segments of text, {hex: …} or {uuid: …}."),
		"vendor":       described(form(vendorForms, schema{"domain": text, "uuid": uuidText, "pen": schema{"type": "integer", "minimum": 0, "maximum": 1<<32 - 1}}), "Whose devices the manifest is for."),
		"class":        described(form(classForms, schema{"name": text, "uuid": uuidText}), "Which kind of device; a name belongs to the vendor."),
		"device":       described(form(deviceForms, schema{"uuid": uuidText}), "One single device."),
		"digest":       form(digestForms, hexes),
		"image":        schemaObject(imageKeys, schema{"file": text, "digest": ref("digest"), "size": unsigned}),
		"content":      anyOf(text, schemaObject(append(slices.Clone(bytesForms), "encrypt"), content)),
		"encrypt": described(schemaObject(encryptKeys, schema{
			"to":              described(listOf(text), "Key files of the recipients, PEM or COSE_Key."),
			"algorithm":       described(text, "A128GCM if not given; A256GCM, ChaCha20/Poly1305, A128CTR, A256CTR."),
			"info":            described(schema{"enum": infoPlaces}, "separate keeps the wrapped key out of the manifest: devices get it from one of their own."),
			"ciphertext":      described(text, "File that was encrypted before."),
			"encryption-info": described(text, "File with its SUIT_Encryption_Info."),
		}), "Encrypts to the devices that can open it."),
		"component":      componentSchema(),
		"payload":        payloadSchema(),
		"slot":           slotSchema(),
		"dependency":     dependencySchema(),
		"text":           described(open(schemaObject(allTextKeys, same(allTextKeys, text))), "Text for people, by language tag."),
		"component-text": open(schemaObject(componentTextKeyList(), same(componentTextKeyList(), text))),
		"parameters":     parametersSchema(),
		"sequence":       listOf(ref("command")),
		"command":        commandSchema(),
		"wait-info":      waitSchema(),
		"metadata":       metadataSchema(),
		"version-match":  schema{"type": "string", "pattern": "^(>|>=|=|<=|<) *[0-9]"},
		"actor":          anyOf(integer, text, form(actorForms, schema{"hex": hexText, "uuid": uuidText})),
	}
}

func componentSchema() schema {
	s := schemaObject(componentKeys, schema{
		"id":     described(ref("component-id"), "Name of the component on the device, as a list of segments."),
		"vendor": ref("vendor"), "class": ref("class"), "device": ref("device"),
		"payload":   described(ref("payload"), "Content that is fetched, or carried in the envelope."),
		"content":   described(ref("content"), "Content that lies in the manifest."),
		"slots":     described(schema{"type": "array", "minItems": 2, "items": ref("slot")}, "Images for each of several places (A/B)."),
		"copy-from": described(ref("component-id"), "Copied from another component when it is installed."),
		"swap-with": described(ref("component-id"), "Exchanged with another component when it is installed."),
		"load-from": described(ref("component-id"), "Copied from another component before it is started."),
		"image":     described(ref("image"), "Digest and size of content that comes from elsewhere."),
		"invoke":    described(anyOf(boolean, schemaObject(invokeKeys, schema{"args": ref("bytes")})), "The component is started."),
		"text":      ref("component-text"),
		"metadata":  ref("metadata"),
	})
	s["required"] = []string{"id"}
	return s
}

func payloadSchema() schema {
	return schemaObject(payloadKeys, schema{
		"file":       described(text, "The content, for its digest and size."),
		"uri":        described(text, "Where devices fetch it."),
		"uris":       described(listOf(text), "Several places, which are tried one after the other."),
		"integrated": described(boolean, "The envelope carries it."),
		"digest":     ref("digest"), "size": unsigned, "encrypt": ref("encrypt"),
	})
}

func slotSchema() schema {
	s := schemaObject(slotKeys, schema{"slot": unsigned, "file": text, "uri": text, "integrated": boolean,
		"digest": ref("digest"), "size": unsigned})
	s["required"] = []string{"slot"}
	return s
}

func dependencySchema() schema {
	return schemaObject(dependencyKeys, schema{
		"id":             described(ref("component-id"), "Where its envelope is kept; its manifest-component-id, if that is not given."),
		"file":           described(text, "Its envelope."),
		"uri":            described(text, "Where devices fetch the envelope."),
		"integrated":     described(boolean, "This envelope carries it."),
		"digest":         described(ref("digest"), "The digest of its manifest, if the file is not at hand."),
		"prefix":         described(ref("component-id"), "Stands before the identifiers of its components."),
		"set-parameters": described(ref("parameters"), "What it may use if it sets no other, such as its encryption-info."),
	})
}

func parametersSchema() schema {
	named := schema{
		"vendor-identifier": ref("vendor"), "class-identifier": ref("class"), "device-identifier": ref("class"),
		"image-digest": ref("digest"), "image-size": unsigned, "component-slot": unsigned, "uri": text,
		"source-component": unsigned, "content": ref("bytes"), "invoke-args": ref("bytes"), "fetch-arguments": ref("bytes"),
		"strict-order": boolean, "soft-failure": boolean, "encryption-info": ref("bytes"), "use-before": unsigned,
		"minimum-battery": unsigned, "update-priority": integer, "version": ref("version-match"),
		"wait-info": ref("wait-info"), "component-metadata": ref("metadata"),
	}
	s := schemaObject(parameterNames(), named)
	s["minProperties"] = 1
	s["patternProperties"] = schema{"^-[0-9]+$": anyOf(schema{"type": []string{"string", "integer", "boolean", "null"}}, ref("bytes"))}
	return s
}

// parameterNames are the names of all parameters.
func parameterNames() []string {
	names := make([]string, len(parameterLabels))
	for i, l := range parameterLabels {
		names[i] = l.String()
	}
	return names
}

// commandSchema is a word, or a mapping of one word to its argument.
func commandSchema() schema {
	var alone []string
	arguments := schema{}
	policy := schema{"type": "integer", "minimum": 0, "maximum": uint64(suit.ReportAll)}
	special := map[suit.CommandCode]schema{
		suit.DirSetComponentIndex:  anyOf(unsigned, listOf(unsigned), schema{"const": true}),
		suit.DirOverrideParameters: ref("parameters"), suit.DirSetParameters: ref("parameters"),
		suit.DirTryEach:          {"type": "array", "minItems": 2, "items": anyOf(ref("sequence"), schema{"type": "null"})},
		suit.DirRunSequence:      ref("sequence"),
		suit.DirOverrideMultiple: {"type": "object", "patternProperties": schema{"^[0-9]+$": ref("parameters")}, "additionalProperties": false},
		suit.DirCopyParams: {"type": "object", "patternProperties": schema{"^[0-9]+$": listOf(anyOf(schema{"enum": parameterNames()}, integer))},
			"additionalProperties": false},
	}
	for _, c := range commandCodes {
		_, short, _ := strings.Cut(c.String(), "-")
		argument, needed := special[c]
		if !needed {
			alone = append(alone, short, c.String())
			argument = policy
		}
		arguments[short], arguments[c.String()] = argument, argument
	}
	one := schema{"type": "object", "properties": arguments, "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
		"patternProperties": schema{"^-[0-9]+$": anyOf(schema{"type": []string{"string", "integer", "null"}}, ref("bytes"))}}
	return anyOf(schema{"enum": alone}, schema{"type": "integer", "exclusiveMaximum": 0}, one)
}

func waitSchema() schema {
	properties := same(waitKeys, unsigned)
	for _, k := range []string{"authorization", "power", "network"} {
		properties[k] = integer
	}
	other := schemaObject(otherDeviceKeys, schema{"device": ref("bytes"), "versions": listOf(ref("version-match"))})
	other["required"] = otherDeviceKeys
	properties["other-device-version"] = other
	s := schemaObject(waitKeys, properties)
	s["minProperties"] = 1
	return s
}

func metadataSchema() schema {
	permissions := open(unsigned)
	return schemaObject(metadataKeys, schema{
		"default-permissions": unsigned, "user-permissions": permissions, "group-permissions": permissions,
		"role-permissions": permissions, "file-type": schema{"enum": fileTypes}, "modification-time": unsigned,
		"creation-time": unsigned, "creator": ref("actor"),
	})
}
