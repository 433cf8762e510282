package api

import (
	"encoding"
	"reflect"
	"strings"
	"time"

	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
	"github.com/go-teep/teep/tam/policy"
)

// schemas are the named schemas of the document, by name.
type schemas map[string]any

// special are types whose JSON is not what their Go type suggests.
var special = map[reflect.Type]object{
	reflect.TypeFor[time.Time]():       {"type": "string", "format": "date-time"},
	reflect.TypeFor[Duration]():        {"type": "string", "description": "as in 720h or 90m"},
	reflect.TypeFor[policy.Duration](): {"type": "string", "description": "as in 720h or 90m"},
	reflect.TypeFor[policy.State](): enum(policy.StateProposed, policy.StateScheduled, policy.StateRunning, policy.StatePaused,
		policy.StateDone, policy.StateStopped, policy.StateAborted),
	reflect.TypeFor[audit.Hash]():       {"type": "string", "pattern": "^[0-9a-f]{64}$"},
	reflect.TypeFor[tam.DeviceStatus](): enum(tam.DevicePending, tam.DeviceAccepted, tam.DeviceBlocked, tam.DeviceRetired),
	reflect.TypeFor[tam.Mode]():         enum(tam.ModeAvailable, tam.ModeRequired, tam.ModeForbidden),
	reflect.TypeFor[tam.DepositKind]():  enum(tam.DepositContentKey, tam.DepositData),
	reflect.TypeFor[[]byte]():           {"type": "string", "contentEncoding": "base64"},
	reflect.TypeFor[tam.EventKind]():    enum(tam.EventKinds()...),
	reflect.TypeFor[Scope]():            enum(Scopes()...),
}

// of returns the schema of a value's type. What goes in allows no other members, as [readJSON] does;
// what comes out may get some in a later release.
func (s schemas) of(v any, input bool) object { return s.ofType(reflect.TypeOf(v), input) }

func (s schemas) ofType(t reflect.Type, input bool) object {
	if o, ok := special[t]; ok {
		return o
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.ofType(t.Elem(), input)
	case reflect.Slice:
		return object{"type": "array", "items": s.ofType(t.Elem(), input)}
	case reflect.Struct:
		name := schemaName(t)
		if input && strings.HasSuffix(t.PkgPath(), "/policy") {
			name += "Input" // these types go both ways
		}
		if _, ok := s[name]; !ok {
			s[name] = nil // a type may contain itself
			s[name] = s.structure(t, input)
		}
		return object{"$ref": "#/components/schemas/" + name}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.ofType(t.Elem(), input)}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	}
	return object{"type": "string"}
}

// schemaName names a type: Version, and PageVersion for Page[Version].
func schemaName(t reflect.Type) string {
	name, argument, generic := strings.Cut(t.Name(), "[")
	if generic {
		name += argument[strings.LastIndexByte(argument, '.')+1 : len(argument)-1]
	}
	if strings.HasSuffix(t.PkgPath(), "/audit") {
		name = "Audit" + name
	}
	if strings.HasSuffix(t.PkgPath(), "/policy") {
		name = "Policy" + name
	}
	return name
}

func (s schemas) structure(t reflect.Type, input bool) object {
	properties, required := object{}, []string{}
	for f := range fieldsOf(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := s.ofType(f.Type, input)
		if strings.Contains(options, "string") { // a number in quotes
			schema = object{"type": "string", "pattern": "^[0-9]+$"}
		}
		properties[name] = schema
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	o := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	if input {
		o["additionalProperties"] = false
	}
	return o
}

func fieldsOf(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" && !yield(f) {
				return
			}
		}
	}
}

// Types in special encode themselves.
var _ = []encoding.TextMarshaler{audit.Hash{}, Duration(0)}
