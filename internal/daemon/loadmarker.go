package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// loadObject lies beside the keyring while metadata is brought into a bucket. It is
// written before anything else and removed last, so that what was brought in part is
// neither served nor taken for a store. Its phases:
//
//	loading   the metadata is not whole, and nothing is lost with it
//	whole     all of it is there. The keyring follows, with which it is a store
//
// Who brings metadata where a load was interrupted makes the marker his own, under a
// condition: the other, if he is still there, fails at the next phase. The engine
// keeps him from writing.
const loadObject = "loading"

// maxLoadMarker bounds a marker in bytes.
const maxLoadMarker = 4 << 10

// loadMarker is the content of loadObject, as JSON.
type loadMarker struct {
	Form  int       `json:"form"`  // 1
	ID    string    `json:"id"`    // random: whose it is
	Host  string    `json:"host"`  // that began
	Since time.Time `json:"since"` // when
	Whole bool      `json:"whole"` // the phase
}

// loadMarkerForm is the form of a stored loadMarker.
const loadMarkerForm = 1

func (m *loadMarker) String() string {
	return fmt.Sprintf("one that began at %s on %s", m.Since.UTC().Format(time.RFC3339), m.Host)
}

// loadMark is the marker in a bucket, and what this process knows of it. One
// goroutine at a time.
type loadMark struct {
	store       object.Store
	conditional bool
	mine        loadMarker
	version     object.Version // of what is there, as read or written last; "": nothing
}

// read is the marker that is there; fsapi.NotExist.
func (l *loadMark) read(ctx context.Context) (m loadMarker, err error) {
	b, o, err := object.ReadAll(ctx, l.store, loadObject, 512, maxLoadMarker)
	if err != nil {
		return m, err
	}
	l.version = o.Version
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fsapi.Wrap(fsapi.Corrupt, err, fmt.Sprintf("%s: %s", l.store.Info().URL, loadObject))
	}
	if m.Form != loadMarkerForm {
		return m, fsapi.Errorf(fsapi.NotSupported, "%s: %s has form %d, this program reads form %d", l.store.Info().URL, loadObject, m.Form, loadMarkerForm)
	}
	return m, nil
}

// begin makes the marker this process's own, in the place of what was read, and says
// whether nothing was there. fsapi.Busy: another began just now.
func (l *loadMark) begin(ctx context.Context, host string, now time.Time) (fresh bool, err error) {
	fresh = l.version == ""
	var id [16]byte
	rand.Read(id[:])
	l.mine = loadMarker{Form: loadMarkerForm, ID: fmt.Sprintf("%x", id), Host: host, Since: now.UTC()}
	return fresh, l.write(ctx)
}

// whole says that everything is there but the keyring. fsapi.Busy: another load has
// begun since.
func (l *loadMark) whole(ctx context.Context) error {
	l.mine.Whole = true
	return l.write(ctx)
}

func (l *loadMark) write(ctx context.Context) error {
	b, err := json.Marshal(l.mine)
	if err != nil {
		return fsapi.Wrap(fsapi.Other, err, "mark a load")
	}
	cond := object.Condition{}
	switch {
	case l.conditional && l.version == "":
		cond = object.IfAbsent()
	case l.conditional:
		cond = object.IfVersion(l.version)
	}
	v, err := object.PutBytes(ctx, l.store, loadObject, b, cond)
	if errors.Is(err, fsapi.Precondition) {
		return fsapi.Errorf(fsapi.Busy, "%s: another load into it has begun", l.store.Info().URL)
	}
	if err == nil {
		l.version = v
	}
	return err
}

// end removes the marker, if it is this process's. fsapi.Busy: another load has
// begun since.
func (l *loadMark) end(ctx context.Context) error {
	m, err := l.read(ctx)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return nil
	case err != nil:
		return err
	case m.ID != l.mine.ID:
		return fsapi.Errorf(fsapi.Busy, "%s: another load into it has begun, %v", l.store.Info().URL, &m)
	}
	return l.store.Delete(ctx, loadObject)
}

// refusePart refuses a bucket that metadata was brought to in part. keyring says
// whether it has one: then what a marker says is whole is a store, and the marker,
// which is left, is returned.
func refusePart(ctx context.Context, store object.Store, at string, keyring bool) (left *loadMark, err error) {
	l := &loadMark{store: store}
	m, err := l.read(ctx)
	switch {
	case errors.Is(err, fsapi.NotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case keyring && m.Whole:
		l.mine = m
		return l, nil
	}
	return nil, fsapi.Errorf(fsapi.Conflict, "%s holds a part of a store: its metadata is being brought there, or that was interrupted (%v). Run the same strake meta load, strake meta restore or strake fsck --rebuild again, which removes the part and begins anew; or give another prefix", at, &m)
}

// anyObject reports whether there is an object in a store.
func anyObject(ctx context.Context, store object.Store) (found bool, err error) {
	err = store.List(ctx, "", "", func(object.Object) error {
		found = true
		return io.EOF
	})
	return found, err
}
