package bucket_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/bucket"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/identity"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/object/s3"
	"github.com/strakefs/strake/test/servers"
)

const testID = 0x1234

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made makes a drive in a store and opens it.
func made(t *testing.T, o bucket.Options) *bucket.Drive {
	t.Helper()
	must(t, bucket.Init(t.Context(), o.Store, bucket.Identity{ID: testID, Created: time.Unix(1_700_000_000, 0)}))
	return opened(t, o)
}

func opened(t *testing.T, o bucket.Options) *bucket.Drive {
	t.Helper()
	d, err := bucket.Open(t.Context(), o)
	must(t, err)
	return d
}

func store(t *testing.T, b *mem.Bucket) object.Store {
	t.Helper()
	s, err := b.Open(provider.Options{PartSize: 1 << 20})
	must(t, err)
	return s
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]mem.Options{
		"conditions": {}, "none": {IgnoreConditions: true, IgnoreInParts: true}, "none in parts": {IgnoreInParts: true},
	} {
		for quota, bytes := range map[string]int64{"unbounded": 0, "quota": 1 << 40} {
			t.Run(name+" "+quota, func(t *testing.T) {
				var b *mem.Bucket
				options := func() bucket.Options {
					return bucket.Options{Store: store(t, b), Quota: bytes, Expect: testID, Name: "one", Tier: "cold", Domain: "cloud"}
				}
				drivetest.Run(t, func(t *testing.T) drive.Drive {
					b = mem.New(o)
					return made(t, options())
				}, drivetest.Capabilities{Reopen: func(t *testing.T, _ drive.Drive) drive.Drive { return opened(t, options()) }})
			})
		}
	}
}

// TestConformanceS3 runs the suite over a real server.
func TestConformanceS3(t *testing.T) {
	srv := servers.S3(t)
	n := 0
	o := s3.Options{
		Endpoint: srv.Endpoint, Region: "us-east-1", PathStyle: true, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey,
		Options: provider.Options{PartSize: 5 << 20, Prefix: "drives/one"},
	}
	open := func(t *testing.T) bucket.Options {
		s, err := s3.Open(t.Context(), o)
		must(t, err)
		return bucket.Options{Store: s}
	}
	drivetest.Run(t, func(t *testing.T) drive.Drive {
		n++
		o.Bucket = "drive-" + strconv.Itoa(n)
		srv.Bucket(t, o.Bucket)
		return made(t, open(t))
	}, drivetest.Capabilities{Reopen: func(t *testing.T, _ drive.Drive) drive.Drive { return opened(t, open(t)) }})
}

func used(t *testing.T, d drive.Drive) int64 {
	t.Helper()
	c, err := d.Capacity(t.Context())
	must(t, err)
	return c.Used
}

// TestUsage counts without listing, but for once after a crash.
func TestUsage(t *testing.T) {
	b := mem.New(mem.Options{})
	d := made(t, bucket.Options{Store: store(t, b)})
	put := func(name string, n int) {
		t.Helper()
		must(t, drivetest.Put(t.Context(), d, name, drivetest.Bytes(1, n), 0, 1000))
	}
	put("a", 1000)
	if n := used(t, d); n != 1000 {
		t.Errorf("used %d", n)
	}
	put("b", 500)
	put("c", 7)
	put("d", 11)
	must(t, d.Replace(t.Context(), "r", make([]byte, 100)))
	must(t, d.Replace(t.Context(), "r", make([]byte, 30)))
	must(t, d.Delete(t.Context(), "b"))
	must(t, d.DeleteMany(t.Context(), []string{"c", "d", "none", "c"}))
	if err := drivetest.Put(t.Context(), d, "a", make([]byte, 99), 0, 10); !errors.Is(err, fsapi.Exist) {
		t.Errorf("put: %v", err)
	}
	if n := used(t, d); n != 1030 {
		t.Errorf("used %d, want 1030", n)
	}
	if n := d.Requests().Lists; n != 3 {
		t.Errorf("%d listings, want those of Init and the probe, and the first count", n)
	}

	// Closed in order: the count is there.
	must(t, d.Close())
	d = opened(t, bucket.Options{Store: store(t, b)})
	if n := used(t, d); n != 1030 || d.Requests().Lists != 1 { // of the probe
		t.Errorf("used %d after %d listings", n, d.Requests().Lists)
	}
	put("e", 5)
	// Not closed: it is not, and the blobs are counted.
	d = opened(t, bucket.Options{Store: store(t, b)})
	if n := used(t, d); n != 1035 || d.Requests().Lists != 2 {
		t.Errorf("used %d after %d listings", n, d.Requests().Lists)
	}
}

// Without a quota there is always the same room, a number that others can bear.
func TestUnbounded(t *testing.T) {
	d := made(t, bucket.Options{Store: store(t, mem.New(mem.Options{}))})
	defer d.Close()
	for i := range 2 {
		c, err := d.Capacity(t.Context())
		must(t, err)
		if want := (drive.Capacity{Total: 1<<50 + int64(i)*1000, Used: int64(i) * 1000, Avail: 1 << 50}); c != want {
			t.Errorf("%+v, want %+v", c, want)
		}
		must(t, drivetest.Put(t.Context(), d, "a"+string(rune('0'+i)), drivetest.Bytes(1, 1000), 0, 1000))
	}
}

func TestQuota(t *testing.T) {
	b := mem.New(mem.Options{})
	d := made(t, bucket.Options{Store: store(t, b), Quota: 1000})
	must(t, drivetest.Put(t.Context(), d, "a", make([]byte, 600), 600, 1000))
	if err := drivetest.Put(t.Context(), d, "b", make([]byte, 600), 600, 1000); !errors.Is(err, fsapi.NoSpace) {
		t.Errorf("over the quota: %v", err)
	}
	must(t, d.Delete(t.Context(), "a"))
	must(t, drivetest.Put(t.Context(), d, "b", make([]byte, 600), 600, 1000))
}

// TestQuotaOfAnother: what a drive that another machine writes to has room for is
// counted anew, but not each time somebody asks; without a quota, once.
func TestQuotaOfAnother(t *testing.T) {
	b := mem.New(mem.Options{})
	mine := identity.Owner{Store: identity.StoreID{1}}
	w := made(t, bucket.Options{Store: store(t, b), Owner: &mine})
	must(t, drivetest.Put(t.Context(), w, "a", make([]byte, 600), 600, 1000))
	now := &stepped{Clock: clock.Real, now: time.Now()}
	r := opened(t, bucket.Options{Store: store(t, b), Owner: &mine, ReadOnly: true, Quota: 1000, Clock: now})
	free := opened(t, bucket.Options{Store: store(t, b), Owner: &mine, ReadOnly: true, Clock: now})
	for _, c := range []struct {
		after        time.Duration
		avail, lists int64
	}{{0, 400, 1}, {59 * time.Minute, 400, 1}, {2 * time.Minute, 100, 2}, {59 * time.Minute, 100, 2}, {-2 * time.Hour, 100, 3}} {
		now.now = now.now.Add(c.after)
		got, err := r.Capacity(t.Context())
		must(t, err)
		if lists := r.Requests().Lists; got.Avail != c.avail || lists != c.lists {
			t.Errorf("%v later %+v, after %d listings, want %d and %d", c.after, got, lists, c.avail, c.lists)
		}
		if n := used(t, free); n != 600 || free.Requests().Lists != 1 {
			t.Errorf("without a quota %d bytes, after %d listings", n, free.Requests().Lists)
		}
		if c.after == 0 {
			must(t, drivetest.Put(t.Context(), w, "b", make([]byte, 300), 300, 1000))
		}
	}
	must(t, w.Close())
}

func TestOpenAndInitRefuse(t *testing.T) {
	ctx := t.Context()
	b := mem.New(mem.Options{})
	if _, err := bucket.Open(ctx, bucket.Options{Store: store(t, b)}); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("open of an empty bucket: %v", err)
	}
	if err := bucket.Init(ctx, store(t, b), bucket.Identity{}); !errors.Is(err, fsapi.Invalid) {
		t.Errorf("id zero: %v", err)
	}
	must(t, bucket.Init(ctx, store(t, b), bucket.Identity{ID: testID}))
	if err := bucket.Init(ctx, store(t, b), bucket.Identity{ID: 5}); !errors.Is(err, fsapi.Exist) {
		t.Errorf("init of a drive: %v", err)
	}
	if _, err := bucket.Open(ctx, bucket.Options{Store: store(t, b), Expect: 5}); !errors.Is(err, fsapi.Stale) {
		t.Errorf("open of another drive: %v", err)
	}
	if _, err := object.PutBytes(ctx, store(t, b), ".strake/drive", []byte("junk"), object.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Open(ctx, bucket.Options{Store: store(t, b)}); !errors.Is(err, fsapi.Corrupt) {
		t.Errorf("open with a damaged identity: %v", err)
	}
	b = mem.New(mem.Options{})
	if _, err := object.PutBytes(ctx, store(t, b), "photo.jpg", nil, object.Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := bucket.Init(ctx, store(t, b), bucket.Identity{ID: testID}); !errors.Is(err, fsapi.NotEmpty) {
		t.Errorf("init of a bucket in use: %v", err)
	}
}

// TestOwner: of two stores that open one drive the second is refused, until it
// takes the drive over or the first has released it.
func TestOwner(t *testing.T) {
	for name, o := range map[string]mem.Options{"conditions": {}, "none": {IgnoreConditions: true, IgnoreInParts: true}} {
		t.Run(name, func(t *testing.T) {
			b := mem.New(o)
			mine, other := &identity.Owner{Store: identity.StoreID{1}, Host: "a"}, &identity.Owner{Store: identity.StoreID{2}, Host: "b"}
			must(t, made(t, bucket.Options{Store: store(t, b)}).Close()) // by a release that knew no owners
			must(t, opened(t, bucket.Options{Store: store(t, b), Owner: mine}).Close())
			must(t, opened(t, bucket.Options{Store: store(t, b), Owner: mine}).Close())
			if _, err := bucket.Open(t.Context(), bucket.Options{Store: store(t, b), Owner: other}); !errors.Is(err, fsapi.Busy) {
				t.Errorf("another store's drive is opened: %v", err)
			}
			must(t, opened(t, bucket.Options{Store: store(t, b), Owner: other, TakeOver: true}).Close())
			if _, err := bucket.Open(t.Context(), bucket.Options{Store: store(t, b), Owner: mine}); !errors.Is(err, fsapi.Busy) {
				t.Errorf("a drive that was taken over is opened: %v", err)
			}
			must(t, bucket.Release(t.Context(), store(t, b)))
			must(t, opened(t, bucket.Options{Store: store(t, b), Owner: mine}).Close())
			if _, err := bucket.Open(t.Context(), bucket.Options{Store: store(t, b), Role: identity.Backup}); !errors.Is(err, fsapi.Invalid) {
				t.Errorf("a drive is opened as a place of backups: %v", err)
			}
		})
	}
}

// TestTakenOver: of a bucket that was taken over while it was open the bytes are not
// counted for the other store either.
func TestTakenOver(t *testing.T) {
	b := mem.New(mem.Options{})
	one, other := &identity.Owner{Store: identity.StoreID{1}, Host: "a"}, &identity.Owner{Store: identity.StoreID{2}, Host: "b"}
	now := &stepped{Clock: clock.Real, now: time.Now()}
	must(t, made(t, bucket.Options{Store: store(t, b), Owner: one}).Close())
	mine := func() drive.Drive {
		return opened(t, bucket.Options{Store: store(t, b), Owner: one, TakeOver: true, Clock: now})
	}
	theirs := func() { must(t, opened(t, bucket.Options{Store: store(t, b), Owner: other, TakeOver: true}).Close()) }
	drivetest.TakenOver(t, mine, theirs, func() { now.now = now.now.Add(10 * time.Minute) })

	d := mine()
	w, err := d.Create(t.Context(), "d", 0)
	must(t, err)
	must(t, w.Commit(t.Context()))
	o := opened(t, bucket.Options{Store: store(t, b), Owner: other, TakeOver: true})
	must(t, d.Close())
	if _, err := store(t, b).Stat(t.Context(), ".strake/usage"); !errors.Is(err, fsapi.NotExist) {
		t.Errorf("bytes were counted for the other: %v", err)
	}
	must(t, o.Close())
}

// TestCopies has two copies of one store open a drive.
func TestCopies(t *testing.T) {
	for name, o := range map[string]mem.Options{"conditions": {}, "none": {IgnoreConditions: true, IgnoreInParts: true}} {
		t.Run(name, func(t *testing.T) {
			b := mem.New(o)
			now := &stepped{Clock: clock.Real, now: time.Now()}
			must(t, made(t, bucket.Options{Store: store(t, b)}).Close())
			drivetest.Copies(t, func(i [16]byte, takeOver bool, claiming func(context.Context, [16]byte) error) (drive.Drive, error) {
				d, err := bucket.Open(t.Context(), bucket.Options{Store: store(t, b), Owner: &identity.Owner{Store: identity.StoreID{7}, Incarnation: i}, TakeOver: takeOver, Clock: now,
					Claiming: func(ctx context.Context, found identity.Owner) error { return claiming(ctx, found.Incarnation) },
				})
				if err != nil {
					return nil, err
				}
				return d, nil
			}, func() { now.now = now.now.Add(10 * time.Minute) })
		})
	}
}

// TestOneOfTwoCopies: of two that open a drive at one moment one has it, also where
// the other's request came late.
func TestOneOfTwoCopies(t *testing.T) {
	b := mem.New(mem.Options{})
	as := func(i byte) *identity.Owner {
		return &identity.Owner{Store: identity.StoreID{1}, Incarnation: identity.Incarnation{i}}
	}
	must(t, made(t, bucket.Options{Store: store(t, b), Owner: as(1)}).Close())
	var won *bucket.Drive
	_, err := bucket.Open(t.Context(), bucket.Options{Store: store(t, b), Owner: as(2), Claiming: func(context.Context, identity.Owner) error {
		won = opened(t, bucket.Options{Store: store(t, b), Owner: as(3)})
		return nil
	}})
	if !errors.Is(err, fsapi.Busy) {
		t.Errorf("both have it: %v", err)
	}
	must(t, won.Claimed(t.Context()))
	must(t, won.Close())
}

// stepped is a clock that is set.
type stepped struct {
	clock.Clock
	now time.Time
}

// Now implements clock.Clock.
func (c *stepped) Now() time.Time { return c.now }

// TestReadOnly opens a drive beside the machine that writes it, and finds the
// bucket unchanged by it: no count of bytes above all, which would not be true.
func TestReadOnly(t *testing.T) {
	b := mem.New(mem.Options{})
	mine := identity.Owner{Store: identity.StoreID{1}}
	w := made(t, bucket.Options{Store: store(t, b), Owner: &mine})
	r := opened(t, bucket.Options{Store: store(t, b), Owner: &mine, ReadOnly: true})
	drivetest.ReadOnly(t, w, r)
	list := func() (keys []string) {
		must(t, store(t, b).List(t.Context(), "", "", func(o object.Object) error {
			keys = append(keys, o.Key)
			return nil
		}))
		return keys
	}
	before := list()
	must(t, r.Close())
	if after := list(); !slices.Equal(after, before) {
		t.Errorf("closing it left %q of %q", after, before)
	}
	must(t, w.Close())
	s := store(t, b)
	must(t, bucket.Release(t.Context(), s))
	if _, err := bucket.Open(t.Context(), bucket.Options{Store: s, Owner: &mine, ReadOnly: true}); fsapi.KindOf(err) != fsapi.NotExist {
		t.Errorf("opened though it belongs to nobody: %v", err)
	}
}
