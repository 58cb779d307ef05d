package rest

import (
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
)

// openapi serves an OpenAPI 3.1 document made from the table of endpoints.
func (d *Door) openapi(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, Document(d.table, d.o.Version))
}

type object = map[string]any

var pathParam = regexp.MustCompile(`\{([a-z]+)(\.\.\.)?\}`)

// Document is the OpenAPI document of a table of endpoints.
func Document(table []Endpoint, version string) map[string]any {
	s := schemas{defs: object{}}
	paths := map[string]object{}
	for i := range table {
		e := &table[i]
		p := pathParam.ReplaceAllString(e.Path, "{$1}")
		if paths[p] == nil {
			paths[p] = object{}
		}
		paths[p][strings.ToLower(e.Method)] = operation(e, &s)
	}
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "Strake", "version": version, "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"paths":   paths,
		"components": object{
			"schemas":         s.defs,
			"securitySchemes": object{"bearer": object{"type": "http", "scheme": "bearer"}},
		},
	}
}

func operation(e *Endpoint, s *schemas) object {
	op := object{
		"summary":     e.Summary,
		"operationId": operationID(e),
		"responses": object{
			"200":     response(e, s),
			"default": object{"description": "An error.", "content": jsonContent(s.ref(reflect.TypeFor[api.Error]()), false)},
		},
	}
	if e.Role > RoleNone {
		op["security"] = []object{{"bearer": []string{}}}
	}
	var params []object
	for _, m := range pathParam.FindAllStringSubmatch(e.Path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	inQuery := e.Method == http.MethodGet || e.Method == http.MethodDelete
	for i := range e.Req.NumField() {
		if f := e.Req.Field(i); inQuery {
			params = append(params, object{"name": jsonName(f), "in": "query", "schema": s.of(f.Type)})
		}
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	if !inQuery && e.Req.NumField() > 0 {
		op["requestBody"] = object{"content": jsonContent(s.ref(e.Req), false)}
	}
	return op
}

func operationID(e *Endpoint) string {
	id := strings.ToLower(e.Method)
	for _, part := range strings.Split(pathParam.ReplaceAllString(e.Path, ""), "/") {
		if part = strings.NewReplacer(".", "", "-", "").Replace(part); part != "" && part != "v1" {
			id += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return id
}

func response(e *Endpoint, s *schemas) object {
	r := object{"description": "Done."}
	if e.Raw {
		r["content"] = object{"application/octet-stream": object{"schema": object{"type": "string", "format": "binary"}}}
		return r
	}
	if e.Resp != emptyType {
		r["content"] = jsonContent(s.ref(e.Resp), e.Stream)
	}
	return r
}

func jsonContent(schema object, stream bool) object {
	if stream {
		return object{"application/x-ndjson": object{"schema": schema}}
	}
	return object{"application/json": object{"schema": schema}}
}

// schemas collects JSON Schemas of Go types by name.
type schemas struct{ defs object }

func (s *schemas) ref(t reflect.Type) object {
	if _, ok := s.defs[t.Name()]; !ok {
		s.defs[t.Name()] = nil // a type may hold itself
		s.defs[t.Name()] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

func (s *schemas) structure(t reflect.Type) object {
	props, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous { // its fields come themselves, as in JSON
			continue
		}
		props[jsonName(f)] = s.of(f.Type)
		if !strings.Contains(f.Tag.Get("json"), ",omit") {
			required = append(required, jsonName(f))
		}
	}
	return object{"type": "object", "properties": props, "required": required}
}

func (s *schemas) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		return s.ref(t)
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	default:
		return object{"type": "string"}
	}
}
