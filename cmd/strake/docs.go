package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/strakefs/strake/internal/config"
)

type docsCmd struct {
	Out string `help:"Directory to write to." type:"existingdir" required:""`
}

func (c *docsCmd) Run(*globals) error {
	k, err := newParser(&cli{})
	if err != nil {
		return err
	}
	var b strings.Builder
	cliReference(&b, k.Model)
	if err := os.WriteFile(filepath.Join(c.Out, "cli.md"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Out, "config.md"), []byte(config.Reference()), 0o644)
}

// cliReference writes the reference of every command, from the code.
func cliReference(w io.Writer, app *kong.Application) {
	fmt.Fprintf(w, "# Command line\n\nMade from the code by `make docs`.\n\nEvery command takes:\n\n")
	flags(w, app.Flags)
	fmt.Fprintf(w, "\nExit codes: 0 done; 1 it failed; 2 the command line or configuration is wrong; 3 fsck found problems; 130 interrupted.\n")
	nodes(app.Node, "", func(path string, n *kong.Node) {
		if path == "" {
			return
		}
		fmt.Fprintf(w, "\n## strake %s\n\n%s\n", path, n.Help)
		if len(n.Positional) == 0 && len(n.Flags) == 0 {
			return
		}
		fmt.Fprintln(w)
		for _, p := range n.Positional {
			fmt.Fprintf(w, "- `%s` — %s\n", p.Summary(), p.Help)
		}
		flags(w, n.Flags)
	})
}

func flags(w io.Writer, fs []*kong.Flag) {
	for _, f := range fs {
		if f.Hidden || f.Name == "help" {
			continue
		}
		text := f.Help
		if f.HasDefault && f.Default != "" && f.Name != "data" {
			text += fmt.Sprintf(" Default: `%s`.", f.Default)
		}
		if len(f.Envs) > 0 {
			text += fmt.Sprintf(" Environment: `%s`.", strings.Join(f.Envs, "`, `"))
		}
		fmt.Fprintf(w, "- `%s` — %s\n", f.String(), text)
	}
}
