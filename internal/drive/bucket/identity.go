package bucket

import (
	"context"
	"errors"
	"io"

	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
)

// Identity is what tells a drive from any other prefix of a bucket.
type Identity = identity.Identity

const identityKey = ".strake/drive"

// ReadIdentity reads who the drive in a store is. fsapi.NotExist: there is none.
func ReadIdentity(ctx context.Context, s object.Store) (Identity, error) {
	text, _, err := object.ReadAll(ctx, s, identityKey, identity.MaxSize, identity.MaxSize)
	if errors.Is(err, fsapi.NotExist) {
		return Identity{}, fsapi.Errorf(fsapi.NotExist, "no Strake drive in %s (is it the right bucket and prefix?)", s.Info().URL)
	}
	if err != nil {
		return Identity{}, fsapi.Wrap(fsapi.KindOf(err), err, "read drive identity")
	}
	id, err := identity.Parse(text)
	if err != nil {
		return Identity{}, fsapi.Wrap(fsapi.KindOf(err), err, s.Info().URL)
	}
	return id, nil
}

// Init makes a store, which must be empty, a drive.
func Init(ctx context.Context, s object.Store, id Identity) error {
	where := s.Info().URL
	if id.ID == 0 {
		return fsapi.Errorf(fsapi.Invalid, "make drive in %s: id zero is no drive", where)
	}
	if old, err := ReadIdentity(ctx, s); err == nil {
		return fsapi.Errorf(fsapi.Exist, "%s is already drive %s", where, old.ID)
	} else if !errors.Is(err, fsapi.NotExist) {
		return err
	}
	found := ""
	err := s.List(ctx, "", "", func(o object.Object) error {
		found = o.Key
		return io.EOF
	})
	if err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "make drive")
	}
	if found != "" {
		return fsapi.Errorf(fsapi.NotEmpty, "make drive in %s: it holds %q; give an empty bucket or prefix", where, found)
	}
	if _, err := object.PutBytes(ctx, s, identityKey, identity.Append(nil, id), object.IfAbsent()); err != nil {
		if errors.Is(err, fsapi.Precondition) {
			return fsapi.Errorf(fsapi.Exist, "%s was made a drive by somebody else just now", where)
		}
		return fsapi.Wrap(fsapi.KindOf(err), err, "make drive")
	}
	return nil
}

const ownerKey = ".strake/owner"

// ReadOwner reads which store the drive in a bucket belongs to. fsapi.NotExist:
// to none.
func ReadOwner(ctx context.Context, s object.Store) (identity.Owner, error) {
	o, _, err := readOwner(ctx, s)
	return o, err
}

func readOwner(ctx context.Context, s object.Store) (identity.Owner, object.Version, error) {
	text, at, err := object.ReadAll(ctx, s, ownerKey, identity.MaxSize, identity.MaxSize)
	if err != nil {
		return identity.Owner{}, "", fsapi.Wrap(fsapi.KindOf(err), err, "read the owner of a drive")
	}
	o, err := identity.ParseOwner(text)
	if err != nil {
		return identity.Owner{}, at.Version, fsapi.Wrap(fsapi.KindOf(err), err, s.Info().URL)
	}
	return o, at.Version, nil
}

// Release lets a bucket belong to no store.
func Release(ctx context.Context, s object.Store) error {
	if err := s.Delete(ctx, ownerKey); err != nil {
		return fsapi.Wrap(fsapi.KindOf(err), err, "release drive")
	}
	return nil
}

// admit lets the store that opens a bucket have it. mark is not nil where the bucket
// is to be marked as its own: of two that do at one moment one is refused, by what is
// read back where the object store keeps no conditions.
func admit(ctx context.Context, o Options) (mark func(object.Capabilities) error, err error) {
	if o.Owner == nil {
		return nil, nil
	}
	as := identity.Opening{Owner: o.Owner, Role: o.Role, Where: o.Store.Info().URL, TakeOver: o.TakeOver, ReadOnly: o.ReadOnly, Claiming: o.Claiming}
	found, version, ferr := readOwner(ctx, o.Store)
	must, err := as.Admit(ctx, found, ferr)
	if err != nil || !must {
		return nil, err
	}
	return func(has object.Capabilities) error {
		cond := object.Condition{}
		switch {
		case errors.Is(ferr, fsapi.NotExist):
			cond = object.IfAbsent()
		case version != "" && has.IfVersion:
			cond = object.IfVersion(version)
		}
		_, err := object.PutBytes(ctx, o.Store, ownerKey, identity.AppendOwner(nil, *o.Owner), cond)
		if err != nil && !errors.Is(err, fsapi.Precondition) {
			return fsapi.Wrap(fsapi.KindOf(err), err, "claim drive in "+as.Where)
		}
		found, err := ReadOwner(ctx, o.Store)
		if err != nil {
			return err
		}
		return as.Won(found)
	}, nil
}
