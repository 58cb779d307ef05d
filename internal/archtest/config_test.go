package archtest

import (
	"fmt"
	"go/ast"
	"reflect"
	"strings"
	"testing"
)

// deadKeys says which keys of the configuration nobody reads: fields of tagged
// structs in package config whose name is selected nowhere in the packages
// that make use of it.
func deadKeys(t *tree) (problems []string) {
	used := map[string]bool{}
	for _, f := range t.files {
		if f.test || (short(f.dir()) != "daemon" && !strings.HasPrefix(f.dir(), "cmd/")) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if x, ok := n.(*ast.SelectorExpr); ok {
				used[x.Sel.Name] = true
			}
			return true
		})
	}
	for _, f := range t.files {
		if f.test || short(f.dir()) != "config" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			x, ok := n.(*ast.Field)
			if !ok || x.Tag == nil || len(x.Names) != 1 {
				return true
			}
			tag := reflect.StructTag(strings.Trim(x.Tag.Value, "`"))
			if key := tag.Get("toml"); key != "" && !used[x.Names[0].Name] {
				problems = append(problems, fmt.Sprintf("%s: nobody reads the key %s (%s)", t.at(x), key, x.Names[0].Name))
			}
			return true
		})
	}
	return problems
}

func TestDeadKeys(t *testing.T) { report(t, deadKeys(whole(t))) }

func TestDeadKeysRule(t *testing.T) {
	tr := sample(t,
		"internal/config/a.go", "package config\ntype A struct {\n\tX int `toml:\"x\"`\n\tY int `toml:\"y\"`\n\tZ int\n}\n",
		"internal/daemon/a.go", "package daemon\nvar _ = cfg.A.X\n",
		"internal/vfs/a.go", "package vfs\nvar _ = o.Y\n",
	)
	expect(t, deadKeys(tr), "nobody reads the key y")
}
