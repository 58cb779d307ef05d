package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packageComments says which packages do not have exactly one comment.
func packageComments(t *tree) (problems []string) {
	pkgs := t.packages()
	for _, dir := range sortedKeys(pkgs) {
		var with []string
		name := ""
		for _, f := range pkgs[dir] {
			if f.test && name == "" {
				name = f.ast.Name.Name // stays so where there are tests only
			}
			if !f.test {
				name = f.ast.Name.Name
			}
			if f.ast.Doc == nil || f.test && strings.HasSuffix(f.ast.Name.Name, "_test") {
				continue
			}
			with = append(with, f.path)
			if text := f.ast.Doc.Text(); f.ast.Name.Name != "main" && !strings.HasPrefix(text, "Package "+f.ast.Name.Name+" ") {
				problems = append(problems, fmt.Sprintf("%s: the package comment does not begin with \"Package %s \"", f.path, f.ast.Name.Name))
			}
		}
		switch {
		case len(with) == 0:
			problems = append(problems, fmt.Sprintf("%s: package %s has no package comment", dir, name))
		case len(with) > 1:
			problems = append(problems, fmt.Sprintf("%s: package %s has %d package comments: %s", dir, name, len(with), strings.Join(with, ", ")))
		}
	}
	return problems
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// exported says which exported names have no comment.
func exported(t *tree) (problems []string) {
	for _, f := range t.files {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for _, n := range bare(d) {
				problems = append(problems, fmt.Sprintf("%s: %s has no comment", t.at(n), n.Name))
			}
		}
	}
	return problems
}

// bare are the exported names that a declaration leaves without a comment.
func bare(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT {
			return nil
		}
		for _, s := range d.Specs {
			names = append(names, bareSpec(d, s)...)
		}
	}
	return names
}

func bareSpec(d *ast.GenDecl, s ast.Spec) (names []*ast.Ident) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
			names = append(names, s.Name)
		}
	case *ast.ValueSpec:
		if s.Doc != nil || s.Comment != nil || d.Doc != nil {
			return nil
		}
		for _, n := range s.Names {
			if n.IsExported() {
				names = append(names, n)
			}
		}
	}
	return names
}

// exportedReceiver reports whether a function is none of a type, or of an
// exported one.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.IsExported()
		default:
			return true
		}
	}
}

// loose is a note to oneself that names no issue.
var loose = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b(\(#\d+\))?`)

// notes says which comments leave work undone without naming an issue.
func notes(t *tree) (problems []string) {
	for _, f := range t.files {
		for _, g := range f.ast.Comments {
			for _, c := range g.List {
				for _, m := range loose.FindAllStringSubmatch(c.Text, -1) {
					if m[2] == "" {
						problems = append(problems, fmt.Sprintf("%s: %s without an issue: write %s(#n), or do it", t.at(c), m[1], m[1]))
					}
				}
			}
		}
	}
	return problems
}

func TestPackageComments(t *testing.T) { report(t, packageComments(whole(t))) }
func TestExported(t *testing.T)        { report(t, exported(whole(t))) }

func TestNotes(t *testing.T) {
	tr := whole(t)
	tr = &tree{fset: tr.fset, files: slices.DeleteFunc(slices.Clone(tr.files), func(f *source) bool { return strings.HasPrefix(f.path, "internal/archtest/") })}
	report(t, notes(tr))
}

func TestCommentRules(t *testing.T) {
	tr := sample(t,
		"a/a.go", "// Package a is one.\npackage a\n", "a/b.go", "// Package a is two.\npackage a\n",
		"b/b.go", "package b\n", "b/b_test.go", "// Package b_test is none.\npackage b_test\n",
		"c/c.go", "// The package c.\npackage c\n",
		"d/d_test.go", "package d\n",
		"e/e.go", "// Package e is right.\npackage e\n",
		"f/f.go", "// Does a thing.\npackage main\n",
	)
	expect(t, packageComments(tr), "a: package a has 2", "b: package b has no", "c/c.go: the package comment does not begin", "d: package d has no")

	tr = sample(t, "x.go", `package x
// A has one.
func A() {}
func B() {}
func c() {}
// T has one.
type T struct{}
func (t *T) D() {}
// E has one.
func (t T) E() {}
type u struct{}
func (u) F() {}
type G[P any] struct{}
func (g *G[P]) H() {}
// Both.
const (
	I = 1
	J = 2
)
const (
	K = 1 // K has one
	L = 2
)
var M, n = 1, 2
var _ = 3
`)
	expect(t, exported(tr), "B has no", "D has no", "G has no", "H has no", "L has no", "M has no")
	expect(t, notes(sample(t, "x.go", "package x\n// TODO: all\n// TODO(#12): some\n// mastodon\n/* FIXME */\n")), "TODO without", "FIXME without")
}
