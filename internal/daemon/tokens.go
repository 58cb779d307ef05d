package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/door/rest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
)

// tokensSetting is the settings record that holds the tokens, as JSON.
const tokensSetting = "rest.tokens"

// tokenRecord is a token as stored: its hash, never itself. Tokens carry 128
// random bits, so a fast hash is enough.
type tokenRecord struct {
	Name    string    `json:"name"`
	Role    rest.Role `json:"role"`
	Hash    []byte    `json:"hash"` // SHA-256
	Created time.Time `json:"created"`
}

var roleNames = map[rest.Role]string{rest.RoleRead: "read", rest.RoleWrite: "write", rest.RoleAdmin: "admin"}

// tokens is the table of bearer tokens. Safe for concurrent use.
type tokens struct {
	meta *meta.Store
	mu   sync.RWMutex
	list []tokenRecord // guarded by mu
}

func loadTokens(ctx context.Context, m *meta.Store) (*tokens, error) {
	t := &tokens{meta: m}
	b, err := m.Setting(ctx, tokensSetting)
	if errors.Is(err, fsapi.NotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &t.list); err != nil {
		return nil, fsapi.Wrap(fsapi.Corrupt, err, "read the tokens")
	}
	return t, nil
}

// Role finds a token by its hash, which takes the same time for every guess
// that matters: what is compared is not the secret.
func (t *tokens) Role(_ context.Context, token string) (rest.Role, error) {
	h := sha256.Sum256([]byte(token))
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range t.list {
		if [sha256.Size]byte(t.list[i].Hash) == h {
			return t.list[i].Role, nil
		}
	}
	return rest.RoleNone, nil
}

func (t *tokens) empty() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.list) == 0
}

// create makes a token; its secret is nowhere but in the result.
func (t *tokens) create(ctx context.Context, name, role string, now time.Time) (api.Token, error) {
	r := rest.RoleNone
	for k, n := range roleNames {
		if n == role {
			r = k
		}
	}
	if r == rest.RoleNone || name == "" {
		return api.Token{}, fsapi.Errorf(fsapi.Invalid, "a token needs a name and a role of read, write or admin; got %q and %q", name, role)
	}
	secret := "strake-" + rand.Text()
	h := sha256.Sum256([]byte(secret))
	rec := tokenRecord{Name: name, Role: r, Hash: h[:], Created: now}
	err := t.change(ctx, func(list []tokenRecord) ([]tokenRecord, error) {
		if slices.ContainsFunc(list, func(o tokenRecord) bool { return o.Name == name }) {
			return nil, fsapi.Errorf(fsapi.Exist, "there is a token named %s already", name)
		}
		return append(list, rec), nil
	})
	return api.Token{Name: name, Role: role, Created: now, Secret: secret}, err
}

func (t *tokens) delete(ctx context.Context, name string) error {
	return t.change(ctx, func(list []tokenRecord) ([]tokenRecord, error) {
		i := slices.IndexFunc(list, func(o tokenRecord) bool { return o.Name == name })
		if i < 0 {
			return nil, fsapi.Errorf(fsapi.NotExist, "there is no token named %s", name)
		}
		return slices.Delete(list, i, i+1), nil
	})
}

// change stores a new list, durably, before it holds.
func (t *tokens) change(ctx context.Context, fn func([]tokenRecord) ([]tokenRecord, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next, err := fn(slices.Clone(t.list))
	if err != nil {
		return err
	}
	b, err := json.Marshal(next)
	if err != nil {
		return fsapi.Wrap(fsapi.Other, err, "encode the tokens")
	}
	if err := t.meta.PutSetting(ctx, tokensSetting, b); err != nil {
		return err
	}
	t.list = next
	return nil
}

func (t *tokens) all() api.Tokens {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := api.Tokens{Tokens: []api.Token{}}
	for _, r := range t.list {
		out.Tokens = append(out.Tokens, api.Token{Name: r.Name, Role: roleNames[r.Role], Created: r.Created})
	}
	return out
}
