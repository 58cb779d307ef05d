package keyring

import (
	"context"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
)

// Wrapper is a key-encryption key that an external service holds and never
// shows. Safe for concurrent use. Both methods send at most 64 bytes of secret
// and one request (besides logging in).
//
// Errors: fsapi.IO and fsapi.TimedOut where the service did not answer or is
// sealed, throttled or broken, so that asking again later may help;
// fsapi.Unauthorized where it refused the credentials or the use of the key;
// fsapi.NotExist where there is no such key; fsapi.Invalid where what is
// unwrapped was not wrapped by this key or for this bind.
type Wrapper interface {
	// Identity says which key it is, for people and for the record.
	Identity() Identity
	// Wrap seals a secret. bind is not secret; unwrapping wants the same.
	Wrap(ctx context.Context, secret, bind []byte) (sealed []byte, err error)
	// Unwrap is the secret again, the caller's to wipe. It opens what an
	// earlier version of the service's key sealed, too.
	Unwrap(ctx context.Context, sealed, bind []byte) (secret []byte, err error)
}

// Identity names a key of a service. Each part has 1 to 255 bytes.
type Identity struct {
	Name     string // in the configuration
	Provider string // "transit", "aws"
	Key      string // where the service knows it
}

// check refuses what has no place in the file.
func (i Identity) check() error {
	for _, s := range []string{i.Name, i.Provider, i.Key} {
		if len(s) == 0 || len(s) > 255 {
			return fsapi.Errorf(fsapi.Invalid, "keyring: name, provider and key of a KMS have 1 to 255 bytes: %q %q %q", i.Name, i.Provider, i.Key)
		}
	}
	if i.Name == KindPassword.String() || i.Name == KindFile.String() {
		return fsapi.Errorf(fsapi.Invalid, "keyring: a KMS cannot be named %q, which is another kind of wrapping: rename it in the configuration", i.Name)
	}
	return nil
}

// params is the identity as the file has it, without the name.
func (i Identity) params() []byte {
	b := append([]byte{byte(len(i.Provider))}, i.Provider...)
	return append(append(b, byte(len(i.Key))), i.Key...)
}

// parseIdentity reads params' result.
func parseIdentity(name string, params []byte) (Identity, error) {
	r := reader{rest: params}
	id := Identity{Name: name}
	id.Provider = string(r.take(int(r.byte())))
	id.Key = string(r.take(int(r.byte())))
	if r.bad || len(r.rest) != 0 || id.check() != nil {
		return Identity{}, fsapi.Errorf(fsapi.Corrupt, "keyring: the parameters of wrapping %q are malformed", name)
	}
	return id, nil
}

// external is the KEK of a Wrapper.
type external struct{ w Wrapper }

// External is a key that a service holds. The wrapping has the name of its
// identity.
func External(w Wrapper) KEK { return &external{w} }

func (e *external) Name() string { return e.w.Identity().Name }
func (e *external) kind() Kind   { return KindKMS }

func (e *external) seal(ctx context.Context, seed, bind []byte) (params, sealed []byte, err error) {
	id := e.w.Identity()
	if err := id.check(); err != nil {
		return nil, nil, err
	}
	if sealed, err = e.w.Wrap(ctx, seed, bind); err != nil {
		return nil, nil, fsapi.Wrap(fsapi.KindOf(err), err, "wrap the keyring with "+id.Name)
	}
	return id.params(), sealed, nil
}

func (e *external) open(ctx context.Context, _, sealed, bind []byte) ([]byte, error) {
	seed, err := e.w.Unwrap(ctx, sealed, bind)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.KindOf(err), err, "open the keyring with "+e.Name())
	}
	return seed, nil
}

// Pauses of a patient wrapper, which double from the first to the last.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// patient asks again while a service does not answer.
type patient struct {
	Wrapper
	clock clock.Clock
	limit time.Duration
	wait  func(err error, d time.Duration)
}

// Patient is w, whose Unwrap asks again for at most limit while the service
// does not answer. wait is told of each failure and how long the pause after
// it is. For a start, where a service may come up at the same time.
func Patient(w Wrapper, c clock.Clock, limit time.Duration, wait func(err error, pause time.Duration)) Wrapper {
	return &patient{w, c, limit, wait}
}

// Unwrap implements Wrapper.
func (p *patient) Unwrap(ctx context.Context, sealed, bind []byte) ([]byte, error) {
	end := p.clock.Now().Add(p.limit)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		secret, err := p.Wrapper.Unwrap(ctx, sealed, bind)
		if err == nil || !transient(err) {
			return secret, err
		}
		if p.clock.Now().Add(pause).After(end) {
			return nil, fsapi.Wrap(fsapi.KindOf(err), err, "gave up after asking for "+p.limit.String())
		}
		p.wait(err, pause)
		select {
		case <-p.clock.After(pause):
		case <-ctx.Done():
			return nil, fsapi.Wrap(fsapi.KindOf(ctx.Err()), err, "stopped asking")
		}
	}
}

// transient reports whether asking again may help.
func transient(err error) bool {
	k := fsapi.KindOf(err)
	return k == fsapi.IO || k == fsapi.TimedOut
}
