package object

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Capabilities are what a store was seen to do. Some that speak a provider's
// protocol take conditions and pay no heed to them.
type Capabilities struct {
	// IfAbsent: Put refuses to replace an object under IfAbsent.
	IfAbsent bool
	// IfVersion: Put refuses to replace another version under IfVersion.
	IfVersion bool
	// Parts: both hold for objects written in parts, as far as they hold for Put.
	Parts bool
}

// ProbePrefix begins the keys of the objects that Probe makes.
const ProbePrefix = ".strake-probe/"

// probeAge is how old an object of a probe is, by the provider's clock, that nobody
// comes back for.
const probeAge = 24 * time.Hour

// Probe finds out what a store does by trying it, on an object of its own with
// a random name, which it removes, with those that probes left which were broken
// off a day ago or before. It takes about ten requests. An error says that the store
// could not be tried, not that it lacks something.
func Probe(ctx context.Context, s Store) (c Capabilities, err error) {
	var nonce [12]byte
	rand.Read(nonce[:])
	key := fmt.Sprintf("%s%x", ProbePrefix, nonce)
	defer func() {
		gone, lerr := left(ctx, s, key)
		gone = append(gone, key)
		if derr := s.Delete(ctx, gone...); err == nil && errors.Join(lerr, derr) != nil {
			err = errors.Join(lerr, derr)
			err = fsapi.Wrap(fsapi.KindOf(err), err, "remove the objects of probes")
		}
	}()
	return probe(ctx, s, key)
}

// left are the keys of old objects of probes, as seen when there is one at key.
func left(ctx context.Context, s Store, key string) (old []string, err error) {
	var now time.Time
	all := map[string]time.Time{}
	err = s.List(ctx, ProbePrefix, "", func(o Object) error {
		all[o.Key] = o.Modified
		if o.Key == key {
			now = o.Modified
		}
		return nil
	})
	for k, t := range all {
		if now.Sub(t) > probeAge {
			old = append(old, k)
		}
	}
	return old, err
}

func probe(ctx context.Context, s Store, key string) (c Capabilities, err error) {
	first, err := PutBytes(ctx, s, key, []byte("1"), IfAbsent())
	if err != nil {
		return c, fsapi.Wrap(fsapi.KindOf(err), err, "probe conditions")
	}
	put := func(cond Condition, body string) func() (Version, error) {
		return func() (Version, error) { return PutBytes(ctx, s, key, []byte(body), cond) }
	}
	parts := func(cond Condition, body string) func() (Version, error) {
		return func() (Version, error) { return createInParts(ctx, s, key, []byte(body), cond) }
	}
	if c.IfAbsent, err = refused(put(IfAbsent(), "2")); err != nil {
		return c, err
	}
	if _, err = put(Condition{}, "3")(); err != nil { // first is stale from here on
		return c, fsapi.Wrap(fsapi.KindOf(err), err, "probe conditions")
	}
	if c.IfVersion, err = refused(put(IfVersion(first), "4")); err != nil {
		return c, err
	}
	absent, err := refused(parts(IfAbsent(), "5"))
	if err != nil {
		return c, err
	}
	stale, err := refused(parts(IfVersion(first), "6"))
	c.Parts = (absent || !c.IfAbsent) && (stale || !c.IfVersion)
	return c, err
}

// refused tells whether a write whose condition does not hold is refused.
func refused(write func() (Version, error)) (bool, error) {
	_, err := write()
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, fsapi.Precondition):
		return true, nil
	case errors.Is(err, fsapi.NotSupported), errors.Is(err, fsapi.Invalid):
		return false, nil // it says so itself
	}
	return false, fsapi.Wrap(fsapi.KindOf(err), err, "probe conditions")
}

// createInParts writes a small object in the way that large ones are written.
func createInParts(ctx context.Context, s Store, key string, data []byte, cond Condition) (Version, error) {
	w, err := s.Create(ctx, key, s.Info().PartSize+1, cond)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	return w.Commit(ctx)
}

// PutBytes puts a body that is in memory.
func PutBytes(ctx context.Context, s Store, key string, data []byte, cond Condition) (Version, error) {
	return s.Put(ctx, key, bytes.NewReader(data), int64(len(data)), cond)
}

// ReadAll reads a whole object of at most limit bytes; fsapi.TooBig for a larger
// one. All bytes are of one version. guess is the size expected, 0 for unknown:
// an object no larger takes one request.
func ReadAll(ctx context.Context, s Store, key string, guess, limit int64) ([]byte, Object, error) {
	size := min(max(guess, 4096), limit)
	for {
		p := make([]byte, size+1)
		n, o, err := s.Get(ctx, key, 0, p)
		switch {
		case errors.Is(err, io.EOF):
			return p[:n], o, nil
		case err != nil:
			return nil, Object{}, err
		case o.Size > limit:
			return nil, o, fsapi.Errorf(fsapi.TooBig, "%s: %s has %d bytes, more than %d", s.Info().URL, key, o.Size, limit)
		}
		size = o.Size // or it has become larger meanwhile: once more
	}
}

// Transient reports whether another attempt may do better: see Store.
func Transient(err error) bool { return fsapi.Transient(err) }
