package meta

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// Every table is among those that FramesKnown knows: whoever adds one says
// there, and in InlineFrames, whether sealed frames are kept in it.
func TestTablesOfFramesAreKnown(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(x ast.Node) bool {
		v, ok := x.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "tab") {
			return true
		}
		lit, ok := v.Values[0].(*ast.BasicLit)
		if !ok || lit.Kind != token.CHAR {
			return true
		}
		n++
		if tab, _, _, err := strconv.UnquoteChar(lit.Value[1:], '\''); err != nil || !strings.ContainsRune(tables, tab) {
			t.Errorf("%s is not among the tables in reseal.go: does it hold frames?", v.Names[0].Name)
		}
		return true
	})
	if n != len(tables) {
		t.Errorf("keys.go has %d tables, reseal.go %d", n, len(tables))
	}
}
