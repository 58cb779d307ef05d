package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strings"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/test/stack"
	"github.com/strakefs/strake/test/workload"
)

// bitStore is a small store at rest, with files in every place they can be:
// inline, in the journal, in segments.
type bitStore struct {
	options stack.Options
	disk    *osfs.Mem
	files   map[string][]byte
}

// newBitStore makes one with a number of replicas.
func newBitStore(ctx context.Context, replicas int) (*bitStore, error) {
	b := &bitStore{
		disk: osfs.NewMem(osfs.MemOptions{}), files: map[string][]byte{},
		options: stack.Options{
			Drives: replicas, Cipher: fsapi.CipherAES256GCM,
			Policy: policy.Policy{
				Copies: []policy.Copy{{Tier: "hot", Replicas: replicas}}, Chunking: policy.Chunking{Fixed: 4096}, Compression: "none",
			},
			BlobOptions: func(o *blob.Options) { o.SegmentBytes, o.JournalMax = 64<<10, 32<<10 },
		},
	}
	o := b.options
	o.FS = b.disk
	s, err := stack.Open(o)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(3, 3))
	for i, size := range []int{100, 1500, 5000, 20_000, 70_000, 150_000, 900} {
		name, data := fmt.Sprint("f", i), make([]byte, size)
		for k := range data {
			data[k] = byte(r.Uint32())
		}
		if err := putFile(ctx, s.Local, name, data); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		b.files[name] = data
		if i == 3 { // what comes later stays in the journal, if it is small
			if _, err := s.Upkeep.Pack(ctx); err != nil {
				return nil, errors.Join(err, s.Close())
			}
		}
	}
	// Reopening moves what is in the log into tables.
	return b, errors.Join(s.Restart(), s.Close())
}

// stored are the files of the disk below a directory, with their sizes.
func (b *bitStore) stored(dir string, want func(name string) bool) (map[string]int64, error) {
	found := map[string]int64{}
	names, err := b.disk.ReadDir(dir)
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := b.disk.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			below, err := b.stored(name, want)
			if err != nil {
				return nil, err
			}
			for n, size := range below {
				found[n] = size
			}
		} else if info.Size() > 0 && want(name) {
			found[name] = info.Size()
		}
	}
	return found, err
}

// flipped is the disk with one bit of a file inverted.
func (b *bitStore) flipped(name string, bit int64) (*osfs.Mem, error) {
	disk := b.disk.CrashClone(rand.New(rand.NewPCG(1, 1)), osfs.CrashKeep)
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	var p [1]byte
	if _, err = f.ReadAt(p[:], bit/8); err == nil {
		p[0] ^= 1 << (bit % 8)
		_, err = f.WriteAt(p[:], bit/8)
	}
	return disk, errors.Join(err, f.Close())
}

// read compares all files. wrong is that one is not what it was; err is what
// kept one from being read.
func (b *bitStore) read(ctx context.Context, s *stack.Stack) (wrong, err error) {
	entries, err := workload.List(ctx, s.Local, fsapi.RootIno)
	if err != nil {
		return nil, err
	}
	if len(entries) != len(b.files) {
		wrong = fmt.Errorf("%d names instead of %d", len(entries), len(b.files))
	}
	for name, data := range b.files {
		a, e := s.Local.Lookup(ctx, fsapi.Root, fsapi.RootIno, name)
		if errors.Is(e, fsapi.NotExist) {
			wrong = fmt.Errorf("%s is gone", name)
			continue
		}
		var got []byte
		if e == nil {
			got, e = workload.ReadAll(ctx, s.Local, a.Ino)
		}
		switch {
		case e != nil:
			err = e
		case !bytes.Equal(got, data):
			wrong = fmt.Errorf("%s has wrong bytes", name)
		}
	}
	return wrong, err
}

// open opens the store on a disk.
func (b *bitStore) open(disk *osfs.Mem) (*stack.Stack, error) {
	o := b.options
	o.FS = disk
	return stack.Open(o)
}

// segment flips a bit of a segment and checks that scrubbing names it, and that
// reading never returns wrong bytes. With another replica reads are answered,
// and what was found bad is good afterwards; mended says that reading did that.
func (b *bitStore) segment(ctx context.Context, name string, bit int64) (mended bool, err error) {
	read, err := b.flipped(name, bit)
	if err != nil {
		return false, err
	}
	scrubbed := read.CrashClone(rand.New(rand.NewPCG(1, 1)), osfs.CrashKeep)
	found, err := b.readSegment(ctx, read, name)
	if err != nil {
		return false, fmt.Errorf("reading: %w", err)
	}
	if err := b.scrubSegment(ctx, scrubbed, name); err != nil {
		return false, fmt.Errorf("scrubbing: %w", err)
	}
	return !found, nil
}

// readSegment reads everything, and then scrubs: found says that something was
// found still.
func (b *bitStore) readSegment(ctx context.Context, disk *osfs.Mem, name string) (found bool, err error) {
	s, err := b.open(disk)
	if err != nil {
		return false, fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	wrong, err := b.read(ctx, s)
	switch {
	case wrong != nil:
		return false, wrong
	case err != nil && b.options.Drives > 1:
		return false, fmt.Errorf("not answered from the other replica: %w", err)
	case err != nil && !errors.Is(err, fsapi.Corrupt):
		return false, fmt.Errorf("is %w, not corrupt: %w", fsapi.KindOf(err), err)
	case err != nil && !strings.Contains(err.Error(), path.Base(name)):
		return false, fmt.Errorf("does not name the segment: %w", err)
	}
	r, err := s.Upkeep.Scrub(ctx, true)
	return len(r.Bad) > 0, err
}

// scrubSegment scrubs twice: the first time finds and names, with another
// replica the second time finds nothing.
func (b *bitStore) scrubSegment(ctx context.Context, disk *osfs.Mem, name string) (err error) {
	s, err := b.open(disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r, err := s.Upkeep.Scrub(ctx, true)
	if err != nil {
		return err
	}
	if len(r.Bad) != 1 || name != path.Join(s.DrivePath(int(r.Bad[0].Drive-stack.DriveID(0))), blob.SegmentName(r.Bad[0].Segment)) {
		return fmt.Errorf("it finds %v", r.Bad)
	}
	if b.options.Drives == 1 {
		return nil
	}
	if r, err = s.Upkeep.Scrub(ctx, true); err != nil || len(r.Bad) > 0 {
		return errors.Join(fmt.Errorf("once more it still finds %v", r.Bad), err)
	}
	wrong, err := b.read(ctx, s)
	return errors.Join(wrong, err)
}

// table flips a bit of a file of the metadata engine: opening, reading or
// checking says so, or nothing was lost. It returns whether it was noticed.
func (b *bitStore) table(ctx context.Context, name string, bit int64) (noticed bool, err error) {
	disk, err := b.flipped(name, bit)
	if err != nil {
		return false, err
	}
	s, err := b.open(disk)
	if err != nil {
		if !errors.Is(err, fsapi.Corrupt) {
			return false, fmt.Errorf("open fails, but not as corrupt: %w", err)
		}
		return true, nil
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	wrong, err := b.read(ctx, s)
	if wrong != nil {
		return false, wrong
	}
	if err != nil {
		return true, nil
	}
	return s.CheckMeta(ctx) != nil, nil
}
