package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
)

type keyCmd struct {
	Passwd keyPasswdCmd `cmd:"" help:"Change the password that wraps the keys."`
	List   keyListCmd   `cmd:"" help:"List the versions of data keys."`
}

type keyPasswdCmd struct {
	OldFile string `help:"File with the old password (default: ask; with a generated password: the file it is in)." type:"existingfile"`
	NewFile string `help:"File with the new password (default: ask)." type:"existingfile"`
}

func (c *keyPasswdCmd) Run(g *globals) error {
	old, err := readPassword(c.OldFile, "Old password: ")
	if err != nil {
		return err
	}
	fresh, err := readPassword(c.NewFile, "New password: ")
	if err != nil {
		return err
	}
	if c.NewFile == "" {
		again, err := readPassword("", "New password again: ")
		if err != nil {
			return err
		}
		if again != fresh {
			return fsapi.Errorf(fsapi.Invalid, "the two new passwords differ: nothing was changed")
		}
	}
	if _, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/keys/passwd", api.Passwd{Old: old, New: fresh}); err != nil {
		return err
	}
	return g.out.done(api.Empty{}, "the password was changed; give it with --password-file at the next start")
}

func readPassword(file, prompt string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		return strings.TrimRight(string(b), "\r\n"), err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", fsapi.Errorf(fsapi.Invalid, "there is no terminal to ask for a password: use --old-file and --new-file")
	}
	fmt.Fprint(os.Stderr, prompt)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return string(b), err
}

type keyListCmd struct{}

func (c *keyListCmd) Run(g *globals) error {
	l, err := client.Call[api.Keys](g.ctx, g.client(), "GET", "/v1/admin/keys", nil)
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) {
		var t [][]any
		for _, k := range l.Keys {
			current := ""
			if k.Current {
				current = "current"
			}
			t = append(t, []any{k.Volume, k.Version, k.Cipher, when(k.Created), current})
		}
		rows(w, []any{"VOLUME", "VERSION", "CIPHER", "CREATED", ""}, t)
	})
}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token; it is shown once."`
	List   tokenListCmd   `cmd:"" help:"List tokens."`
	Delete tokenDeleteCmd `cmd:"" help:"Take a token's rights away."`
}

type tokenCreateCmd struct {
	Name string `arg:"" help:"Name of the token."`
	Role string `help:"read, write or admin." default:"write" enum:"read,write,admin"`
}

func (c *tokenCreateCmd) Run(g *globals) error {
	t, err := client.Call[api.Token](g.ctx, g.client(), "POST", "/v1/admin/tokens", api.TokenCreate{Name: c.Name, Role: c.Role})
	if err != nil {
		return err
	}
	return g.out.done(t, "%s", t.Secret)
}

type tokenListCmd struct{}

func (c *tokenListCmd) Run(g *globals) error {
	l, err := client.Call[api.Tokens](g.ctx, g.client(), "GET", "/v1/admin/tokens", nil)
	if err != nil {
		return err
	}
	return g.out.value(l, func(w io.Writer) {
		var t [][]any
		for _, k := range l.Tokens {
			t = append(t, []any{k.Name, k.Role, when(k.Created)})
		}
		rows(w, []any{"TOKEN", "ROLE", "CREATED"}, t)
	})
}

type tokenDeleteCmd struct {
	Name string `arg:"" help:"Name of the token."`
}

func (c *tokenDeleteCmd) Run(g *globals) error {
	if _, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/tokens/delete", api.Named{Name: c.Name}); err != nil {
		return err
	}
	return g.out.done(api.Named{Name: c.Name}, "token %s has no rights any more", c.Name)
}
