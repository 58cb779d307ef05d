package osfs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/osfs"
)

const sector = 512

func modes() map[string]osfs.CrashMode {
	return map[string]osfs.CrashMode{
		"random": osfs.CrashRandom, "prefix": osfs.CrashPrefix, "lose": osfs.CrashLose, "keep": osfs.CrashKeep,
	}
}

// dump is every file and directory of a file system.
func dump(t *testing.T, fsys osfs.FS) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		names, err := fsys.ReadDir(dir)
		must(t, err)
		for _, n := range names {
			p := path.Join(dir, n)
			info, err := fsys.Stat(p)
			must(t, err)
			if info.IsDir() {
				out[p] = "dir"
				walk(p)
			} else {
				out[p] = "file " + get(t, fsys, p)
			}
		}
	}
	walk("/")
	return out
}

// outcomes counts what is left in clones of m, as describe tells it.
func outcomes(m *osfs.Mem, mode osfs.CrashMode, describe func(*osfs.Mem) string) map[string]int {
	seen := map[string]int{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		seen[describe(m.CrashClone(r, mode))]++
	}
	return seen
}

func wantOutcomes(t *testing.T, seen map[string]int, want ...string) {
	t.Helper()
	var got []string
	for s := range seen {
		got = append(got, s)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes: %s", diff)
	}
}

// names tells which of some names there are.
func names(of ...string) func(*osfs.Mem) string {
	return func(m *osfs.Mem) string {
		var have []string
		for _, n := range of {
			if _, err := m.Stat(n); err == nil {
				have = append(have, n)
			}
		}
		return strings.Join(have, " ")
	}
}

func syncFile(t *testing.T, fsys osfs.FS, name string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func TestCrashFsyncDoesNotMakeNameDurable(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	put(t, m, "/f", "data")
	syncFile(t, m, "/f")
	wantOutcomes(t, outcomes(m, osfs.CrashRandom, names("/f")), "", "/f")
	wantOutcomes(t, outcomes(m, osfs.CrashLose, names("/f")), "")
	must(t, m.SyncDir("/"))
	for name, mode := range modes() {
		seen := outcomes(m, mode, func(c *osfs.Mem) string { return get(t, c, "/f") })
		if len(seen) != 1 || seen["data"] == 0 {
			t.Errorf("%s: %v", name, seen)
		}
	}
}

func TestCrashNameWithoutContents(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	put(t, m, "/f", strings.Repeat("x", sector))
	must(t, m.SyncDir("/"))
	seen := outcomes(m, osfs.CrashRandom, func(c *osfs.Mem) string { return strings.Trim(get(t, c, "/f"), "x") })
	wantOutcomes(t, seen, "", strings.Repeat("\x00", sector))
}

func TestCrashUnsyncedDirectoryTakesItsFilesAlong(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	must(t, m.MkdirAll("/d", 0o755))
	put(t, m, "/d/f", "x")
	must(t, m.SyncDir("/d"))
	wantOutcomes(t, outcomes(m, osfs.CrashRandom, names("/d", "/d/f")), "", "/d /d/f")
}

func TestCrashRename(t *testing.T) {
	prepare := func() *osfs.Mem {
		m := osfs.NewMem(osfs.MemOptions{})
		must(t, m.MkdirAll("/a", 0o755))
		must(t, m.MkdirAll("/b", 0o755))
		put(t, m, "/a/f", "new")
		put(t, m, "/a/g", "old")
		for _, n := range []string{"/a/f", "/a/g"} {
			syncFile(t, m, n)
		}
		must(t, m.SyncDir("/"))
		must(t, m.SyncDir("/a"))
		return m
	}
	t.Run("within a directory", func(t *testing.T) {
		m := prepare()
		must(t, m.Rename("/a/f", "/a/g"))
		seen := outcomes(m, osfs.CrashRandom, func(c *osfs.Mem) string {
			return names("/a/f", "/a/g")(c) + " " + get(t, c, "/a/g")
		})
		wantOutcomes(t, seen, "/a/f /a/g old", "/a/g new")
		must(t, m.SyncDir("/a"))
		wantOutcomes(t, outcomes(m, osfs.CrashRandom, names("/a/f", "/a/g")), "/a/g")
	})
	t.Run("across directories", func(t *testing.T) {
		m := prepare()
		must(t, m.Rename("/a/f", "/b/f"))
		both := names("/a/f", "/b/f")
		wantOutcomes(t, outcomes(m, osfs.CrashRandom, both), "/a/f", "/b/f", "/a/f /b/f")
		must(t, m.SyncDir("/b"))
		wantOutcomes(t, outcomes(m, osfs.CrashRandom, both), "/a/f /b/f", "/b/f")
		must(t, m.SyncDir("/a"))
		wantOutcomes(t, outcomes(m, osfs.CrashRandom, both), "/b/f")
	})
	t.Run("source synced only", func(t *testing.T) {
		m := prepare()
		must(t, m.Rename("/a/f", "/b/f"))
		must(t, m.SyncDir("/a"))
		wantOutcomes(t, outcomes(m, osfs.CrashLose, names("/a/f", "/b/f")), "/b/f")
	})
	t.Run("into a new directory", func(t *testing.T) {
		m := prepare()
		must(t, m.MkdirAll("/c/d", 0o755))
		must(t, m.Rename("/a/f", "/c/d/f"))
		must(t, m.SyncDir("/a"))
		wantOutcomes(t, outcomes(m, osfs.CrashLose, names("/a/f", "/c/d/f")), "/c/d/f")
	})
	t.Run("link then remove", func(t *testing.T) {
		m := prepare()
		must(t, m.Link("/a/f", "/b/f"))
		must(t, m.Remove("/a/f"))
		wantOutcomes(t, outcomes(m, osfs.CrashRandom, names("/a/f", "/b/f")), "/a/f", "/b/f", "/a/f /b/f")
	})
}

// TestCrashDirectoriesNeverLoop moves directories into each other such that a
// subset of the moves would make a loop that nothing reaches.
func TestCrashDirectoriesNeverLoop(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	must(t, m.MkdirAll("/p/q", 0o755))
	must(t, m.SyncDir("/"))
	must(t, m.SyncDir("/p"))
	must(t, m.Rename("/p/q", "/q"))
	must(t, m.Rename("/p", "/q/p"))
	wantOutcomes(t, outcomes(m, osfs.CrashRandom, names("/p", "/p/q", "/q", "/q/p")), "/p /p/q", "/p /q", "/q /q/p")
}

func TestCrashTearsAndReorders(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	old := strings.Repeat("o", 4*sector)
	put(t, m, "/f", old)
	syncFile(t, m, "/f")
	must(t, m.SyncDir("/"))
	f, err := m.OpenFile("/f", os.O_RDWR, 0)
	must(t, err)
	for i, b := range []string{"a", "b", "c"} {
		_, err = f.WriteAt([]byte(strings.Repeat(b, 2*sector-10)), int64(i*sector))
		must(t, err)
	}
	summary := func(c *osfs.Mem) string {
		var sum []byte
		for s := range strings.SplitSeq(fmt.Sprintf("%.1s %.1s %.1s %.1s", get(t, c, "/f"), get(t, c, "/f")[sector:],
			get(t, c, "/f")[2*sector:], get(t, c, "/f")[3*sector:]), " ") {
			sum = append(sum, s...)
		}
		return string(sum)
	}
	seen := outcomes(m, osfs.CrashRandom, summary)
	for _, want := range []string{"oooo", "abcc", "ooocc"[1:], "aooo", "oooo", "oabo"[:0] + "obbo"} {
		if seen[want] == 0 {
			t.Errorf("no clone holds %q: %v", want, seen)
		}
	}
	for s := range seen {
		if !strings.Contains("oa", s[:1]) || !strings.Contains("oab", s[1:2]) || !strings.Contains("obc", s[2:3]) || !strings.Contains("oc", s[3:]) {
			t.Errorf("a sector holds what was never in it: %q", s)
		}
	}
	wantOutcomes(t, outcomes(m, osfs.CrashLose, summary), "oooo")
	wantOutcomes(t, outcomes(m, osfs.CrashKeep, summary), "abcc")
	for s := range outcomes(m, osfs.CrashPrefix, summary) {
		if !slices.Contains([]string{"oooo", "aooo", "aaoo", "abbo", "aboo", "abbo", "abco", "abcc", "aabo"}, s) {
			t.Errorf("%q is no prefix", s)
		}
	}
}

func TestCrashTruncate(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	put(t, m, "/f", strings.Repeat("o", 3000))
	syncFile(t, m, "/f")
	must(t, m.SyncDir("/"))
	f, err := m.OpenFile("/f", os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(1000))
	wantOutcomes(t, outcomes(m, osfs.CrashRandom, func(c *osfs.Mem) string { return fmt.Sprint(len(get(t, c, "/f"))) }), "1000", "3000")
	must(t, f.Truncate(3000))
	must(t, f.Sync())
	want := strings.Repeat("o", 1000) + strings.Repeat("\x00", 2000)
	wantOutcomes(t, outcomes(m, osfs.CrashRandom, func(c *osfs.Mem) string { return get(t, c, "/f") }), want)
}

func TestCrashCloneIsRepeatable(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	newHistory(m, rand.New(rand.NewPCG(5, 5))).run(t, 300)
	for name, mode := range modes() {
		a := dump(t, m.CrashClone(rand.New(rand.NewPCG(3, 4)), mode))
		b := dump(t, m.CrashClone(rand.New(rand.NewPCG(3, 4)), mode))
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestCrashKeepIsTheLiveState(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	newHistory(m, rand.New(rand.NewPCG(6, 6))).run(t, 500)
	if diff := cmp.Diff(dump(t, m), dump(t, m.CrashClone(rand.New(rand.NewPCG(1, 1)), osfs.CrashKeep))); diff != "" {
		t.Error(diff)
	}
}

// TestCrashCloneIsIndependent changes source and clone and looks at the other.
func TestCrashCloneIsIndependent(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	h := newHistory(m, rand.New(rand.NewPCG(7, 7)))
	h.run(t, 300)
	for name, mode := range modes() {
		c := m.CrashClone(h.r, mode)
		before := dump(t, m)
		newHistory(c, rand.New(rand.NewPCG(8, 8))).run(t, 200)
		if diff := cmp.Diff(before, dump(t, m)); diff != "" {
			t.Errorf("%s: the clone's writes show in the source: %s", name, diff)
		}
		c = m.CrashClone(rand.New(rand.NewPCG(9, 9)), mode)
		cloneBefore := dump(t, c)
		h.run(t, 200)
		if diff := cmp.Diff(cloneBefore, dump(t, c)); diff != "" {
			t.Errorf("%s: the source's writes show in the clone: %s", name, diff)
		}
		// A clone is wholly durable.
		if diff := cmp.Diff(cloneBefore, dump(t, c.CrashClone(h.r, osfs.CrashLose))); diff != "" {
			t.Errorf("%s: a clone is not durable: %s", name, diff)
		}
	}
}

func TestCrashCloneWhileInUse(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			dir := fmt.Sprintf("/%d", g)
			m.MkdirAll(dir, 0o755)
			m.SyncDir("/")
			h := newHistory(m, rand.New(rand.NewPCG(uint64(g), 1)))
			h.dir = dir
			h.run(t, 300)
		})
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		c := m.CrashClone(r, osfs.AnyCrash(r))
		newHistory(c, r).run(t, 20)
		dump(t, c)
	}
	wg.Wait()
}

// TestManyRemovedBytes removes more than a crash may bring back.
func TestManyRemovedBytes(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	const n = 320 // MiB; 256 may come back
	data := strings.Repeat("x", 1<<20)
	for i := range n {
		put(t, m, fmt.Sprint("/tmp", i), data)
	}
	must(t, m.SyncDir("/"))
	for i := range n {
		must(t, m.Remove(fmt.Sprint("/tmp", i)))
	}
	names, err := m.CrashClone(rand.New(rand.NewPCG(1, 1)), osfs.CrashLose).ReadDir("/")
	must(t, err)
	if len(names) == 0 || len(names) > 256 {
		t.Errorf("%d MiB came back of %d removed", len(names), n)
	}
}

// TestManyUnsyncedNames makes far more changes than a crash may undo.
func TestManyUnsyncedNames(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	const n = 30_000
	for i := range n {
		put(t, m, fmt.Sprintf("/tmp%d", i), "")
		if i%2 == 0 {
			must(t, m.Remove(fmt.Sprintf("/tmp%d", i)))
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	kept := len(dump(t, m.CrashClone(r, osfs.CrashKeep)))
	lost := len(dump(t, m.CrashClone(r, osfs.CrashLose)))
	if kept != n/2 || lost >= kept || lost < kept-8192 {
		t.Errorf("%d names, %d of them durable", kept, lost)
	}
	must(t, m.SyncDir("/"))
	if diff := cmp.Diff(dump(t, m), dump(t, m.CrashClone(r, osfs.CrashLose))); diff != "" {
		t.Error(diff)
	}
}

func TestMemDirectIO(t *testing.T) {
	if osfs.DirectIO == 0 {
		t.Skip("this host has no O_DIRECT")
	}
	m := osfs.NewMem(osfs.MemOptions{})
	f, err := m.OpenFile("/f", os.O_RDWR|os.O_CREATE|osfs.DirectIO, 0o600)
	must(t, err)
	p := osfs.DirectBuffer(5000)
	if len(p) != 8192 {
		t.Fatalf("buffer of %d bytes", len(p))
	}
	_, err = f.WriteAt(p[:5000], 0)
	wantIs(t, err, syscall.EINVAL)
	_, err = f.WriteAt(p, 100)
	wantIs(t, err, syscall.EINVAL)
	_, err = f.WriteAt(p, 4096)
	must(t, err)
	_, err = f.ReadAt(p[1:], 0)
	wantIs(t, err, syscall.EINVAL)
	_, err = f.ReadAt(p, 4096)
	must(t, err)
}

func TestMemNoSpace(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{Capacity: 5 * 4096})
	f, err := m.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	n, err := f.WriteAt(bytes.Repeat([]byte{1}, 10*4096), 100)
	if wantIs(t, err, syscall.ENOSPC); n != 5*4096-100 {
		t.Errorf("wrote %d bytes", n)
	}
	c, err := m.StatFS("/")
	must(t, err)
	if diff := cmp.Diff(osfs.Capacity{Total: 5 * 4096}, c); diff != "" {
		t.Error(diff)
	}
	wantIs(t, f.Preallocate(5*4096, 1), syscall.ENOSPC)
	must(t, m.Remove("/f"))
	if c, _ = m.StatFS("/"); c.Free != 0 {
		t.Errorf("an open file gave up its space: %+v", c)
	}
	must(t, f.Close())
	if c, _ = m.StatFS("/"); c.Free != 5*4096 {
		t.Errorf("space not given back: %+v", c)
	}
	put(t, m, "/g", strings.Repeat("x", 5*4096))
	clone := m.CrashClone(rand.New(rand.NewPCG(1, 1)), osfs.CrashKeep)
	if c, _ = clone.StatFS("/"); c.Free != 0 {
		t.Errorf("a clone counts its space as %+v", c)
	}
}

// history makes random calls and knows what must survive a crash: the versions
// every file's sectors had since its last sync, and the files which must be
// reachable by one name or another.
type history struct {
	fsys  osfs.FS
	r     *rand.Rand
	dir   string
	files map[string]*tracked // by present name
	seq   int
}

// tracked is one file, told apart from others by its first sector, which is
// written once and synced.
type tracked struct {
	id       string
	data     []byte
	versions []map[string]bool // by sector, since the last sync
	sizes    map[int]bool      // since the last sync
	anchored bool              // had a durable name once and was not removed since
}

func newHistory(fsys osfs.FS, r *rand.Rand) *history {
	return &history{fsys: fsys, r: r, dir: "/", files: map[string]*tracked{}}
}

func (h *history) run(t *testing.T, steps int) {
	for range steps {
		h.step(t)
	}
}

func (h *history) step(t *testing.T) {
	switch n := h.r.IntN(20); {
	case n < 4:
		h.create(t)
	case n < 12:
		h.write(t)
	case n < 14:
		h.sync(t)
	case n < 15:
		h.truncate(t)
	case n < 18:
		h.rename(t)
	case n < 19:
		h.remove(t)
	default:
		h.syncDir(t)
	}
}

func (h *history) place() string {
	return path.Join(h.dir, []string{"", "d", "e"}[h.r.IntN(3)], fmt.Sprintf("n%d", h.r.IntN(12)))
}

func (h *history) pick() (string, *tracked) {
	if len(h.files) == 0 {
		return "", nil
	}
	name := slices.Sorted(maps.Keys(h.files))[h.r.IntN(len(h.files))]
	return name, h.files[name]
}

func (h *history) create(t *testing.T) {
	name := h.place()
	if h.files[name] != nil {
		return
	}
	must(t, h.fsys.MkdirAll(path.Dir(name), 0o755))
	h.seq++
	f := &tracked{id: fmt.Sprintf("%-*s", sector, fmt.Sprintf("%s#%d", h.dir, h.seq))}
	put(t, h.fsys, name, f.id)
	syncFile(t, h.fsys, name)
	f.data = []byte(f.id)
	f.synced()
	h.files[name] = f
}

func (f *tracked) synced() {
	f.versions = nil
	f.sizes = map[int]bool{len(f.data): true}
	f.note()
}

// note remembers the present contents as a version.
func (f *tracked) note() {
	f.sizes[len(f.data)] = true
	for s := 0; s*sector < len(f.data); s++ {
		for len(f.versions) <= s {
			f.versions = append(f.versions, map[string]bool{})
		}
		f.versions[s][string(f.data[s*sector:min(len(f.data), (s+1)*sector)])] = true
	}
}

func (h *history) write(t *testing.T) {
	name, f := h.pick()
	if f == nil {
		return
	}
	off := sector + h.r.IntN(9*sector)
	p := bytes.Repeat([]byte{byte('a' + h.r.IntN(26))}, 1+h.r.IntN(3*sector))
	file, err := h.fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	_, err = file.WriteAt(p, int64(off))
	must(t, err)
	must(t, file.Close())
	if grow := off + len(p) - len(f.data); grow > 0 {
		f.data = append(f.data, make([]byte, grow)...)
	}
	copy(f.data[off:], p)
	f.note()
}

func (h *history) truncate(t *testing.T) {
	name, f := h.pick()
	if f == nil {
		return
	}
	size := sector + h.r.IntN(5*sector)
	file, err := h.fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	must(t, file.Truncate(int64(size)))
	must(t, file.Close())
	f.data = append(f.data[:min(size, len(f.data))], make([]byte, max(0, size-len(f.data)))...)
	f.note()
}

func (h *history) sync(t *testing.T) {
	if name, f := h.pick(); f != nil {
		syncFile(t, h.fsys, name)
		f.synced()
	}
}

func (h *history) rename(t *testing.T) {
	from, f := h.pick()
	to := h.place()
	if f == nil || from == to {
		return
	}
	must(t, h.fsys.MkdirAll(path.Dir(to), 0o755))
	must(t, h.fsys.Rename(from, to))
	delete(h.files, from)
	h.files[to] = f
}

func (h *history) remove(t *testing.T) {
	if name, f := h.pick(); f != nil {
		must(t, h.fsys.Remove(name))
		delete(h.files, name)
	}
}

func (h *history) syncDir(t *testing.T) {
	must(t, h.fsys.SyncDir(h.dir))
	for _, d := range []string{"d", "e"} {
		if err := h.fsys.SyncDir(path.Join(h.dir, d)); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	for _, f := range h.files {
		f.anchored = true
	}
}

// check compares a crash clone with what may be left.
func (h *history) check(t *testing.T, c *osfs.Mem) {
	t.Helper()
	left := map[string]string{}
	for name, s := range dump(t, c) {
		data, isFile := strings.CutPrefix(s, "file ")
		if !isFile {
			continue
		}
		if len(data) < sector {
			t.Fatalf("%s lost what was synced: %d bytes", name, len(data))
		}
		left[data[:sector]] = data
	}
	for name, f := range h.files {
		data, ok := left[f.id]
		if !ok {
			if f.anchored {
				t.Errorf("%s lost all its names", name)
			}
			continue
		}
		f.checkData(t, name, data)
	}
}

func (f *tracked) checkData(t *testing.T, name, data string) {
	t.Helper()
	smallest, largest := 1<<30, 0
	for s := range f.sizes {
		smallest, largest = min(smallest, s), max(largest, s)
	}
	if len(data) < smallest || len(data) > largest {
		t.Errorf("%s has %d bytes, had %d to %d", name, len(data), smallest, largest)
	}
	zeros := strings.Repeat("\x00", sector)
	for s := 0; s*sector < len(data); s++ {
		got := data[s*sector : min(len(data), (s+1)*sector)]
		ok := got == zeros[:len(got)]
		for v := range f.versions[s] {
			ok = ok || got == (v + zeros)[:len(got)]
		}
		if !ok {
			t.Fatalf("%s: sector %d holds %.20q…, none of its versions", name, s, got)
		}
	}
	if len(f.sizes) == 1 && len(f.data) == len(data) && !f.dirty() && data != string(f.data) {
		t.Errorf("%s differs from what was synced", name)
	}
}

func (f *tracked) dirty() bool {
	return slices.ContainsFunc(f.versions, func(v map[string]bool) bool { return len(v) > 1 })
}

// TestCrashHistories checks clones of random histories, taken at every few
// steps.
func TestCrashHistories(t *testing.T) {
	rounds := 60
	if os.Getenv("STRAKE_LONG") != "" {
		rounds = 5000
	}
	for seed := range rounds {
		m := osfs.NewMem(osfs.MemOptions{})
		h := newHistory(m, rand.New(rand.NewPCG(uint64(seed), 11)))
		crashes := rand.New(rand.NewPCG(uint64(seed), 12))
		for range 40 {
			h.run(t, 4)
			h.check(t, m.CrashClone(crashes, osfs.AnyCrash(crashes)))
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func TestReplaceFileSurvivesCrash(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	must(t, osfs.ReplaceFile(m, "/f", []byte("old"), 0o600))
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	// Crash before every call that ReplaceFile makes.
	crashing := osfs.NewFault(m, func(osfs.Call) osfs.Outcome {
		for range 20 {
			seen[get(t, m.CrashClone(r, osfs.AnyCrash(r)), "/f")] = true
		}
		return osfs.Outcome{}
	})
	must(t, osfs.ReplaceFile(crashing, "/f", []byte("new"), 0o600))
	if diff := cmp.Diff(map[string]bool{"old": true, "new": true}, seen); diff != "" {
		t.Error(diff)
	}
	wantOutcomes(t, outcomes(m, osfs.CrashRandom, func(c *osfs.Mem) string { return get(t, c, "/f") }), "new")
}

func TestReplaceFileCleansUp(t *testing.T) {
	for _, op := range []osfs.Op{osfs.OpWrite, osfs.OpSync, osfs.OpRename, osfs.OpClose} {
		m := osfs.NewMem(osfs.MemOptions{})
		put(t, m, "/f", "old")
		broken := osfs.NewFault(m, osfs.FailOp(op, "*", syscall.EIO))
		wantIs(t, osfs.ReplaceFile(broken, "/f", []byte("new"), 0o600), syscall.EIO)
		if diff := cmp.Diff(map[string]string{"/f": "file old"}, dump(t, m)); diff != "" {
			t.Errorf("%s: %s", op, diff)
		}
	}
}

func BenchmarkCrashClone(b *testing.B) {
	m := osfs.NewMem(osfs.MemOptions{})
	for i := range 50 {
		f, err := m.OpenFile(fmt.Sprintf("/f%d", i), os.O_RDWR|os.O_CREATE, fs.FileMode(0o600))
		if err != nil {
			b.Fatal(err)
		}
		f.Write(make([]byte, 1<<20))
		f.Sync()
		f.WriteAt(make([]byte, 1<<14), 1<<19)
		f.Close()
	}
	m.SyncDir("/")
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		m.CrashClone(r, osfs.CrashRandom)
	}
}
