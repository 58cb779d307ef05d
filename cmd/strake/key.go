package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/client"
	"github.com/strakefs/strake/internal/fsapi"
)

type keyCmd struct {
	Passwd keyPasswdCmd `cmd:"" help:"Change the password that wraps the keys."`
	List   keyListCmd   `cmd:"" help:"List the versions of data keys, and what opens the keyring."`
	Wrap   keyWrapCmd   `cmd:"" help:"Let another key open the keyring: a password, a key file, a KMS; or wrap it anew."`
	Unwrap keyUnwrapCmd `cmd:"" help:"Take a key's right to open the keyring away."`
	Rotate keyRotateCmd `cmd:"" help:"Make a new data key for a volume; its data is encrypted anew in the background."`
}

type keyPasswdCmd struct {
	OldFile string `help:"File with the old password (default: ask; with a generated password: the file it is in)." type:"existingfile"`
	NewFile string `help:"File with the new password (default: ask)." type:"existingfile"`
}

func (c *keyPasswdCmd) Run(g *globals) error {
	if c.OldFile == "" && g.Server == "" {
		// The server keeps a generated password there, and no other.
		if generated := filepath.Join(g.Data, "password"); isFile(generated) {
			c.OldFile = generated
		}
	}
	old, err := readPassword(c.OldFile, "Old password: ", "--old-file")
	if err != nil {
		return err
	}
	fresh, err := newPassword(c.NewFile)
	if err != nil {
		return err
	}
	if _, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/keys/passwd", api.Passwd{Old: old, New: fresh}); err != nil {
		return err
	}
	return g.out.done(api.Empty{}, "the password was changed; give it with --password-file at the next start")
}

// newPassword reads a new password, twice where a person types it.
func newPassword(file string) (string, error) {
	fresh, err := readPassword(file, "New password: ", "--new-file")
	if err != nil || file != "" {
		return fresh, err
	}
	again, err := readPassword("", "New password again: ", "--new-file")
	if err == nil && again != fresh {
		err = fsapi.Errorf(fsapi.Invalid, "the two new passwords differ: nothing was changed")
	}
	return fresh, err
}

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// readPassword reads a password from a file, or asks for it; flag names the
// file where there is nobody to ask.
func readPassword(file, prompt, flag string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		return strings.TrimRight(string(b), "\r\n"), err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", fsapi.Errorf(fsapi.Invalid, "there is no terminal to ask for a password: name a file that holds it with %s", flag)
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
	return g.out.value(l, func(w io.Writer) { printKeys(w, l) })
}

func printKeys(w io.Writer, l api.Keys) {
	var t [][]any
	for _, k := range l.Keys {
		t = append(t, []any{k.Volume, k.Version, k.Cipher, when(k.Created), keyState(k, l.Reencrypt)})
	}
	rows(w, []any{"VOLUME", "VERSION", "CIPHER", "CREATED", ""}, t)
	for _, r := range l.Reencrypt {
		fmt.Fprintf(w, "\n%s is encrypted anew for version %d: %s, %s of %s looked at, %s encrypted\n", r.Volume, r.To, r.Phase, size(r.Done), size(r.Total), size(r.Moved))
		if r.Needed != "" {
			fmt.Fprintf(w, "old versions are needed by: %s\n", r.Needed)
		}
	}
	t = nil
	for _, k := range l.Wrappings {
		t = append(t, []any{k.Name, k.Kind, strings.TrimSpace(k.Provider + " " + k.Key), when(k.Created), k.ID})
	}
	fmt.Fprintln(w)
	rows(w, []any{"OPENED BY", "KIND", "KEY", "SINCE", "ID"}, t)
}

// keyState says what a version is for.
func keyState(k api.Key, rs []api.Rekeying) string {
	if k.Current {
		return "current"
	}
	for _, r := range rs {
		if r.Volume == k.Volume && r.Phase == "waiting" {
			return "old, waits to be dropped"
		}
	}
	return "old, in use"
}

type keyWrapCmd struct {
	Name    string `arg:"" help:"password, file (keys.file in the configuration), or the name of a [[kms]] in the configuration."`
	NewFile string `help:"With password: file that holds it (default: ask)." type:"existingfile"`
}

func (c *keyWrapCmd) Run(g *globals) error {
	req := api.KeyWrap{Name: c.Name}
	if c.Name == "password" {
		var err error
		if req.Password, err = newPassword(c.NewFile); err != nil {
			return err
		}
	}
	if _, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/keys/wrap", req); err != nil {
		return err
	}
	return g.out.done(api.Named{Name: c.Name}, "%s opens the keyring from now on", c.Name)
}

type keyUnwrapCmd struct {
	Name string `arg:"" help:"Name of the wrapping, as strake key list shows it."`
}

func (c *keyUnwrapCmd) Run(g *globals) error {
	if _, err := client.Call[api.Empty](g.ctx, g.client(), "POST", "/v1/admin/keys/unwrap", api.Named{Name: c.Name}); err != nil {
		return err
	}
	return g.out.done(api.Named{Name: c.Name}, "%s does not open the keyring any more", c.Name)
}

type keyRotateCmd struct {
	Volume string `arg:"" optional:"" help:"Volume (default: the default one)."`
	Prune  bool   `help:"Make no new key: drop the old ones, if nothing needs them any more."`
	Now    bool   `help:"With --prune: encrypt everything anew now, and do not wait out the delays of upkeep."`
}

func (c *keyRotateCmd) Run(g *globals) error {
	if c.Now && !c.Prune {
		return fsapi.Errorf(fsapi.Invalid, "--now goes with --prune, which makes no new key")
	}
	r, err := client.Call[api.KeyRotated](g.ctx, g.client(), "POST", "/v1/admin/keys/rotate", api.KeyRotate{Volume: c.Volume, Prune: c.Prune, Now: c.Now})
	if err != nil {
		return err
	}
	if c.Prune {
		return g.out.done(r, "dropped %d old keys of %s; version %d is the only one", len(r.Dropped), r.Volume, r.Version)
	}
	return g.out.done(r, "version %d of %s's key is current; older data is encrypted anew in the background (strake key list)", r.Version, r.Volume)
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
