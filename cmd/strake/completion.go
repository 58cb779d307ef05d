package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

func (c *completionCmd) Run(g *globals) error {
	k, err := newParser(&cli{})
	if err != nil {
		return err
	}
	writers := map[string]func(io.Writer, *kong.Application){"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	writers[c.Shell](g.out.w, k.Model)
	return nil
}

// words of a command line node: its subcommands and flags.
func words(n *kong.Node) string {
	var w []string
	for _, c := range n.Children {
		if !c.Hidden {
			w = append(w, c.Name)
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			w = append(w, "--"+f.Name)
		}
	}
	return strings.Join(w, " ")
}

// nodes lists a tree's commands with their paths ("volume create").
func nodes(n *kong.Node, path string, fn func(path string, n *kong.Node)) {
	fn(path, n)
	for _, c := range n.Children {
		if !c.Hidden {
			nodes(c, strings.TrimSpace(path+" "+c.Name), fn)
		}
	}
}

func bashCompletion(w io.Writer, app *kong.Application) {
	fmt.Fprint(w, `_strake() {
	local cur=${COMP_WORDS[COMP_CWORD]} path="" i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in -*) ;; *) path="$path ${COMP_WORDS[i]}" ;; esac
	done
	local words
	case "${path# }" in
`)
	var cases []string
	nodes(app.Node, "", func(path string, n *kong.Node) {
		pattern := fmt.Sprintf("%q*", path)
		if path == "" {
			pattern = "*"
		}
		cases = append(cases, fmt.Sprintf("\t%s) words=%q ;;\n", pattern, words(n)))
	})
	for i := len(cases) - 1; i >= 0; i-- { // the longest path first
		fmt.Fprint(w, cases[i])
	}
	fmt.Fprint(w, `	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
	[ ${#COMPREPLY[@]} = 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _strake strake
`)
}

func zshCompletion(w io.Writer, app *kong.Application) {
	fmt.Fprintln(w, "#compdef strake\nautoload -U +X bashcompinit && bashcompinit")
	bashCompletion(w, app)
}

func fishCompletion(w io.Writer, app *kong.Application) {
	nodes(app.Node, "", func(path string, n *kong.Node) {
		condition := "__fish_use_subcommand"
		if path != "" {
			condition = "__fish_seen_subcommand_from " + path[strings.LastIndex(path, " ")+1:]
		}
		for _, c := range n.Children {
			if !c.Hidden {
				fmt.Fprintf(w, "complete -c strake -n %q -a %s -d %q\n", condition, c.Name, c.Help)
			}
		}
		for _, f := range n.Flags {
			fmt.Fprintf(w, "complete -c strake -n %q -l %s -d %q\n", condition, f.Name, f.Help)
		}
	})
}
