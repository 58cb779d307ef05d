package archtest

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is how long a file may be without a reason.
const maxLines = 1000

// longFiles are those that are longer, with the reason.
var longFiles = map[string]string{}

// lengths says which files have grown too long, and which reasons are of no
// use any more.
func lengths(t *tree, reasons map[string]string) (problems []string) {
	seen := map[string]bool{}
	for _, f := range t.files {
		if f.lines <= maxLines {
			continue
		}
		seen[f.path] = true
		if reasons[f.path] == "" {
			problems = append(problems, fmt.Sprintf("%s has %d lines: look for two things in it", f.path, f.lines))
		}
	}
	for _, p := range sortedKeys(reasons) {
		if !seen[p] {
			problems = append(problems, fmt.Sprintf("%s is not too long any more: take its reason out", p))
		}
	}
	return problems
}

func TestLengths(t *testing.T) { report(t, lengths(whole(t), longFiles)) }

func TestLengthsRule(t *testing.T) {
	long := "package a\n" + strings.Repeat("//\n", maxLines)
	tr := sample(t, "a.go", "package a\n", "b.go", long, "c.go", long)
	expect(t, lengths(tr, map[string]string{"a.go": "x", "c.go": "y"}), "b.go has 1001 lines", "a.go is not too long")
}

// forbiddenNames are packages that gather what has no name of its own.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "base", "shared", "lib"}

func TestPackageNames(t *testing.T) {
	for dir, files := range whole(t).packages() {
		name := strings.TrimSuffix(files[0].ast.Name.Name, "_test")
		if slices.Contains(forbiddenNames, name) || strings.ContainsAny(name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("%s: package %s: name it after the one thing it is", dir, name)
		}
	}
}

// machine are words that tell of the machine this runs on: where the tree lies
// if that is not a usual place, its module mirrors, its own name.
func machine(top, proxies, host, home string) (words []string) {
	for p := range strings.FieldsFuncSeq(proxies, func(r rune) bool { return r == ',' || r == '|' }) {
		if u, err := url.Parse(p); err == nil && u.Hostname() != "" {
			words = append(words, u.Hostname())
		}
	}
	for _, p := range []string{filepath.Dir(top), home} {
		if len(p) > 4 && !slices.Contains([]string{"/root", "/home", "/tmp", "/src", "/build", "/workspace"}, p) {
			words = append(words, p+"/")
		}
	}
	if len(host) > 5 && host != "localhost" && host != "debian" {
		words = append(words, host)
	}
	return words
}

// found says which words are in a text, and where.
func found(name string, text []byte, words []string) (problems []string) {
	for _, w := range words {
		if i := bytes.Index(text, []byte(w)); i >= 0 {
			problems = append(problems, fmt.Sprintf("%s:%d: %q is a matter of one machine", name, 1+bytes.Count(text[:i], []byte("\n")), w))
		}
	}
	return problems
}

// goEnv is what the go command says of a variable.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// tracked are the files under version control, or all files without it.
func tracked(t *testing.T, top string) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = top
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.Is(err, exec.ErrNotFound) || errors.As(err, &exit) {
		return walked(t, top)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func walked(t *testing.T, top string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(top, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(top, name)
		names = append(names, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNothingOfThisMachine(t *testing.T) {
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	home, _ := os.UserHomeDir() // none is none
	words := machine(top, goEnv(t, "GOPROXY"), host, home)
	n := 0
	for _, name := range tracked(t, top) {
		text, err := os.ReadFile(filepath.Join(top, name))
		if errors.Is(err, os.ErrNotExist) { // removed, not yet committed
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		report(t, found(name, text, words))
	}
	if n < 20 {
		t.Fatalf("only %d files", n)
	}
}

func TestMachineRule(t *testing.T) {
	words := machine("/data/build7/strake", "https://mirror.example.test/go,https://other.example.test|direct", "builder-7", "/root")
	want := []string{"mirror.example.test", "other.example.test", "/data/build7/", "builder-7"}
	if !slices.Equal(words, want) {
		t.Fatalf("words %q, want %q", words, want)
	}
	text := []byte("one\nGOPROXY=https://mirror.example.test/go\n/data/build7/strake\n")
	expect(t, found("f", text, words), "f:2: \"mirror", "f:3: \"/data")
	expect(t, found("f", []byte("/data/build is elsewhere"), words))
}
