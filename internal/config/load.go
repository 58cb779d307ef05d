package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/strakefs/strake/internal/fsapi"
)

// Load reads a file over the defaults and validates the result; the path ""
// is no file. getenv is os.Getenv, or what stands for the environment.
func Load(path string, getenv func(string) string) (Config, error) {
	if path == "" {
		return Default(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		kind := fsapi.IO
		if errors.Is(err, fs.ErrNotExist) {
			kind = fsapi.NotExist
		}
		return Default(), fsapi.Wrap(kind, err, "read the configuration")
	}
	c, err := Parse(text, getenv)
	if err != nil {
		return c, fsapi.Wrap(fsapi.KindOf(err), err, path)
	}
	return c, nil
}

// Parse reads a file's text over the defaults and validates the result. In
// strings, ${NAME} is replaced with the environment variable, which must not
// be empty, ${NAME:-TEXT} with TEXT where it is empty, and $$ with a dollar
// sign. Errors are fsapi.Invalid and name the key; of a syntax error, the
// line.
func Parse(text []byte, getenv func(string) string) (Config, error) {
	c := Default()
	var doc map[string]any
	if err := toml.Unmarshal(text, &doc); err != nil {
		var de *toml.DecodeError
		if errors.As(err, &de) {
			row, col := de.Position()
			return c, fsapi.Errorf(fsapi.Invalid, "line %d, column %d: %w", row, col, err)
		}
		return c, fsapi.Wrap(fsapi.Invalid, err, "read TOML")
	}
	s := setter{getenv: getenv}
	if err := s.table("", reflect.ValueOf(&c).Elem(), doc); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// setter puts a decoded document into a struct.
type setter struct{ getenv func(string) string }

// table sets the fields of v from a table whose name, with a dot, is prefix.
func (s setter) table(prefix string, v reflect.Value, doc map[string]any) error {
	keys := make([]string, 0, len(doc))
	for k := range doc {
		keys = append(keys, k)
	}
	sort.Strings(keys) // the first error is the same every time
	for _, k := range keys {
		f, ok := fieldOf(v, k)
		if !ok {
			return unknown(prefix, k, v.Type())
		}
		if err := s.value(prefix+k, f, doc[k]); err != nil {
			return err
		}
	}
	return nil
}

func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("toml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func (s setter) value(key string, v reflect.Value, raw any) error {
	switch v.Kind() {
	case reflect.Struct:
		doc, ok := raw.(map[string]any)
		if !ok {
			return refuse(key, "is a table: write [%s] and its keys below", key)
		}
		return s.table(key+".", v, doc)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			return s.strings(key, v, raw)
		}
		return s.list(key, v, raw)
	}
	if text, ok := raw.(string); ok {
		text, err := s.expand(key, text)
		if err != nil {
			return err
		}
		return setText(key, v, text)
	}
	return setPlain(key, v, raw)
}

// strings sets an array of strings.
func (s setter) strings(key string, v reflect.Value, raw any) error {
	list, ok := raw.([]any)
	if !ok {
		return refuse(key, "is %v: want a list of strings in quotes, as in [\"a\", \"b\"]", raw)
	}
	v.SetZero()
	for _, one := range list {
		text, ok := one.(string)
		if !ok {
			return refuse(key, "holds %v: want strings in quotes", one)
		}
		text, err := s.expand(key, text)
		if err != nil {
			return err
		}
		v.Set(reflect.Append(v, reflect.ValueOf(text)))
	}
	return nil
}

// list sets an array of tables.
func (s setter) list(key string, v reflect.Value, raw any) error {
	docs, ok := raw.([]any)
	if !ok {
		return refuse(key, "is a list of tables: write [[%s]] above each", key)
	}
	for _, d := range docs {
		doc, ok := d.(map[string]any)
		if !ok {
			return refuse(key, "is a list of tables: write [[%s]] above each", key)
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := setDefaults(key, e); err != nil {
			return err
		}
		if err := s.table(key+".", e, doc); err != nil {
			return err
		}
		v.Set(reflect.Append(v, e))
	}
	return nil
}

// setDefaults sets the fields of a list's element from their default tags.
func setDefaults(key string, v reflect.Value) error {
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if d := t.Tag.Get("default"); d != "" {
			if err := setText(key+"."+t.Tag.Get("toml"), v.Field(i), d); err != nil {
				return err
			}
		}
	}
	return nil
}

// expand replaces ${NAME}, ${NAME:-TEXT} and $$.
func (s setter) expand(key, text string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), nil
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			text = after[1:]
			continue
		case !strings.HasPrefix(after, "{"):
			b.WriteByte('$')
			text = after
			continue
		}
		name, rest, closed := strings.Cut(after[1:], "}")
		if !closed {
			return "", refuse(key, "is %q: a ${ is not closed; write $$ for a dollar sign", text)
		}
		name, other, has := strings.Cut(name, ":-")
		v := s.getenv(name)
		if v == "" && !has {
			return "", refuse(key, "uses ${%s}, but the environment variable %s is not set", name, name)
		}
		if v == "" {
			v = other
		}
		b.WriteString(v)
		text = rest
	}
}

// setText sets a value that was written as a string.
func setText(key string, v reflect.Value, text string) error {
	var err error
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Size:
		*p, err = ParseSize(text)
	case *time.Duration:
		*p, err = time.ParseDuration(text)
	case *bool:
		*p, err = strconv.ParseBool(text)
	case *int:
		*p, err = strconv.Atoi(text)
	case *float64:
		*p, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		return refuse(key, "is %q: want %s", text, wanted(v.Type()))
	}
	return nil
}

// setPlain sets a value that was written as a number or boolean.
func setPlain(key string, v reflect.Value, raw any) error {
	n, isInt := raw.(int64)
	f, isFloat := raw.(float64)
	if isInt {
		f, isFloat = float64(n), true
	}
	switch p := v.Addr().Interface().(type) {
	case *bool:
		if b, ok := raw.(bool); ok {
			*p = b
			return nil
		}
	case *int:
		if isInt && n >= math.MinInt && n <= math.MaxInt {
			*p = int(n)
			return nil
		}
	case *Size:
		if isInt {
			*p = Size(n)
			return nil
		}
	case *time.Duration:
		if isInt && n == 0 {
			*p = 0
			return nil
		}
	case *float64:
		if isFloat {
			*p = f
			return nil
		}
	}
	return refuse(key, "is %v: want %s", raw, wanted(v.Type()))
}

// wanted says how a value of a type is written.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Size]():
		return `a size such as "64MiB"`
	case reflect.TypeFor[time.Duration]():
		return `a time such as "10m" or "1h30m"`
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[float64]():
		return "a number"
	}
	return "a string in quotes"
}

// ParseSize reads a number of bytes: digits, and K, M, G, T or P for powers of
// 1024, which iB or B may follow.
func ParseSize(text string) (Size, error) {
	num := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(text), "B"), "i")
	shift := 0
	if i := strings.IndexByte("KMGTP", last(num)); i >= 0 {
		num, shift = num[:len(num)-1], 10*(i+1)
	} else if strings.HasSuffix(strings.TrimSpace(text), "i") || strings.HasSuffix(text, "iB") {
		return 0, fsapi.Errorf(fsapi.Invalid, "%q is not a size: want a number such as 512, 64KiB or 2GiB", text)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(num), 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, fsapi.Errorf(fsapi.Invalid, "%q is not a size: want a number such as 512, 64KiB or 2GiB", text)
	}
	return Size(n) << shift, nil
}

func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// String is the size as ParseSize reads it, exactly.
func (s Size) String() string {
	for i := 5; i > 0; i-- {
		if s != 0 && s%(1<<(10*i)) == 0 {
			return fmt.Sprintf("%d%ciB", s>>(10*i), " KMGTP"[i])
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
