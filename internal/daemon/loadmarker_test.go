package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
	"github.com/strakefs/strake/internal/kv"
	kvmem "github.com/strakefs/strake/internal/kv/mem"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
	"github.com/strakefs/strake/internal/osfs"
	"github.com/strakefs/strake/internal/policy"
)

// loading is a bucket to load into, and a dump.
type loading struct {
	t    *testing.T
	b    *mem.Bucket
	keys *keyring.Keyring
	dump []byte
	work string // for caches
	n    int    // of them
}

func newLoading(t *testing.T) *loading {
	t.Helper()
	keys, err := keyring.Create(osfs.NewMem(osfs.MemOptions{}), "keyring", []byte("p"), keyring.Params{Passes: 1, MemoryKiB: 8, Lanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := &loading{t: t, b: mem.New(mem.Options{}), keys: keys, work: t.TempDir()}
	l.dump = l.dumpOf(300)
	return l
}

// dumpOf is a dump of a store of n directories.
func (l *loading) dumpOf(n int) []byte {
	l.t.Helper()
	ctx := l.t.Context()
	e, err := kvmem.Open(kvmem.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer e.Close()
	m, err := meta.Open(ctx, e, meta.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	v, err := m.CreateVolume(ctx, meta.Volume{Name: "v", Policy: policy.Default()})
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := m.Update(ctx, v.ID, kv.UpdateOptions{}, func(tx *meta.Tx) error {
		root, err := tx.Inode(fsapi.RootIno)
		for i := 0; i < n && err == nil; i++ {
			_, err = tx.Create(root, fmt.Sprintf("dir-%d-of-%d-%s", i, n, strings.Repeat("x", 100)), meta.NewInode{Type: fsapi.TypeDirectory, Mode: 0o755})
		}
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := m.Dump(ctx, &out); err != nil {
		l.t.Fatal(err)
	}
	return out.Bytes()
}

// sameRecords compares dumps but for their last lines, which say of which moment
// they are.
func sameRecords(a, b []byte) bool {
	cut := func(dump []byte) []byte { return dump[:bytes.LastIndexByte(bytes.TrimRight(dump, "\n"), '\n')+1] }
	return len(a) > 0 && len(b) > 0 && bytes.Equal(cut(a), cut(b))
}

func (l *loading) part(_ context.Context, _, part string) (object.Store, error) {
	return l.b.Open(provider.Options{Prefix: part})
}

// rebuild is one process that loads.
func (l *loading) rebuild() *rebuild {
	cfg := config.Default()
	cfg.Engine.Kind, cfg.Engine.URL = "bucket", "mem://b"
	l.n++
	cfg.Data.Dir = fmt.Sprintf("%s/%d", l.work, l.n)
	return &rebuild{
		cfg: cfg, at: layout{cfg.Data.Dir}, fs: osfs.OS{}, log: slog.New(slog.DiscardHandler), keys: l.keys,
		emit: func(api.FsckEvent) error { return nil }, part: l.part,
	}
}

// load loads a dump, as MetaLoad does.
func (l *loading) load(dump []byte) error {
	r := l.rebuild()
	t := r.target(false)
	err := r.brought(l.t.Context(), t, func(e kv.Engine) error { return meta.Load(l.t.Context(), e, bytes.NewReader(dump)) })
	if err == nil {
		_, err = t.commit(l.t.Context())
	}
	return errors.Join(err, r.close())
}

// serve is what a start does up to the metadata, which it dumps.
func (l *loading) serve() (dump []byte, err error) {
	r := l.rebuild()
	n := r.node()
	n.fs, n.keyFS = r.fs, r.fs
	n.cfg.Keys.File = "-" // there is something to open the keyring with
	defer func() { err = errors.Join(err, n.closeLayers()) }()
	if err := n.openBucketDir(l.t.Context(), openOrCreate); err != nil {
		return nil, err
	}
	if made, err := n.at.exists(n.fs); err != nil || !made {
		return nil, errors.Join(err, fsapi.Errorf(fsapi.NotExist, "a new store would be made"))
	}
	n.keys = l.keys
	e, err := n.bucketEngine(l.t.Context())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	m, err := meta.OpenReadOnly(l.t.Context(), e, meta.Options{})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = m.Dump(l.t.Context(), &out)
	return out.Bytes(), err
}

// keysPart is where the keyring is.
func (l *loading) keysPart() object.Store {
	s, err := l.part(l.t.Context(), "", bucketKeys)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { s.Close() })
	return s
}

func (l *loading) objects(prefix string) (names []string) {
	s, err := l.part(l.t.Context(), "", prefix)
	if err != nil {
		l.t.Fatal(err)
	}
	defer s.Close()
	if err := s.List(l.t.Context(), "", "", func(o object.Object) error { names = append(names, o.Key); return nil }); err != nil {
		l.t.Fatal(err)
	}
	return names
}

// dies lets n writes pass, or one more of which the answer is lost, and fails
// everything from then on, as for a process that was killed. It reports whether that
// has come.
func (l *loading) dies(n int, late bool) (died func() bool) {
	dead, writes := false, 0
	l.b.SetRule(func(r mem.Request) mem.Outcome {
		switch r.Op {
		case mem.Put, mem.Delete, mem.Begin, mem.Part, mem.Complete:
			if writes++; writes == n+1 && !dead {
				dead = true
				return mem.Outcome{Err: fsapi.Errorf(fsapi.Closed, "killed"), Late: late}
			}
		}
		if dead {
			return mem.Outcome{Err: fsapi.Errorf(fsapi.Closed, "killed")}
		}
		return mem.Outcome{}
	})
	return func() bool { l.b.SetRule(nil); return dead }
}

// A load that is interrupted at any point leaves a bucket that nobody serves, and the
// same load again goes well; one that came to its end is a store.
func TestLoadInterrupted(t *testing.T) {
	for _, late := range []bool{false, true} {
		stores, parts := 0, 0
		for n, died := 0, true; died; n++ {
			l := newLoading(t)
			over := l.dies(n, late)
			err := l.load(l.dump)
			if died = over(); !died {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			_, serr := l.serve()
			lerr := l.load(l.dump)
			switch {
			case serr == nil: // all of it was there
				stores++
				if !errors.Is(lerr, fsapi.Exist) {
					t.Errorf("after %d writes it is a store, and another load says %v", n, lerr)
				}
			case errors.Is(serr, fsapi.Conflict):
				parts++
			case !errors.Is(serr, fsapi.NotExist) || n > 0: // nothing is there
				t.Errorf("after %d writes a start says %v", n, serr)
			}
			if serr != nil && lerr != nil {
				t.Fatalf("after %d writes the load fails again: %v", n, lerr)
			}
			got, err := l.serve()
			if err != nil || !sameRecords(got, l.dump) {
				t.Fatalf("after %d writes: %d bytes of metadata of %d, %v", n, len(got), len(l.dump), err)
			}
			if names := l.objects(bucketKeys); fmt.Sprint(names) != "[keyring]" {
				t.Errorf("after %d writes, beside the keyring: %v", n, names)
			}
		}
		if parts < 5 || stores == 0 {
			t.Errorf("late %v: it was a part %d times, a store %d times", late, parts, stores)
		}
	}
}

// What another dump left is gone when this one is loaded.
func TestLoadAfterAnother(t *testing.T) {
	l := newLoading(t)
	other := l.dumpOf(12_000) // more than is loaded in one transaction
	if err := l.load(other[:len(other)-100]); !errors.Is(err, fsapi.Corrupt) {
		t.Fatalf("a dump that is cut short: %v", err)
	}
	if _, err := l.serve(); !errors.Is(err, fsapi.Conflict) || !strings.Contains(err.Error(), "strake meta load") {
		t.Fatalf("a part is served: %v", err)
	}
	for n := range 8 { // also while it is removed
		over := l.dies(n, n%2 == 0)
		if err := l.load(l.dump); !over() || err == nil {
			t.Fatalf("with %d writes it was loaded: %v", n, err)
		}
		if _, err := l.serve(); !errors.Is(err, fsapi.Conflict) {
			t.Fatalf("a part is served: %v", err)
		}
	}
	if err := l.load(l.dump); err != nil {
		t.Fatal(err)
	}
	if got, err := l.serve(); err != nil || !sameRecords(got, l.dump) {
		t.Errorf("%d bytes of %d: %v", len(got), len(l.dump), err)
	}
}

// Nothing is removed where no load is known to have been interrupted.
func TestLoadRefuses(t *testing.T) {
	l := newLoading(t)
	if err := l.load(l.dump); err != nil {
		t.Fatal(err)
	}
	before := l.objects("")
	if err := l.load(l.dump); !errors.Is(err, fsapi.Exist) {
		t.Errorf("onto a store: %v", err)
	}
	keys := l.keysPart()

	body, _, err := object.ReadAll(t.Context(), keys, keyringObject, 0, maxKeyring)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Delete(t.Context(), keyringObject); err != nil { // it may be found again
		t.Fatal(err)
	}
	for range 2 {
		if err := l.load(l.dump); !errors.Is(err, fsapi.Exist) {
			t.Errorf("onto metadata whose keyring is gone: %v", err)
		}
	}
	if _, err := object.PutBytes(t.Context(), keys, keyringObject, body, object.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	if after := l.objects(""); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("there was %v, and is now %v", before, after)
	}
	if got, err := l.serve(); err != nil || !sameRecords(got, l.dump) {
		t.Errorf("%d bytes of %d: %v", len(got), len(l.dump), err)
	}
}

// Of two loads into one bucket the one that began last wins, whenever that is.
func TestLoadTwice(t *testing.T) {
	l := newLoading(t)
	keys := l.keysPart()

	mark := func() *loadMark {
		m := &loadMark{store: keys, conditional: true}
		if _, err := m.read(t.Context()); err != nil && !errors.Is(err, fsapi.NotExist) {
			t.Fatal(err)
		}
		return m
	}
	one, two := mark(), mark()
	if fresh, err := one.begin(t.Context(), "one", time.Unix(1, 0)); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	if _, err := two.begin(t.Context(), "two", time.Unix(2, 0)); !errors.Is(err, fsapi.Busy) {
		t.Errorf("both begin: %v", err)
	}
	two = mark()
	if fresh, err := two.begin(t.Context(), "two", time.Unix(3, 0)); err != nil || fresh {
		t.Fatal(fresh, err)
	}
	if err := one.whole(t.Context()); !errors.Is(err, fsapi.Busy) {
		t.Errorf("the first goes on: %v", err)
	}
	if err := one.end(t.Context()); !errors.Is(err, fsapi.Busy) {
		t.Errorf("the first removes the other's marker: %v", err)
	}
	if err := two.whole(t.Context()); err != nil {
		t.Fatal(err)
	}
	three := mark()
	if _, err := three.begin(t.Context(), "three", time.Unix(4, 0)); err != nil {
		t.Fatal(err)
	}
	// The second writes its keyring now, too late.
	if _, err := refusePart(t.Context(), keys, "there", true); !errors.Is(err, fsapi.Conflict) || !strings.Contains(err.Error(), "1970-01-01T00:00:04Z on three") {
		t.Errorf("what the third has begun to remove is served: %v", err)
	}
	if err := two.end(t.Context()); !errors.Is(err, fsapi.Busy) {
		t.Errorf("the second ends: %v", err)
	}
	// One of a newer program is not touched.
	b, _ := json.Marshal(loadMarker{Form: 2})
	if _, err := object.PutBytes(t.Context(), keys, loadObject, b, object.Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := l.load(l.dump); !errors.Is(err, fsapi.NotSupported) {
		t.Errorf("a marker of another form: %v", err)
	}
}

// A keyring that arrives while a load begins ends it, and what its marker was before
// decides whether there is a store: not where another load may have removed the
// metadata that belongs to the keyring.
func TestLoadBeginsTooLate(t *testing.T) {
	for _, whole := range []bool{true, false} {
		l := newLoading(t)
		if err := l.load(l.dump); err != nil {
			t.Fatal(err)
		}
		keys := l.keysPart()
		body, _, err := object.ReadAll(t.Context(), keys, keyringObject, 0, maxKeyring)
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.Delete(t.Context(), keyringObject); err != nil {
			t.Fatal(err)
		}
		m := &loadMark{store: keys, conditional: true}
		if _, err := m.begin(t.Context(), "one", time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if whole {
			if err := m.whole(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.b.SetRule(func(r mem.Request) mem.Outcome {
			if r.Op == mem.Put && strings.HasSuffix(r.Key, "/"+loadObject) {
				l.b.SetRule(nil)
				if _, err := object.PutBytes(t.Context(), keys, keyringObject, body, object.IfAbsent()); err != nil {
					t.Error(err)
				}
			}
			return mem.Outcome{}
		})
		if err := l.load(l.dump); !errors.Is(err, fsapi.Exist) {
			t.Errorf("whole %v: a load that begins says %v", whole, err)
		}
		if _, err := l.serve(); (err == nil) != whole || err != nil && !errors.Is(err, fsapi.Conflict) {
			t.Errorf("whole %v: a start says %v", whole, err)
		}
	}
}
