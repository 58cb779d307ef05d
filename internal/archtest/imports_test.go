package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// layer says what a package may import of the module. Patterns are those of
// path.Match, below internal/ unless they begin with cmd, test or bench.
type layer struct {
	pkg     string
	imports string // separated by spaces; fsapi is allowed everywhere but in std
	// std: nothing but the standard library.
	std bool
	// support: for tests; only tests and other support may import it.
	support bool
	// any: it may import everything that is not a command.
	any bool
}

// layers are design.md's arrows, from the top down. A package in no row fails
// the test: add it where it belongs.
var layers = []layer{
	{pkg: "cmd/*", imports: "daemon config api client policy transfer discovery"},
	{pkg: "daemon", any: true}, // wires everything: the only one
	{pkg: "client", imports: "api"},
	{pkg: "discovery"},
	{pkg: "transfer", imports: "api client"},
	{pkg: "config", imports: "policy"},
	{pkg: "api"},

	// Doors translate a protocol and hold no truth; none knows another.
	{pkg: "door/*", imports: "vfs policy api clock wire/*"},
	{pkg: "door/*/*", imports: "vfs policy api clock wire/*"},
	{pkg: "wire/*", std: true},

	// Metadata copies on drives.
	{pkg: "checkpoint", imports: "kv drive clock sealed"},
	{pkg: "sealed"},

	{pkg: "vfs", imports: "meta blob policy clock kv"}, // of kv only what words says
	{pkg: "vfs/trace", imports: "vfs clock"},
	{pkg: "vfs/model", imports: "vfs policy clock", support: true},
	{pkg: "vfs/vfstest", imports: "vfs vfs/model policy clock", support: true},

	// Upkeep moves bytes and records what it moved: it stands on both.
	{pkg: "blob/upkeep", imports: "blob blob/heat blob/upkeep/job meta drive erasure policy clock"},
	{pkg: "blob/upkeep/job", imports: "clock"},
	{pkg: "blob", imports: "blob/* drive erasure policy clock"},
	{pkg: "blob/blobtest", imports: "blob drive policy clock", support: true},
	{pkg: "blob/segment", imports: "blob/frame blob/chunker policy"},
	{pkg: "blob/cache", imports: "blob/slab"},
	{pkg: "blob/chunker", imports: "policy"},
	{pkg: "blob/frame", imports: "policy"},
	{pkg: "blob/slab"},
	{pkg: "blob/heat", imports: "clock"},

	{pkg: "meta", imports: "kv policy clock"},
	{pkg: "meta/metatest", imports: "meta kv policy clock", support: true},
	{pkg: "kv", imports: "clock"},
	{pkg: "kv/mem", imports: "kv clock"},
	{pkg: "kv/bucket", imports: "kv kv/pebble object backoff osfs clock sealed"},
	{pkg: "kv/*", imports: "kv osfs clock"},
	{pkg: "kv/kvtest", imports: "kv clock", support: true},

	// Object stores. No provider knows another; each makes its Store by object/provider.
	{pkg: "object", imports: "clock"},
	{pkg: "object/provider", imports: "object backoff clock"},
	{pkg: "object/objecttest", imports: "object", support: true},
	{pkg: "object/mem", imports: "object object/provider clock"},
	{pkg: "object/dir", imports: "object object/provider osfs clock"},
	{pkg: "object/url", imports: "object object/*"},
	{pkg: "object/*", imports: "object object/provider"},
	{pkg: "backoff", imports: "clock"},

	{pkg: "erasure"},
	{pkg: "durability", imports: "policy"},
	{pkg: "drive"},
	{pkg: "drive/mem", imports: "drive clock"},
	{pkg: "drive/fault", imports: "drive clock", support: true},
	{pkg: "drive/drivetest", imports: "drive clock", support: true},
	{pkg: "drive/dir", imports: "drive drive/identity osfs clock"},
	{pkg: "drive/bucket", imports: "drive drive/identity object clock"},
	{pkg: "drive/identity"},
	{pkg: "drive/diskcache", imports: "drive osfs clock"},
	{pkg: "drive/*", imports: "drive backoff clock"},

	{pkg: "keyring", imports: "osfs clock"},
	{pkg: "keyring/kms", imports: "keyring osfs clock"},
	{pkg: "keyring/kms/kmstest", support: true},
	{pkg: "policy"},
	{pkg: "telemetry"},
	{pkg: "osfs", std: true},
	{pkg: "clock", std: true},
	{pkg: "fsapi", std: true},

	{pkg: "archtest", support: true},
	{pkg: "test/*", any: true, support: true},
	{pkg: "test/chaos/repeat", std: true, support: true},
	{pkg: "bench", any: true, support: true},
	{pkg: "bench/*", any: true, support: true},
}

// dependency is a module outside, and who may import it, tests aside.
type dependency struct {
	prefix string
	users  string // patterns as in layer; "" is support and tests only
	why    string
}

// dependencies are all there are: a new one is seen in review.
var dependencies = []dependency{
	{"github.com/Azure/azure-sdk-for-go/sdk/azcore", "object/azure", "errors and requests of azblob"},
	{"github.com/Azure/azure-sdk-for-go/sdk/azidentity", "object/azure", "the default chain of credentials"},
	{"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob", "object/azure", "Azure Blob Storage"},
	{"github.com/PlakarKorp/go-cdc-chunkers", "blob/chunker", "content-defined chunking"},
	{"github.com/alecthomas/kong", "cmd/*", "command line"},
	{"github.com/aws/aws-sdk-go-v2", "object/s3", "S3, with the whole standard chain of credentials and a context for each single request"},
	{"github.com/aws/smithy-go", "object/s3", "errors of aws-sdk-go-v2"},
	{"github.com/brutella/dnssd", "discovery", "multicast DNS"},
	{"github.com/cespare/xxhash/v2", "blob/frame", "checksums of frames"},
	{"github.com/cockroachdb/pebble/v2", "kv/pebble kv/bucket", "embedded ordered keys"},
	{"github.com/google/go-cmp", "", "comparing values in tests"},
	{"github.com/hanwen/go-fuse/v2", "door/fuse", "the FUSE protocol"},
	{"github.com/jedib0t/go-pretty/v6", "cmd/*", "tables and progress"},
	{"github.com/klauspost/compress", "blob/frame checkpoint sealed kv/bucket", "s2 and zstd"},
	{"github.com/klauspost/reedsolomon", "erasure", "Reed-Solomon"},
	{"github.com/maypok86/otter/v2", "blob/cache vfs", "caches"},
	{"github.com/pelletier/go-toml/v2", "config", "the configuration file"},
	{"github.com/prometheus/client_golang", "telemetry vfs/trace", "metrics"},
	{"github.com/rogpeppe/go-internal", "", "scripts of the command line in tests"},
	{"golang.org/x/crypto", "keyring blob/frame", "Argon2id, XChaCha20-Poly1305"},
	{"golang.org/x/oauth2", "object/gcs", "credentials for Google Cloud Storage"},
	{"golang.org/x/sync", "blob vfs daemon", "errgroup, singleflight"},
	{"golang.org/x/sys", "osfs door/fuse daemon transfer", "system calls that package syscall lacks"},
	{"golang.org/x/term", "keyring cmd/*", "passwords without echo, width of the terminal"},
	{"pgregory.net/rapid", "", "property tests"},
}

// short is a package's path as the tables write it.
func short(dir string) string { return strings.TrimPrefix(dir, "internal/") }

func match(patterns, name string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// find is the row of a package: its own, or the first pattern it matches.
func find(pkg string) (layer, bool) {
	for _, exact := range []bool{true, false} {
		for _, l := range layers {
			if l.pkg == pkg || !exact && match(l.pkg, pkg) {
				return l, true
			}
		}
	}
	return layer{}, false
}

// imports says which imports break the tables.
func imports(t *tree) (problems []string) {
	for _, f := range t.files {
		from := short(f.dir())
		l, ok := find(from)
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: package %s has no row in the table of layers (archtest/imports_test.go)", f.path, from))
			continue
		}
		for _, spec := range f.ast.Imports {
			name := strings.Trim(spec.Path.Value, `"`)
			var why string
			if rest, ok := strings.CutPrefix(name, module+"/"); ok {
				why = internalImport(l, from, short(rest), f.test)
			} else if strings.Contains(strings.Split(name, "/")[0], ".") {
				why = externalImport(l, from, name, f.test)
			}
			if why != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", t.at(spec), short(strings.TrimPrefix(name, module+"/")), why))
			}
		}
	}
	return problems
}

// internalImport says what is wrong with an import, or "".
func internalImport(l layer, from, to string, test bool) string {
	target, known := find(to)
	switch {
	case !known:
		return "it has no row in the table of layers"
	case from == to: // a test package outside the package it tests
		return ""
	case strings.HasPrefix(to, "cmd/"):
		return "a command is not to be imported"
	case to == "daemon":
		if strings.HasPrefix(from, "cmd/") || l.any {
			return ""
		}
		return "only commands import the composition root"
	case test || l.any:
		if target.support && !test && !l.support {
			return "it is for tests"
		}
		return ""
	case target.support && !l.support:
		return "it is for tests"
	case l.std:
		return l.pkg + " uses the standard library only"
	case to == "fsapi" || match(l.imports, to):
		return ""
	case l.imports == "":
		return l.pkg + " may import fsapi only"
	}
	return l.pkg + " may import fsapi and " + l.imports + " only"
}

// words are imports of which only some names may be used: those that stand in
// the signatures of the layer between.
var words = []struct{ from, to, names string }{
	{"vfs", "kv", "Seq UpdateOptions"}, // of meta.Store
}

// vocabulary says where more is used.
func vocabulary(t *tree) (problems []string) {
	for _, f := range t.files {
		for _, w := range words {
			if f.test || short(f.dir()) != w.from {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				x, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				name, ok := strings.CutPrefix(selector(x), path.Base(w.to)+".")
				if ok && !match(w.names, name) {
					problems = append(problems, fmt.Sprintf("%s: %s may use of %s only: %s", t.at(n), w.from, w.to, w.names))
				}
				return true
			})
		}
	}
	return problems
}

func TestVocabulary(t *testing.T) { report(t, vocabulary(whole(t))) }

func TestVocabularyRule(t *testing.T) {
	tr := sample(t,
		"internal/vfs/a.go", "package vfs\nvar a kv.Seq\nvar b kv.Engine\n",
		"internal/vfs/a_test.go", "package vfs\nvar c kv.Engine\n",
		"internal/meta/a.go", "package meta\nvar b kv.Engine\n",
	)
	expect(t, vocabulary(tr), "vfs/a.go:3:7: vfs may use of kv only")
}

func externalImport(l layer, from, name string, test bool) string {
	i := slices.IndexFunc(dependencies, func(d dependency) bool { return name == d.prefix || strings.HasPrefix(name, d.prefix+"/") })
	switch {
	case i < 0:
		return "it is not in the table of dependencies (archtest/imports_test.go)"
	case test || l.support || match(dependencies[i].users, from):
		return ""
	}
	return "it is there for " + dependencies[i].why + " in: " + dependencies[i].users
}

func TestImports(t *testing.T) { report(t, imports(whole(t))) }

// Every row of the tables is of a package there is, or of one that is planned.
func TestTablesAreCurrent(t *testing.T) {
	planned := "wire/* door/*/* bench bench/* meta/metatest"
	pkgs := whole(t).packages()
	for _, l := range layers {
		used := false
		for dir := range pkgs {
			used = used || match(l.pkg, short(dir))
		}
		if !used && !slices.Contains(strings.Fields(planned), l.pkg) {
			t.Errorf("no package is %s: take its row out of the table of layers", l.pkg)
		}
	}
}

func TestImportsRule(t *testing.T) {
	imp := func(path string) string { return "package x\nimport _ \"" + path + "\"\n" }
	tr := sample(t,
		"internal/vfs/a.go", imp(module+"/internal/meta"),
		"internal/vfs/b.go", imp(module+"/internal/drive"),
		"internal/vfs/b_test.go", imp(module+"/internal/drive"),
		"internal/vfs/c.go", imp(module+"/internal/drive/drivetest"),
		"internal/vfs/d.go", imp(module+"/internal/daemon"),
		"internal/vfs/d_test.go", imp(module+"/internal/daemon"),
		"internal/fsapi/a.go", imp(module+"/internal/clock"),
		"internal/door/rest/a.go", imp(module+"/internal/meta"),
		"internal/door/rest/b.go", imp(module+"/internal/door/fuse"),
		"internal/door/rest/c.go", imp("github.com/somebody/something"),
		"internal/door/rest/d.go", imp("golang.org/x/crypto/argon2"),
		"internal/door/rest/e.go", imp("net/http"),
		"internal/daemon/a.go", imp(module+"/internal/kv/kvtest"),
		"internal/kv/pebble/a.go", imp(module+"/internal/osfs"),
		"internal/kv/mem/a.go", imp(module+"/internal/osfs"),
		"internal/util/a.go", imp("fmt"),
	)
	expect(t, imports(tr),
		"b.go:2:8 imports drive: vfs may import",
		"c.go:2:8 imports drive/drivetest: it is for tests",
		"d.go:2:8 imports daemon: only commands",
		"d_test.go:2:8 imports daemon: only commands",
		"fsapi/a.go:2:8 imports clock: fsapi uses the standard library only",
		"rest/a.go:2:8 imports meta: door/* may import",
		"rest/b.go:2:8 imports door/fuse: door/* may import",
		"not in the table of dependencies",
		"it is there for Argon2id",
		"imports kv/kvtest: it is for tests",
		"kv/mem/a.go:2:8 imports osfs: kv/mem may import",
		"package util has no row",
	)
}
