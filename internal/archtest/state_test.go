package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// calls are functions whose results may be held in a package variable: what
// they return does not change.
const calls = "errors.New fmt.Errorf fsapi.Errorf regexp.MustCompile crc32.MakeTable strings.NewReplacer " +
	"reflect.TypeFor reflect.TypeOf template.Must base32.NewEncoding base64.NewEncoding big.NewInt " +
	"prometheus.NewDesc sync.OnceValue sync.OnceValues sync.OnceFunc netip.MustParsePrefix"

// allowedGlobals are package variables that may stay, with the reason.
var allowedGlobals = map[string]string{
	"test/servers.given": "ports are of the process, whichever test asks for one",
}

// allowedInits are init functions that may stay, with the reason.
var allowedInits = map[string]string{}

// state says which package variables change, or might, and which packages do
// work when they are loaded.
func state(t *tree) (problems []string) {
	pkgs := t.packages()
	for _, dir := range sortedKeys(pkgs) {
		files := slices.DeleteFunc(pkgs[dir], func(f *source) bool { return f.test })
		vars := map[string]*ast.ValueSpec{}
		for _, f := range files {
			for _, d := range f.ast.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil && d.Name.Name == "init" && allowedInits[f.path] == "" {
						problems = append(problems, fmt.Sprintf("%s: init() does work when the package is loaded: do it where it is needed", t.at(d)))
					}
				case *ast.GenDecl:
					problems = append(problems, globals(t, dir, d, vars)...)
				}
			}
		}
		for _, f := range files {
			problems = append(problems, writes(t, dir, f, vars)...)
		}
	}
	return problems
}

// globals checks the kind of package variables, and adds them to vars.
func globals(t *tree, dir string, d *ast.GenDecl, vars map[string]*ast.ValueSpec) (problems []string) {
	if d.Tok != token.VAR {
		return nil
	}
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		for i, n := range v.Names {
			if n.Name == "_" || allowedGlobals[dir+"."+n.Name] != "" {
				continue
			}
			vars[n.Name] = v
			var value ast.Expr
			if i < len(v.Values) {
				value = v.Values[i]
			}
			if why := holdsState(v.Type, value); why != "" {
				problems = append(problems, fmt.Sprintf("%s: package variable %s %s: make it a field, or list it with a reason (archtest/state_test.go)", t.at(n), n.Name, why))
			}
		}
	}
	return problems
}

// holdsState says why a variable of a type and initial value holds state.
func holdsState(typ, value ast.Expr) string {
	if name := selector(typ); strings.HasPrefix(name, "sync.") || strings.HasPrefix(name, "atomic.") {
		if name != "sync.Pool" { // a cache of free memory
			return "is a " + name
		}
	}
	switch v := value.(type) {
	case *ast.CallExpr:
		fun := v.Fun
		if ix, ok := fun.(*ast.IndexExpr); ok {
			fun = ix.X
		}
		if name := selector(fun); strings.Contains(name, ".") && !slices.Contains(strings.Fields(calls), name) {
			return "is made by " + name + ", which may hold state"
		}
		if id, ok := fun.(*ast.Ident); ok && id.Name == "make" {
			return "is made to be filled"
		}
	case *ast.CompositeLit:
		if name := selector(v.Type); (strings.HasPrefix(name, "sync.") || strings.HasPrefix(name, "atomic.")) && name != "sync.Pool" {
			return "is a " + name
		}
	}
	return ""
}

// selector is "pkg.Name" of such an expression; "" of any other.
func selector(x ast.Expr) string {
	if ix, ok := x.(*ast.IndexExpr); ok {
		x = ix.X
	}
	if s, ok := x.(*ast.SelectorExpr); ok {
		if p, ok := s.X.(*ast.Ident); ok {
			return p.Name + "." + s.Sel.Name
		}
	}
	return ""
}

// writes says where package variables are written to. Within a function that
// declares a local name, that name is taken to be the local one.
func writes(t *tree, dir string, f *source, vars map[string]*ast.ValueSpec) (problems []string) {
	for _, d := range f.ast.Decls {
		hidden := locals(d)
		flag := func(x ast.Expr, how string) {
			if id := base(x); id != nil && vars[id.Name] != nil && !hidden[id.Name] {
				problems = append(problems, fmt.Sprintf("%s: package variable %s.%s %s: make it a field", t.at(x), short(dir), id.Name, how))
			}
		}
		ast.Inspect(d, func(n ast.Node) bool {
			written(n, flag)
			return true
		})
	}
	return problems
}

// written calls flag for what a node writes to.
func written(n ast.Node, flag func(x ast.Expr, how string)) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			for _, x := range n.Lhs {
				flag(x, "is assigned")
			}
		}
	case *ast.IncDecStmt:
		flag(n.X, "is changed")
	case *ast.UnaryExpr:
		if id, ok := n.X.(*ast.Ident); ok && n.Op == token.AND {
			flag(id, "has its address taken")
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
			flag(n.Args[0], "is changed by "+id.Name)
		}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			flag(n.Key, "is assigned")
			flag(n.Value, "is assigned")
		}
	}
}

// locals are the names that a function declares within itself: receiver,
// parameters, results, variables.
func locals(d ast.Decl) map[string]bool {
	names := map[string]bool{}
	if _, ok := d.(*ast.FuncDecl); !ok {
		return names
	}
	add := func(x ast.Expr) {
		if id, ok := x.(*ast.Ident); ok {
			names[id.Name] = true
		}
	}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, id := range n.Names {
				add(id)
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				add(id)
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, x := range n.Lhs {
					add(x)
				}
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				add(n.Key)
				add(n.Value)
			}
		}
		return true
	})
	return names
}

// base is the variable that an expression such as x.f[i] is part of.
func base(x ast.Expr) *ast.Ident {
	for {
		switch y := x.(type) {
		case *ast.Ident:
			return y
		case *ast.SelectorExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.ParenExpr:
			x = y.X
		case *ast.StarExpr:
			x = y.X
		default:
			return nil
		}
	}
}

func TestState(t *testing.T) { report(t, state(whole(t))) }

func TestStateRule(t *testing.T) {
	tr := sample(t, "p/a.go", `package p
import ("errors"; "sync"; "prometheus")
var errA = errors.New("a")
var table = map[string]int{"a": 1}
var _ = errors.Is(nil, nil)
var mu sync.Mutex
var metric = prometheus.NewCounter()
var cache = make(map[string]int)
var pool = sync.Pool{}
var count, limit int
var list []int
func init() {}
func f() {
	count++
	list[0] = 1
	table["b"] = 2
	p := &pool
	_ = p
}
`, "p/b.go", `package p
func g(table map[string]int) {
	table["c"] = 1
	delete(table, "c")
	limit = 5
	delete(cache, "x")
	for count = range 3 {}
}
func h() {
	limit := 3
	limit = 4
	for list := range 3 { list++ }
}
`, "p/c_test.go", "package p\nvar fine = make(chan int)\nfunc init() { count = 2 }\n")
	expect(t, state(tr),
		"variable mu is a sync.Mutex", "variable metric is made by prometheus.NewCounter", "variable cache is made to be filled", "init() does work",
		"count is changed", "list is assigned", "table is assigned", "pool has its address taken",
		"limit is assigned", "cache is changed by delete", "count is assigned")
}
