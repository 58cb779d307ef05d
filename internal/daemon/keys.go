package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/keyring/kms"
	"github.com/strakefs/strake/internal/osfs"
)

// openKeys opens the keyring, or makes it, wrapped with keys that are safe on
// disk before anything is encrypted.
func (n *Node) openKeys(ctx context.Context, _ openMode) error {
	made, err := n.at.exists(n.fs)
	if err != nil {
		return err
	}
	if made {
		n.keys, err = n.unlock(ctx)
	} else {
		n.keys, err = n.newKeyring(ctx)
	}
	if err != nil {
		return err
	}
	n.onClose(n.keys.Close)
	return nil
}

func (n *Node) newKeyring(ctx context.Context) (*keyring.Keyring, error) {
	var keks []keyring.KEK
	for _, name := range n.cfg.Keys.Names() {
		kek, err := n.freshKEK(name, "")
		if err != nil {
			return nil, err
		}
		keks = append(keks, kek)
	}
	return keyring.CreateWith(ctx, n.keyFS, n.at.keyring(), keks...)
}

// freshKEK is the key of a name to wrap with. Of a password, text is it; empty:
// the configured or generated one. A key file is made where it is not there.
func (n *Node) freshKEK(name, text string) (keyring.KEK, error) {
	switch {
	case name == keyring.KindFile.String():
		if n.cfg.Keys.File == "" {
			return nil, fsapi.Errorf(fsapi.Invalid, "keys.file is not set in the configuration: it says where the key file is")
		}
		_, err := keyring.EnsureKeyFile(n.fs, n.cfg.Keys.File)
		return keyring.KeyFile(n.fs, n.cfg.Keys.File), err
	case name != keyring.KindPassword.String():
		return n.kmsKEK(name)
	case text != "":
		return keyring.Password([]byte(text), keyring.DefaultParams()), nil
	}
	given, err := n.givenPassword()
	if err != nil {
		return nil, err
	}
	if given == nil {
		given, _, err = keyring.EnsurePasswordFile(n.fs, n.at.password())
	}
	return keyring.Password(given, keyring.DefaultParams()), err
}

// kmsKEK is the key of a configured service.
func (n *Node) kmsKEK(name string) (keyring.KEK, error) {
	i := slices.IndexFunc(n.cfg.KMS, func(k config.KMS) bool { return k.Name == name })
	if i < 0 {
		return nil, fsapi.Errorf(fsapi.Invalid, "%q is neither password nor file nor the name of a [[kms]] in the configuration", name)
	}
	w, err := n.kms(&n.cfg.KMS[i])
	if err != nil {
		return nil, err
	}
	return keyring.External(w), nil
}

func (n *Node) kms(c *config.KMS) (keyring.Wrapper, error) {
	return kms.New(kms.Options{
		Name: c.Name, Provider: c.Provider, Address: c.Address, Key: c.Key, CAFile: c.CAFile, Mount: c.Mount, Namespace: c.Namespace,
		TokenFile: c.TokenFile, RoleID: c.RoleID, SecretIDFile: c.SecretIDFile,
		Region: c.Region, CredentialsFile: c.CredentialsFile, Profile: c.Profile, FS: n.fs, Clock: n.clock,
	})
}

// unlock opens the keyring that is there with what the configuration gives: what
// is on this machine first, then services, which are asked again for keys.wait
// while they do not answer.
func (n *Node) unlock(ctx context.Context) (*keyring.Keyring, error) {
	keks, err := n.keks(func(w keyring.Wrapper) keyring.Wrapper {
		return keyring.Patient(w, n.clock, n.cfg.Keys.Wait, func(err error, pause time.Duration) {
			n.log.Warn("waiting for what opens the keyring", "kms", w.Identity().Name, "again_in", pause, "err", err)
		})
	})
	if err != nil {
		return nil, err
	}
	return keyring.OpenWith(ctx, n.keyFS, n.at.keyring(), keks...)
}

// keks are the keys that the configuration gives. decorate wraps services.
func (n *Node) keks(decorate func(keyring.Wrapper) keyring.Wrapper) ([]keyring.KEK, error) {
	var keks []keyring.KEK
	if n.cfg.Keys.File != "" {
		keks = append(keks, keyring.KeyFile(n.fs, n.cfg.Keys.File))
	}
	given, err := n.givenPassword()
	if err != nil {
		return nil, err
	}
	_, generated := n.fs.Stat(n.at.password())
	switch {
	case given != nil:
		keks = append(keks, keyring.Password(given, keyring.Params{}))
	case n.asked != nil && errors.Is(generated, os.ErrNotExist):
		keks = append(keks, n.asked)
	default:
		keks = append(keks, keyring.PasswordFile(n.fs, n.at.password()))
	}
	for i := range n.cfg.KMS {
		w, err := n.kms(&n.cfg.KMS[i])
		if err != nil {
			return nil, err
		}
		keks = append(keks, keyring.External(decorate(w)))
	}
	return keks, nil
}

// givenPassword is the password from the configured file or the environment,
// nil where neither is set.
func (n *Node) givenPassword() ([]byte, error) {
	env := n.cfg.Data.PasswordEnv
	if n.cfg.Data.PasswordFile == "" && (env == "" || os.Getenv(env) == "") {
		return nil, nil
	}
	return keyring.PasswordFrom(keyring.Sources{File: n.cfg.Data.PasswordFile, Env: env})
}

// AskPassword asks a person for the password of the store, without echo; nil where
// in is no terminal. in and out are usually os.Stdin and os.Stderr.
func AskPassword(in *os.File, out io.Writer) func() ([]byte, error) {
	ask := keyring.Terminal(in, out)
	if ask == nil {
		return nil
	}
	return func() ([]byte, error) {
		return keyring.PasswordFrom(keyring.Sources{Prompt: ask, Question: "password of the store"})
	}
}

// passwd re-wraps the keyring. With a generated password its file follows, so
// that the next start finds the new one.
func (n *Node) passwd(ctx context.Context, req api.Passwd) (api.Empty, error) {
	if req.New == "" {
		return api.Empty{}, fsapi.Errorf(fsapi.Invalid, "the new password is empty")
	}
	old, fresh := []byte(req.Old), []byte(req.New)
	given, err := n.givenPassword()
	if err != nil {
		return api.Empty{}, err
	}
	if given == nil {
		err = n.keys.ChangePasswordFile(n.keyFS, n.at.password(), old, fresh, keyring.DefaultParams())
	} else {
		err = n.keys.ChangePassword(old, fresh, keyring.DefaultParams())
	}
	if err != nil {
		return api.Empty{}, err
	}
	return api.Empty{}, n.ships.Flush(ctx) // the copies on the drives
}

// wrapKeys lets another key open the keyring. A password that is not the
// configured one replaces the generated file, which would open nothing.
func (n *Node) wrapKeys(ctx context.Context, req api.KeyWrap) (api.Empty, error) {
	if req.Password != "" && req.Name != keyring.KindPassword.String() {
		return api.Empty{}, fsapi.Errorf(fsapi.Invalid, "a password is given, but %s is wrapped with", req.Name)
	}
	has := slices.ContainsFunc(n.keys.Wrappings(), func(w keyring.Wrapping) bool { return w.Name == req.Name })
	if req.Name == keyring.KindPassword.String() && has {
		return api.Empty{}, fsapi.Errorf(fsapi.Exist, "a password wraps the keyring already: change it with `strake key passwd`, which asks for the old one")
	}
	kek, err := n.freshKEK(req.Name, req.Password)
	if err != nil {
		return api.Empty{}, err
	}
	if err := n.keepPassword(req); err != nil {
		return api.Empty{}, err
	}
	if err := n.keys.Wrap(ctx, kek); err != nil {
		return api.Empty{}, err
	}
	return api.Empty{}, n.ships.Flush(ctx)
}

// keepPassword puts a new password where the next start looks for it, unless
// the configuration gives one.
func (n *Node) keepPassword(req api.KeyWrap) error {
	given, err := n.givenPassword()
	if err != nil || given != nil || req.Password == "" {
		return err
	}
	err = osfs.ReplaceFile(n.fs, n.at.password(), []byte(req.Password+"\n"), 0o600)
	return fsapi.Wrap(fsapi.IO, err, "write "+n.at.password())
}

func (n *Node) unwrapKeys(ctx context.Context, req api.Named) (api.Empty, error) {
	keks, err := n.keks(func(w keyring.Wrapper) keyring.Wrapper { return w })
	if err != nil {
		return api.Empty{}, err
	}
	if err := n.keys.Unwrap(ctx, req.Name, keks...); err != nil {
		return api.Empty{}, err
	}
	if err := n.ships.Flush(ctx); err != nil {
		return api.Empty{}, err
	}
	if req.Name != keyring.KindPassword.String() {
		return api.Empty{}, nil
	}
	if err := n.fs.Remove(n.at.password()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return api.Empty{}, fsapi.Wrap(fsapi.IO, err, "remove the password that opens nothing any more")
	}
	return api.Empty{}, nil
}
