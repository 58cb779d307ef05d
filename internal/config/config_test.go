package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/strakefs/strake/internal/fsapi"
)

var update = flag.Bool("update", false, "write docs/config.md")

func env(pairs map[string]string) func(string) string {
	return func(k string) string { return pairs[k] }
}

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	got, err := Load("", nil)
	if diff := cmp.Diff(c, got); err != nil || diff != "" {
		t.Errorf("without a file: %v\n%s", err, diff)
	}
}

func TestParse(t *testing.T) {
	c, err := Parse([]byte(`
[data]
dir = "${HOME}/strake"
password_file = "${SECRET:-/etc/strake/password}"
[volume]
policy = "compression=zstd-3 trash=7d"
name = "$$x$y"
[cache]
chunks = "${CACHE}"
metadata = 33554432
[write]
flush_age = "1m30s"
flushers = "3"
[gc]
ratio = 0
[fuse]
allow_other = false
entry_timeout = 0
[[drive]]
name = "a"
path = "/mnt/a"
[[drive]]
name = "b"
path = "/mnt/b"
tier = "cold"
domain = "nas"
reserve = "10G"
`), env(map[string]string{"HOME": "/root", "CACHE": "32MiB"}))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Data.Dir = "/root/strake"
	want.Data.PasswordFile = "/etc/strake/password"
	want.Volume.Policy = "compression=zstd-3 trash=7d"
	want.Volume.Name = "$x$y"
	want.Cache.Chunks = 32 << 20
	want.Cache.Metadata = 32 << 20
	want.Write.FlushAge = 90 * time.Second
	want.Write.Flushers = 3
	want.GC.Ratio = 0
	want.Fuse.AllowOther = false
	want.Fuse.EntryTimeout = 0
	want.Drives = []Drive{
		{Name: "a", Path: "/mnt/a", Tier: "hot", Reserve: 1 << 30},
		{Name: "b", Path: "/mnt/b", Tier: "cold", Domain: "nas", Reserve: 10 << 30},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

// A refusal names the key, and where it can, what was meant.
func TestParseRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"[cache]\nchunk = 1", "unknown key cache.chunk: did you mean cache.chunks?"},
		{"[cahce]\nchunks = 1", "unknown key cahce: did you mean cache?"},
		{"[cache]\nlisten = \"x\"", "unknown key cache.listen: did you mean rest.listen?"},
		{"[cache]\nblueberries = 1", "unknown key cache.blueberries: there are cache.chunks"},
		{"colour = 1", "unknown key colour"},
		{"[[drive]]\nname = \"a\"\npth = \"/x\"", "unknown key drive.pth: did you mean drive.path?"},
		{"[cache", "line 1"},
		{"[cache]\nchunks = 1\nchunks = 2", "chunks"},
		{"cache = 3", "cache is a table"},
		{"[drive]\nname = \"a\"", "drive is a list of tables"},
		{"drive = [1]", "drive is a list of tables"},
		{"[cache]\nchunks = true", `cache.chunks is true: want a size such as "64MiB"`},
		{"[cache]\nchunks = \"many\"", `cache.chunks is "many": want a size`},
		{"[cache]\nchunks = \"-1\"", "cache.chunks"},
		{"[cache]\nchunks = \"9999999PiB\"", "cache.chunks"},
		{"[cache]\nchunks = 0", "cache.chunks is 0: want 1MiB to"},
		{"[write]\nflush_age = 5", `write.flush_age is 5: want a time`},
		{"[write]\nflush_age = \"0s\"", "write.flush_age is 0s: want 10ms"},
		{"[write]\nflushers = 0", "write.flushers is 0: want 1 to 64"},
		{"[write]\nflushers = 1.5", "write.flushers is 1.5: want a whole number"},
		{"[fuse]\nwriteback = \"maybe\"", "fuse.writeback is \"maybe\": want true or false"},
		{"[data]\ndir = 5", "data.dir is 5: want a string"},
		{"[data]\ndir = \"${NOPE}\"", "data.dir uses ${NOPE}, but the environment variable NOPE is not set"},
		{"[data]\ndir = \"${NOPE\"", "data.dir is \"${NOPE\""},
		{"[gc]\nratio = nan", "gc.ratio"},
		{"[gc]\nratio = 1", "gc.ratio is 1: want 0 to 0.95"},
		{"[volume]\ncipher = \"rot13\"", "volume.cipher"},
		{"[volume]\npolicy = \"ack=maybe\"", "volume.policy: policy: ack=maybe"},
		{"[volume]\nname = \"a/b\"", "volume.name"},
		{"[rest]\nlisten = \"7420\"", "rest.listen"},
		{"[rest]\nlisten = \"localhost:http\"", "rest.listen"},
		{"[log]\nlevel = \"loud\"", "log.level is \"loud\": want debug, info, warn, error"},
		{"[segment]\nsize = \"128MiB\"", "segment.size is 128MiB: want 1MiB to 64MiB"},
		{"[journal]\nmax = \"8MiB\"\npack = \"1MiB\"", "journal.pack is 1MiB: it must be at least journal.max, 8MiB"},
		{"[backup]\ngroup = \"8MiB\"\ncheckpoint = \"1MiB\"", "backup.checkpoint is 1MiB"},
		{"[cache]\nchunks = \"1GiB\"", "memory.limit is 768MiB, but cache.chunks"},
		{"[keys]\nwrap = \"password, vault\"", "keys.wrap names \"vault\""},
		{"[keys]\nwrap = \"file\"", "keys.wrap names file, but keys.file is not set"},
		{"[keys]\nwrap = \" \"", "keys.wrap is empty"},
		{"[keys]\nfile = \"k\"", "keys.file is \"k\": want an absolute path"},
		{"[keys]\nwait = \"2h\"", "keys.wait"},
		{"[[kms]]\nname = \"file\"", "kms \"file\": name is taken"},
		{"[[kms]]\nname = \"a b\"", "kms 1: name"},
		{"[discovery]\nname = \"a\\nb\"", "discovery.name"},
		{"[[drive]]\npath = \"/x\"", "drive 1: name is missing"},
		{"[[drive]]\nname = \"a\"\npath = \"x\"", "drive \"a\": path is \"x\""},
		{"[[drive]]\nname = \"a\"\npath = \"/x\"\ntier = \"lukewarm\"", "drive \"a\": tier"},
		{"[[drive]]\nname = \"a\"\npath = \"/x\"\n[[drive]]\nname = \"a\"\npath = \"/y\"", "given to two drives"},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(tt.text), env(nil))
		if !errors.Is(err, fsapi.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v; want Invalid with %q", tt.text, err, tt.want)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "strake.toml")
	if _, err := Load(path, env(nil)); !errors.Is(err, fsapi.NotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("[memory]\nlimit = 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path, env(nil)); err != nil || c.Memory.Limit != 0 {
		t.Errorf("limit %v, %v", c.Memory.Limit, err)
	}
	if err := os.WriteFile(path, []byte("x = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, env(nil)); !errors.Is(err, fsapi.Invalid) || !strings.Contains(err.Error(), path) {
		t.Errorf("bad file: %v", err)
	}
}

func TestSizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Size(rapid.Int64Range(0, 1<<62).Draw(t, "size")) >> rapid.IntRange(0, 62).Draw(t, "shift")
		s <<= 10 * rapid.IntRange(0, 1).Draw(t, "unit") % 63
		if s < 0 {
			return
		}
		if got, err := ParseSize(s.String()); err != nil || got != s {
			t.Fatalf("%d prints as %q, which is %d, %v", int64(s), s, int64(got), err)
		}
	})
	for text, want := range map[string]Size{"0": 0, "1B": 1, "4k": -1, "1K": 1 << 10, "1KB": 1 << 10, "2 MiB": 2 << 20, "3T": 3 << 40, "5i": -1, "": -1, "B": -1, "1.5G": -1, "8192P": -1} {
		got, err := ParseSize(text)
		if (err != nil) != (want < 0) || (err == nil && got != want) {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, int64(got), err, int64(want))
		}
	}
}

// Every key is documented and every default in the reference can be written
// back as it stands there.
func TestReferenceIsComplete(t *testing.T) {
	for _, s := range sections() {
		if s.key == "" || s.doc == "" {
			t.Errorf("section %q is not documented", s.key)
		}
		for i := range s.typ.NumField() {
			f := s.typ.Field(i)
			key := s.key + "." + f.Tag.Get("toml")
			if f.Tag.Get("toml") == "" || f.Tag.Get("doc") == "" {
				t.Errorf("%s (%s) is not documented", key, f.Name)
			}
			if s.list {
				continue
			}
			text := "[" + s.key + "]\n" + f.Tag.Get("toml") + " = " + strings.Trim(s.fallback(i), "`")
			if _, err := Parse([]byte(text), env(nil)); err != nil {
				t.Errorf("%s: the default as printed is refused: %v", key, err)
			}
		}
	}
}

// The committed page says what the code says.
func TestReferenceIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "config.md")
	want := Reference()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/config.md is out of date; run go test ./internal/config -update\n%s", diff)
	}
}

// Every size, time and number but the free ones is bounded by Validate.
func TestEveryNumberIsBounded(t *testing.T) {
	c := Default()
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.Struct {
			continue
		}
		for j := range v.Field(i).NumField() {
			f := v.Field(i).Field(j)
			if f.Kind() != reflect.Int && f.Kind() != reflect.Int64 {
				continue
			}
			was := f.Int()
			f.SetInt(-1)
			if err := c.Validate(); err == nil {
				t.Errorf("%s.%s may be -1", v.Type().Field(i).Name, v.Field(i).Type().Field(j).Name)
			}
			f.SetInt(was)
		}
	}
}

// Whatever is in the file, the answer is a valid configuration or Invalid.
func FuzzParse(f *testing.F) {
	f.Add("[cache]\nchunks = \"64MiB\"\n[[drive]]\nname = \"a\"\npath = \"/${X:-y}\"\n")
	f.Add("[gc]\nratio = 0.3\ndelay = \"1h\"\n[data]\ndir = '$$'\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text), env(map[string]string{"X": "x"}))
		if err != nil {
			if !errors.Is(err, fsapi.Invalid) {
				t.Fatalf("%v is not Invalid", err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBackupPlaces(t *testing.T) {
	c, err := Parse([]byte("[backup]\nto = [\"/mnt/${WHICH}\", \"s3://b/p\"]\n"), env(map[string]string{"WHICH": "usb"}))
	if diff := cmp.Diff([]string{"/mnt/usb", "s3://b/p"}, c.Backup.To); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{`"/a"`, `["a"]`, `["/a", "/a"]`, `[1]`, `["${NOT}"]`} {
		if _, err := Parse([]byte("[backup]\nto = "+bad+"\n"), env(nil)); !errors.Is(err, fsapi.Invalid) || !strings.Contains(err.Error(), "backup.to") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestTLS(t *testing.T) {
	if _, err := Parse([]byte("[rest]\ntls_cert = \"/c\"\ntls_key = \"/k\"\n"), env(nil)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{`tls_cert = "/c"`, `tls_key = "/k"`, "tls_cert = \"c\"\ntls_key = \"/k\"", "tls_cert = \"/c\"\ntls_key = \"k\""} {
		if _, err := Parse([]byte("[rest]\n"+bad+"\n"), env(nil)); !errors.Is(err, fsapi.Invalid) || !strings.Contains(err.Error(), "rest.tls_") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
