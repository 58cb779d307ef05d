package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// section is one table of the file.
type section struct {
	key, doc string
	list     bool // [[key]]
	typ      reflect.Type
	val      reflect.Value // the defaults; invalid for a list
}

// sections are the tables in the order of Config.
func sections() []section {
	v := reflect.ValueOf(Default())
	var list []section
	for i := range v.NumField() {
		f := v.Type().Field(i)
		s := section{key: f.Tag.Get("toml"), doc: f.Tag.Get("doc"), typ: f.Type, val: v.Field(i)}
		if f.Type.Kind() == reflect.Slice {
			s.list, s.typ, s.val = true, f.Type.Elem(), reflect.Value{}
		}
		list = append(list, s)
	}
	return list
}

// Reference is docs/config.md: every key with its default and meaning.
func Reference() string {
	var b strings.Builder
	b.WriteString(`<!-- made by "make docs" from internal/config: do not edit -->

# Configuration

` + "`strake serve --config FILE`" + ` reads a TOML file. Everything has a default, so the
file may be empty or absent; flags win over it. Sizes are written as ` + "`\"64MiB\"`" + `
(K, M, G, T, P are powers of 1024), times as ` + "`\"10m\"`" + ` or ` + "`\"1h30m\"`" + `. In every
string, ` + "`${NAME}`" + ` stands for an environment variable, ` + "`${NAME:-TEXT}`" + ` for TEXT
where that is not set, ` + "`$$`" + ` for a dollar sign. A key that is not listed here is
refused.
`)
	for _, s := range sections() {
		s.write(&b)
	}
	return b.String()
}

func (s section) write(b *strings.Builder) {
	name := "[" + s.key + "]"
	if s.list {
		name = "[" + name + "]"
	}
	fmt.Fprintf(b, "\n## `%s`\n\n%s\n\n| key | default | meaning |\n|---|---|---|\n", name, s.doc)
	for i := range s.typ.NumField() {
		f := s.typ.Field(i)
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.Tag.Get("toml"), s.fallback(i), f.Tag.Get("doc"))
	}
}

// fallback is the default of a section's i-th field as it would be written.
func (s section) fallback(i int) string {
	if s.list {
		if d := s.typ.Field(i).Tag.Get("default"); d != "" {
			return "`\"" + d + "\"`"
		}
		return ""
	}
	switch v := s.val.Field(i).Interface().(type) {
	case string:
		return fmt.Sprintf("`%q`", v)
	case Size:
		return fmt.Sprintf("`\"%v\"`", v)
	case time.Duration:
		return "`\"" + shortTime(v) + "\"`"
	default:
		return fmt.Sprintf("`%v`", v)
	}
}

// shortTime is d without parts that are zero.
func shortTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
