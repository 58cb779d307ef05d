package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/strakefs/strake"

// source is one parsed Go file.
type source struct {
	path  string // from the root of the module, with slashes
	test  bool
	lines int
	ast   *ast.File
}

func (s *source) dir() string { return path.Dir(s.path) }

// tree is the source of the module, or of a sample.
type tree struct {
	fset  *token.FileSet
	files []*source
}

func (t *tree) add(name string, text []byte) error {
	f, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, &source{
		path: name, test: strings.HasSuffix(name, "_test.go"),
		lines: strings.Count(string(text), "\n"), ast: f,
	})
	return nil
}

// packages are the files by directory.
func (t *tree) packages() map[string][]*source {
	m := map[string][]*source{}
	for _, f := range t.files {
		m[f.dir()] = append(m[f.dir()], f)
	}
	return m
}

func (t *tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return p.String()
}

// root is the directory of go.mod.
var root = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			err = fs.ErrNotExist
		}
		dir = up
	}
	return "", err
})

// load parses the module once for all tests.
var load = sync.OnceValues(func() (*tree, error) {
	top, err := root()
	if err != nil {
		return nil, err
	}
	t := &tree{fset: token.NewFileSet()}
	err = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); rel != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || rel == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return t.add(filepath.ToSlash(rel), text)
	})
	return t, err
})

func whole(t *testing.T) *tree {
	t.Helper()
	tr, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) < 20 {
		t.Fatalf("only %d files found", len(tr.files))
	}
	return tr
}

// sample is a tree of a few files, as path and text.
func sample(t *testing.T, files ...string) *tree {
	t.Helper()
	tr := &tree{fset: token.NewFileSet()}
	for i := 0; i < len(files); i += 2 {
		if err := tr.add(files[i], []byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// report fails the test with every problem.
func report(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// expect checks what a rule says of a sample: one problem for each text, which
// it contains, in order.
func expect(t *testing.T, problems []string, want ...string) {
	t.Helper()
	if len(problems) != len(want) {
		t.Errorf("%d problems, want %d: %q", len(problems), len(want), problems)
		return
	}
	for i, p := range problems {
		if !strings.Contains(p, want[i]) {
			t.Errorf("problem %q does not contain %q", p, want[i])
		}
	}
}
