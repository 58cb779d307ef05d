package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// maxBody bounds a JSON request body, in bytes.
const maxBody = 16 << 20

// Role is what a token may do. Each includes those below it.
type Role uint8

// The roles. The numbers are stored in token records: append only.
const (
	RoleNone  Role = 0
	RoleRead  Role = 1
	RoleWrite Role = 2
	RoleAdmin Role = 3
)

// An Endpoint is one operation of the API with its types, from which the
// handler, the OpenAPI document and the client's expectations all come.
type Endpoint struct {
	Method  string
	Path    string // as http.ServeMux patterns have it
	Summary string
	Role    Role
	Req     reflect.Type // struct; from the query for GET and DELETE, else a JSON body
	Resp    reflect.Type
	Stream  bool // the response is one JSON value a line
	Raw     bool // the response is bytes
	serve   func(w http.ResponseWriter, r *http.Request) error
}

// Refused is the endpoint where every request is answered with err.
func (e Endpoint) Refused(err error) Endpoint {
	e.serve = func(http.ResponseWriter, *http.Request) error { return err }
	return e
}

// JSON makes an endpoint that answers one JSON value.
func JSON[Req, Resp any](method, path string, role Role, summary string, fn func(ctx context.Context, req Req) (Resp, error)) Endpoint {
	e := newEndpoint[Req, Resp](method, path, role, summary)
	e.serve = func(w http.ResponseWriter, r *http.Request) error {
		var req Req
		if err := decodeRequest(r, &req); err != nil {
			return err
		}
		resp, err := fn(r.Context(), req)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, resp)
	}
	return e
}

// Stream makes an endpoint that answers one JSON value a line while it works;
// an error after the first line ends the stream with a line of type Event that
// fail makes of it.
func Stream[Req, Event any](method, path string, role Role, summary string, fail func(error) Event, fn func(ctx context.Context, req Req, emit func(Event) error) error) Endpoint {
	e := newEndpoint[Req, Event](method, path, role, summary)
	e.Stream = true
	e.serve = func(w http.ResponseWriter, r *http.Request) error {
		var req Req
		if err := decodeRequest(r, &req); err != nil {
			return err
		}
		flush := http.NewResponseController(w)
		started := false
		emit := func(ev Event) error {
			if !started {
				w.Header().Set("Content-Type", "application/x-ndjson")
				started = true
			}
			if err := json.NewEncoder(w).Encode(ev); err != nil {
				return err
			}
			return flush.Flush()
		}
		err := fn(r.Context(), req, emit)
		if err != nil && started {
			return emit(fail(err))
		}
		return err
	}
	return e
}

// Raw makes an endpoint that answers bytes. An error after the first of them breaks
// the connection, so that nobody takes a part for the whole.
func Raw[Req any](method, path string, role Role, summary string, fn func(ctx context.Context, req Req, w io.Writer) error) Endpoint {
	e := newEndpoint[Req, struct{}](method, path, role, summary)
	e.Raw = true
	e.serve = func(w http.ResponseWriter, r *http.Request) error {
		var req Req
		if err := decodeRequest(r, &req); err != nil {
			return err
		}
		out := &rawBody{w: w}
		err := fn(r.Context(), req, out)
		if err != nil && out.started {
			return &cutError{err}
		}
		return err
	}
	return e
}

// rawBody is the body of a Raw endpoint's answer.
type rawBody struct {
	w       http.ResponseWriter
	started bool
}

// Write implements io.Writer.
func (b *rawBody) Write(p []byte) (int, error) {
	if !b.started {
		b.w.Header().Set("Content-Type", "application/octet-stream")
		b.started = true
	}
	return b.w.Write(p)
}

func newEndpoint[Req, Resp any](method, path string, role Role, summary string) Endpoint {
	return Endpoint{
		Method: method, Path: path, Role: role, Summary: summary,
		Req: reflect.TypeFor[Req](), Resp: reflect.TypeFor[Resp](),
	}
}

// decodeRequest fills req from the query (GET, DELETE) or the body.
func decodeRequest(r *http.Request, req any) error {
	if r.Method == http.MethodGet || r.Method == http.MethodDelete {
		return decodeQuery(r.URL.Query(), reflect.ValueOf(req).Elem())
	}
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(req)
	if errors.Is(err, io.EOF) { // no body: all defaults
		return nil
	}
	if err != nil {
		return fsapi.Errorf(fsapi.Invalid, "request body is not what %s %s takes: %v", r.Method, r.URL.Path, err)
	}
	return nil
}

// decodeQuery sets the fields of v, named by their json tags.
func decodeQuery(q url.Values, v reflect.Value) error {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[jsonName(v.Type().Field(i))] = v.Field(i)
	}
	for name, values := range q {
		f, ok := fields[name]
		if !ok {
			return fsapi.Errorf(fsapi.Invalid, "unknown query parameter %q", name)
		}
		if err := setField(f, values[len(values)-1]); err != nil {
			return fsapi.Errorf(fsapi.Invalid, "query parameter %s=%q: %v", name, values[len(values)-1], err)
		}
	}
	return nil
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func setField(f reflect.Value, s string) error {
	if f.Type() == reflect.TypeFor[time.Time]() {
		t, err := time.Parse(time.RFC3339, s)
		f.Set(reflect.ValueOf(t))
		return err
	}
	switch f.Kind() {
	case reflect.Pointer: // given, whatever its value
		v := reflect.New(f.Type().Elem())
		if err := setField(v.Elem(), s); err != nil {
			return err
		}
		f.Set(v)
	case reflect.String:
		f.SetString(s)
	case reflect.Bool:
		if s == "" {
			f.SetBool(true)
			return nil
		}
		b, err := strconv.ParseBool(s)
		f.SetBool(b)
		return err
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		f.SetInt(n)
		return err
	case reflect.Float64:
		n, err := strconv.ParseFloat(s, 64)
		f.SetFloat(n)
		return err
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, f.Type().Bits())
		f.SetUint(n)
		return err
	default:
		return errors.New("cannot be given in a query")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fsapi.Wrap(fsapi.Other, err, "encode response")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}
