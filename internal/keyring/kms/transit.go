package kms

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
)

// transit is the transit secrets engine's HTTP API,
// developer.hashicorp.com/vault/api-docs/secret/transit. The key must be of an
// AEAD type (aes256-gcm96, chacha20-poly1305), whose associated data carries
// what the secret is bound to.
type transit struct {
	*service
	o Options
}

var _ keyring.Wrapper = (*transit)(nil)

func newTransit(o Options, s *service) (*transit, error) {
	if (o.RoleID == "") != (o.SecretIDFile == "") {
		return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: role_id and secret_id_file go together", o.Name)
	}
	if o.RoleID != "" && o.TokenFile != "" {
		return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: give either token_file or role_id and secret_id_file", o.Name)
	}
	return &transit{s, o}, nil
}

// Identity implements keyring.Wrapper.
func (t *transit) Identity() keyring.Identity {
	return keyring.Identity{Name: t.o.Name, Provider: Transit, Key: t.o.Address + "/" + t.o.Mount + "/" + t.o.Key}
}

type transitCrypt struct {
	Plaintext  []byte `json:"plaintext,omitempty"` // base64 in JSON
	Ciphertext string `json:"ciphertext,omitempty"`
	Associated []byte `json:"associated_data,omitempty"`
}

// Wrap implements keyring.Wrapper.
func (t *transit) Wrap(ctx context.Context, secret, bind []byte) ([]byte, error) {
	got, err := t.call(ctx, "encrypt", transitCrypt{Plaintext: secret, Associated: bind})
	if err != nil {
		return nil, err
	}
	if got.Ciphertext == "" {
		return nil, fsapi.Errorf(fsapi.IO, "kms %s answered without a ciphertext", t.o.Name)
	}
	return []byte(got.Ciphertext), nil
}

// Unwrap implements keyring.Wrapper.
func (t *transit) Unwrap(ctx context.Context, sealed, bind []byte) ([]byte, error) {
	got, err := t.call(ctx, "decrypt", transitCrypt{Ciphertext: string(sealed), Associated: bind})
	if err != nil {
		return nil, err
	}
	return got.Plaintext, nil
}

func (t *transit) call(ctx context.Context, op string, body transitCrypt) (transitCrypt, error) {
	token, err := t.token(ctx)
	if err != nil {
		return transitCrypt{}, err
	}
	var out struct {
		Data transitCrypt `json:"data"`
	}
	err = t.request(ctx, t.o.Mount+"/"+op+"/"+url.PathEscape(t.o.Key), token, body, &out)
	return out.Data, err
}

// token is what the service knows this process by.
func (t *transit) token(ctx context.Context) (string, error) {
	switch {
	case t.o.TokenFile != "":
		b, err := readSmall(t.o.FS, t.o.TokenFile)
		return strings.TrimSpace(string(b)), fsapi.Wrap(fsapi.Unauthorized, err, "kms "+t.o.Name)
	case t.o.RoleID != "":
		return t.login(ctx)
	}
	for _, env := range []string{"VAULT_TOKEN", "BAO_TOKEN"} {
		if v := t.o.LookupEnv(env); v != "" {
			return v, nil
		}
	}
	return "", fsapi.Errorf(fsapi.Unauthorized, "kms %s: no token: set token_file, or role_id and secret_id_file, or the environment's VAULT_TOKEN", t.o.Name)
}

// login gets a token of the AppRole.
func (t *transit) login(ctx context.Context) (string, error) {
	secret, err := readSmall(t.o.FS, t.o.SecretIDFile)
	if err != nil {
		return "", fsapi.Wrap(fsapi.Unauthorized, err, "kms "+t.o.Name)
	}
	var out struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	body := map[string]string{"role_id": t.o.RoleID, "secret_id": strings.TrimSpace(string(secret))}
	if err := t.request(ctx, "auth/approle/login", "", body, &out); err != nil {
		return "", err
	}
	return out.Auth.Token, nil
}

func (t *transit) request(ctx context.Context, path, token string, body, out any) error {
	a, err := t.post(ctx, t.o.Address+"/v1/"+path, body, func(r *http.Request, _ []byte) error {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Vault-Request", "true")
		if token != "" {
			r.Header.Set("X-Vault-Token", token)
		}
		if t.o.Namespace != "" {
			r.Header.Set("X-Vault-Namespace", t.o.Namespace)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return t.refused(path, a)
	}
	return t.decode(a, out)
}

// refused is what a status means: developer.hashicorp.com/vault/api-docs.
func (t *transit) refused(path string, a answer) error {
	kind := fsapi.IO // 429 throttled, 472 and 473 standby, 5xx broken, 503 sealed
	switch a.status {
	case http.StatusBadRequest:
		kind = fsapi.Invalid
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = fsapi.Unauthorized
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		kind = fsapi.NotExist
	}
	var said struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(a.body, &said) // a proxy's page has no errors to show
	return fsapi.Errorf(kind, "kms %s refused %s with status %d: %s", t.o.Name, path, a.status, strings.Join(said.Errors, "; "))
}
