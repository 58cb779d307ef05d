// Package stack builds the file system from its layers for tests: engine,
// metadata, drives, chunks, upkeep, one volume, over a file system that a test
// can crash or make fail.
//
// It owns: the order of opening and closing, and what clean means. It must not
// know doors, nor what a test does with the volume. Nothing in it relies on a
// clean end: a stack opens on whatever a crash left.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/dir"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/kv/pebble"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
)

// The engines.
const (
	Pebble = "pebble"
	Mem    = "mem" // outlives Restart, but nothing else
)

// VolumeName is the name of the one volume.
const VolumeName = "main"

// Options of Open. The zero Options are a store in memory: Pebble over a new
// osfs.Mem, one drive, no encryption, no trash, caches small enough to miss.
type Options struct {
	FS     osfs.FS // nil: a new osfs.Mem
	Dir    string  // in FS; "/strake"
	Engine string  // Pebble or Mem; Pebble
	Drives int     // directory drives, all of tier hot; 1

	// Cipher seals new volumes. The keys are fixed ones, or with Keyring drawn
	// at random and kept in a keyring file in Dir.
	Cipher  fsapi.Cipher
	Keyring bool

	// Policy of a new volume; zero fields are policy.Default's, but for Trash:
	// none unless it is given.
	Policy policy.Policy

	Clock clock.Clock  // clock.Real
	Log   *slog.Logger // discards

	// Drive wraps each drive, to make it fail.
	Drive func(drive.Drive) drive.Drive
	// OpenDrives, where set, fills the set instead, with drives of which it
	// remains the owner. Drives and Drive mean nothing then.
	OpenDrives func(*blob.DriveSet) error
	// OpenEngine, where set, opens the engine instead; Engine means nothing then.
	OpenEngine func() (kv.Engine, error)
	// NewKeys, where set, makes the keys instead.
	NewKeys func(osfs.FS) (blob.Keys, error)
	// Index wraps the metadata that blobs are looked up in.
	Index func(blob.Index) blob.Index
	// These change a layer's options before it is made.
	PebbleOptions func(*pebble.Options)
	BlobOptions   func(*blob.Options)
	UpkeepOptions func(*upkeep.Options)
	VFSOptions    func(*vfs.Options)
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = osfs.NewMem(osfs.MemOptions{})
	}
	if o.Dir == "" {
		o.Dir = "/strake"
	}
	if o.Engine == "" {
		o.Engine = Pebble
	}
	if o.Drives == 0 {
		o.Drives = 1
	}
	if o.Policy.Trash == 0 {
		o.Policy.Trash = -1
	}
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Stack is an open store. Its fields change with Restart only.
type Stack struct {
	Options
	KV     kv.Engine
	Meta   *meta.Store
	Keys   blob.Keys
	Set    *blob.DriveSet
	Blob   *blob.Store
	Upkeep *upkeep.Upkeep
	Volume fsapi.VolumeID
	Local  *vfs.Local

	closers []closer // in the order of opening
	closed  bool
}

// closer is one step of closing.
type closer struct {
	what string
	do   func() error
	keep bool // Restart leaves it open
}

// Open opens the store in o.Dir, and makes what is missing. Close it.
func Open(o Options) (*Stack, error) {
	o.defaults()
	s := &Stack{Options: o}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Start is Open for a test, which fails where it does, and closes the store at
// its end; Close may be called before.
func Start(t testing.TB, o Options) *Stack {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// open opens every layer that is not open, in order.
func (s *Stack) open() error {
	for _, layer := range []struct {
		what string
		open func() error
	}{
		{"directory", s.openDir}, {"keys", s.openKeys}, {"engine", s.openEngine}, {"metadata", s.openMeta},
		{"drives", s.openDrives}, {"blobs", s.openBlob}, {"upkeep", s.openUpkeep}, {"volume", s.openVolume},
		{"file system", s.openVFS},
	} {
		if err := layer.open(); err != nil {
			return fsapi.Wrap(fsapi.KindOf(err), err, "open "+layer.what)
		}
	}
	s.closed = false
	return nil
}

func (s *Stack) onClose(what string, do func() error) {
	s.closers = append(s.closers, closer{what: what, do: do})
}

// Close ends everything, the file system first, which stores what is dirty. It
// does so once, whatever fails.
func (s *Stack) Close() error { return s.close(false) }

func (s *Stack) close(restart bool) error {
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	var kept []closer
	for i := len(s.closers) - 1; i >= 0; i-- {
		c := s.closers[i]
		if restart && c.keep {
			kept = append(kept, c)
			continue
		}
		if err := c.do(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.what, err))
		}
	}
	s.closers = kept
	return errors.Join(errs...)
}

// Restart closes the store and opens it again, as a process that ends cleanly
// and starts anew.
func (s *Stack) Restart() error {
	if err := s.close(true); err != nil {
		return err
	}
	return s.open()
}

func (s *Stack) openDir() error { return osfs.MkdirSynced(s.FS, s.Dir, 0o700) }

func (s *Stack) openEngine() (err error) {
	if s.OpenEngine != nil {
		if s.KV, err = s.OpenEngine(); err != nil {
			return err
		}
		s.onClose("engine", s.KV.Close)
		return nil
	}
	if s.Engine == Mem {
		if s.KV != nil {
			return nil
		}
		if s.KV, err = mem.Open(mem.Options{Clock: s.Clock}); err != nil {
			return err
		}
		s.closers = append(s.closers, closer{what: "engine", do: s.KV.Close, keep: true})
		return nil
	}
	o := pebble.Options{
		FS: s.FS, Dir: path.Join(s.Dir, "meta"), Clock: s.Clock, Log: s.Log,
		CacheBytes: 4 << 20, MemTableBytes: 1 << 20,
	}
	if s.PebbleOptions != nil {
		s.PebbleOptions(&o)
	}
	if s.KV, err = pebble.Open(o); err != nil {
		return err
	}
	s.onClose("engine", s.KV.Close)
	return nil
}

func (s *Stack) openMeta() (err error) {
	s.Meta, err = meta.Open(context.Background(), s.KV, meta.Options{Clock: s.Clock})
	return err
}

// DriveID is the number of the drive with an index.
func DriveID(i int) fsapi.DriveID { return fsapi.DriveID(0xd0 + i) }

// DrivePath is the directory of the drive with an index.
func (s *Stack) DrivePath(i int) string { return path.Join(s.Dir, fmt.Sprint("drive", i)) }

func (s *Stack) openDrives() error {
	s.Set = blob.NewDriveSet()
	if s.OpenDrives != nil {
		return s.OpenDrives(s.Set)
	}
	for i := range s.Drives {
		if err := s.openDrive(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) openDrive(i int) error {
	where := s.DrivePath(i)
	_, err := dir.ReadIdentity(s.FS, where)
	if errors.Is(err, fsapi.NotExist) {
		err = dir.Init(s.FS, where, dir.Identity{ID: DriveID(i), Created: s.Clock.Now().UTC().Truncate(time.Second)})
	}
	if err != nil {
		return err
	}
	opened, err := dir.Open(dir.Options{
		FS: s.FS, Path: where, Expect: DriveID(i), Name: path.Base(where), Tier: "hot", Domain: path.Base(where),
		Reserve: -1, Buffer: 64 << 10,
	})
	if err != nil {
		return err
	}
	var d drive.Drive = opened
	if s.Drive != nil {
		d = s.Drive(d)
	}
	s.onClose(path.Base(where), d.Close)
	return s.Set.Add(d)
}

func (s *Stack) openBlob() (err error) {
	o := blob.Options{Index: s.Meta, Keys: s.Keys, Drives: s.Set, CacheBytes: 4 << 20, Clock: s.Clock, Log: s.Log}
	if s.Index != nil {
		o.Index = s.Index(s.Meta)
	}
	if s.BlobOptions != nil {
		s.BlobOptions(&o)
	}
	if s.Blob, err = blob.New(o); err != nil {
		return err
	}
	s.onClose("blobs", s.Blob.Close)
	return nil
}

func (s *Stack) openUpkeep() (err error) {
	o := upkeep.Options{Store: s.Blob, Meta: s.Meta, Drives: s.Set, Rate: -1, Clock: s.Clock, Log: s.Log}
	if s.UpkeepOptions != nil {
		s.UpkeepOptions(&o)
	}
	s.Upkeep, err = upkeep.New(o)
	return err
}

// openVolume finds the volume or makes it, and gives it keys where a crash came
// before they were recorded.
func (s *Stack) openVolume() error {
	ctx := context.Background()
	rec, err := s.Meta.VolumeByName(ctx, VolumeName)
	if errors.Is(err, fsapi.NotExist) {
		rec, err = s.Meta.CreateVolume(ctx, meta.Volume{Name: VolumeName, Encrypted: s.Cipher != fsapi.CipherNone, Policy: s.Policy})
	}
	if err != nil {
		return err
	}
	s.Volume = rec.ID
	return s.volumeKeys(rec.ID)
}

func (s *Stack) openVFS() (err error) {
	o := vfs.Options{Meta: s.Meta, Blob: vfs.FromStore(s.Blob), Volume: s.Volume, Clock: s.Clock, Log: s.Log}
	if s.VFSOptions != nil {
		s.VFSOptions(&o)
	}
	if s.Local, err = vfs.New(o); err != nil {
		return err
	}
	local := s.Local
	s.onClose("file system", func() error { return local.Close(context.Background()) })
	return nil
}
