package kms_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/keyring/kms"
	"github.com/strakefs/strake/internal/keyring/kms/kmstest"
	"github.com/strakefs/strake/internal/osfs"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func none(string) string { return "" }

// options is one way to each provider for each way to log in.
func options(t *testing.T, s *kmstest.Service) map[string]kms.Options {
	awsEnv := map[string]string{"AWS_ACCESS_KEY_ID": kmstest.AccessID, "AWS_SECRET_ACCESS_KEY": kmstest.Secret, "AWS_SESSION_TOKEN": "session"}
	return map[string]kms.Options{
		"transit, token file":  {Provider: kms.Transit, TokenFile: write(t, kmstest.Token+"\n"), LookupEnv: none},
		"transit, approle":     {Provider: kms.Transit, RoleID: kmstest.RoleID, SecretIDFile: write(t, kmstest.SecretID), LookupEnv: none},
		"transit, environment": {Provider: kms.Transit, LookupEnv: func(k string) string { return map[string]string{"BAO_TOKEN": kmstest.Token}[k] }},
		"aws, environment":     {Provider: kms.AWS, Region: kmstest.Region, LookupEnv: func(k string) string { return awsEnv[k] }},
		"aws, file": {Provider: kms.AWS, Region: kmstest.Region, Profile: "p", LookupEnv: none, CredentialsFile: write(t,
			"[default]\naws_access_key_id = x\n# c\n[p]\naws_access_key_id="+kmstest.AccessID+"\naws_secret_access_key = "+kmstest.Secret+"\n")},
	}
}

func wrapper(t *testing.T, o kms.Options, url string) keyring.Wrapper {
	t.Helper()
	o.Name, o.Address = "k", url
	if o.Key == "" {
		o.Key = "strake"
	}
	w, err := kms.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWrap(t *testing.T) {
	s := kmstest.Start(t, "strake")
	for name, o := range options(t, s) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			w := wrapper(t, o, s.URL)
			secret, bind := []byte("a secret of some bytes"), []byte{0, 1, 255}
			sealed, err := w.Wrap(ctx, secret, bind)
			if err != nil || bytes.Contains(sealed, secret) {
				t.Fatalf("%q, %v", sealed, err)
			}
			s.Rotate("strake") // older ciphertexts stay good
			got, err := w.Unwrap(ctx, sealed, bind)
			if err != nil || !bytes.Equal(got, secret) {
				t.Fatalf("%q, %v", got, err)
			}
			fails := func(what string, err error, want fsapi.Kind) {
				t.Helper()
				if !errors.Is(err, want) || !strings.Contains(err.Error(), "kms k") {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			_, err = w.Unwrap(ctx, sealed, []byte("other"))
			fails("bound to something else", err, fsapi.Invalid)
			_, err = w.Unwrap(ctx, []byte("vault:v1:AAAA"), bind)
			fails("not wrapped here", err, fsapi.Invalid)
			s.Down(1)
			_, err = w.Unwrap(ctx, sealed, bind)
			fails("sealed service", err, fsapi.IO)
			other := o
			other.Key = "nothing"
			_, err = wrapper(t, other, s.URL).Wrap(ctx, secret, bind)
			if k := fsapi.KindOf(err); k != fsapi.NotExist && k != fsapi.Invalid {
				t.Errorf("no such key: %v", err)
			}
			_, err = wrapper(t, o, "http://127.0.0.1:1").Wrap(ctx, secret, bind)
			fails("nobody answers", err, fsapi.IO)
		})
	}
}

func TestRefused(t *testing.T) {
	s := kmstest.Start(t, "strake")
	for name, o := range map[string]kms.Options{
		"wrong token":     {Provider: kms.Transit, TokenFile: write(t, "wrong"), LookupEnv: none},
		"no token":        {Provider: kms.Transit, LookupEnv: none},
		"no token file":   {Provider: kms.Transit, TokenFile: "/nonexistent", LookupEnv: none},
		"no credentials":  {Provider: kms.AWS, Region: kmstest.Region, LookupEnv: none},
		"no profile":      {Provider: kms.AWS, Region: kmstest.Region, CredentialsFile: write(t, "[a]\n"), LookupEnv: none},
		"wrong signature": {Provider: kms.AWS, Region: kmstest.Region, CredentialsFile: write(t, "[default]\naws_access_key_id="+kmstest.AccessID+"\naws_secret_access_key=x\n"), LookupEnv: none},
	} {
		if _, err := wrapper(t, o, s.URL).Wrap(t.Context(), []byte("s"), nil); !errors.Is(err, fsapi.Unauthorized) {
			t.Errorf("%s: %v, want Unauthorized", name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]kms.Options{
		"no name":         {Provider: kms.Transit, Key: "k", Address: "https://h"},
		"no key":          {Name: "n", Provider: kms.Transit, Address: "https://h"},
		"no provider":     {Name: "n", Key: "k", Address: "https://h"},
		"no address":      {Name: "n", Key: "k", Provider: kms.Transit},
		"clear text":      {Name: "n", Key: "k", Provider: kms.Transit, Address: "http://vault.example:8200"},
		"no region":       {Name: "n", Key: "k", Provider: kms.AWS},
		"endpoint only":   {Name: "n", Key: "k", Provider: kms.AWS, Address: "https://h"},
		"half an approle": {Name: "n", Key: "k", Provider: kms.Transit, Address: "https://h", RoleID: "r"},
		"two logins":      {Name: "n", Key: "k", Provider: kms.Transit, Address: "https://h", RoleID: "r", SecretIDFile: "f", TokenFile: "f"},
		"no certificate":  {Name: "n", Key: "k", Provider: kms.Transit, Address: "https://h", CAFile: write(t, "x")},
	} {
		if _, err := kms.New(o); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%s: %v, want Invalid", name, err)
		}
	}
}

// A keyring wrapped by a service is opened by it, after the key was rotated
// too, and not without it.
func TestKeyring(t *testing.T) {
	s := kmstest.Start(t, "strake")
	for name, o := range options(t, s) {
		m, ctx := osfs.NewMem(osfs.MemOptions{}), t.Context()
		w := wrapper(t, o, s.URL)
		k, err := keyring.CreateWith(ctx, m, "keyring", keyring.External(w))
		if err != nil {
			t.Fatal(name, err)
		}
		s.Rotate("strake")
		again, err := keyring.OpenWith(ctx, m, "keyring", keyring.External(w))
		if err != nil || !bytes.Equal(again.StoreKey(), k.StoreKey()) {
			t.Errorf("%s: %v", name, err)
		}
		asked := s.Asked()
		if err := again.AddVolume(1, fsapi.CipherAES256GCM); err != nil || s.Asked() != asked {
			t.Errorf("%s: a running server asked %d times: %v", name, s.Asked()-asked, err)
		}
	}
	s.Down(-1)
	for name, o := range options(t, s) {
		_, err := keyring.CreateWith(t.Context(), osfs.NewMem(osfs.MemOptions{}), "keyring", keyring.External(wrapper(t, o, s.URL)))
		if !errors.Is(err, fsapi.IO) {
			t.Errorf("%s: service down: %v", name, err)
		}
	}
}
