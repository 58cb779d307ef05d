// Package drivetest is what every drive.Drive must pass.
//
// It owns: the suite. It must not know how drives work.
package drivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// Capabilities says what a drive can do beside the seam.
type Capabilities struct {
	// Reopen opens the place of a closed drive again; nil: it cannot be.
	Reopen func(t *testing.T, closed drive.Drive) drive.Drive
	// BigBlob is the size in bytes of the largest blob to test; zero: 9 MiB.
	BigBlob int
}

// Run tests the drives that open makes, each of them empty. The suite closes
// them.
func Run(t *testing.T, open func(t *testing.T) drive.Drive, caps Capabilities) {
	if caps.BigBlob == 0 {
		caps.BigBlob = 9 << 20
	}
	cases := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"info", testInfo}, {"round trip", testRoundTrip}, {"read ranges", testReadRanges}, {"stream", testStream}, {"give", testGive},
		{"invisible before commit", testInvisible}, {"abort", testAbort}, {"writer is done", testWriterDone},
		{"exist", testExist}, {"commit race", testCommitRace}, {"not exist", testNotExist},
		{"names", testNames}, {"list", testList}, {"list stops", testListStops}, {"list while changing", testListWhileChanging},
		{"delete", testDelete}, {"delete many", testDeleteMany}, {"delete while reading", testDeleteWhileReading},
		{"replace", testReplace}, {"replace is atomic", testReplaceAtomic}, {"context", testContext},
		{"capacity", testCapacity}, {"concurrent", testConcurrent}, {"history", testHistory}, {"close", testClose},
		{"reopen", testReopen},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{Drive: open(t), ctx: t.Context(), caps: caps}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.run(t, s)
		})
	}
}

// suite is one case's drive.
type suite struct {
	drive.Drive
	ctx  context.Context
	caps Capabilities
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind checks an error's kind and that it names the blob.
func wantKind(t *testing.T, err error, kind fsapi.Kind, name string) {
	t.Helper()
	if !errors.Is(err, kind) || fsapi.KindOf(err) != kind {
		t.Errorf("error %v is not of kind %q", err, kind)
	} else if !strings.Contains(err.Error(), name) {
		t.Errorf("error %q does not name %q", err, name)
	}
}

// Bytes is n bytes that depend on seed and do not compress.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// Put commits a blob written in pieces of step bytes.
func Put(ctx context.Context, d drive.Drive, name string, data []byte, size int64, step int) error {
	w, err := d.Create(ctx, name, size)
	if err != nil {
		return err
	}
	defer w.Abort()
	for rest := data; len(rest) > 0; {
		k := min(step, len(rest))
		n, err := w.Write(rest[:k])
		if err == nil && n != k {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
		rest = rest[k:]
	}
	return w.Commit(ctx)
}

// Get reads a whole blob and checks that it ends where Stat says.
func Get(ctx context.Context, d drive.Drive, name string) ([]byte, error) {
	b, err := d.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	p := make([]byte, b.Size+1)
	n, err := d.ReadAt(ctx, name, 0, p)
	if !errors.Is(err, io.EOF) || int64(n) != b.Size {
		return nil, fmt.Errorf("read of %d bytes and one more: %d, %w", b.Size, n, err)
	}
	return p[:n], nil
}

func (s *suite) put(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, Put(s.ctx, s, name, data, int64(len(data)), 1<<20))
}

func (s *suite) wantBlob(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := Get(s.ctx, s, name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s holds %d bytes, other than the %d written", name, len(got), len(want))
	}
}

func (s *suite) list(t *testing.T, prefix, after string) []string {
	t.Helper()
	names := []string{}
	must(t, s.List(s.ctx, prefix, after, func(b drive.Blob) error {
		names = append(names, b.Name)
		return nil
	}))
	return names
}

func (s *suite) wantList(t *testing.T, prefix, after string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), s.list(t, prefix, after)); diff != "" {
		t.Errorf("list of %q after %q: %s", prefix, after, diff)
	}
}

func testInfo(t *testing.T, s *suite) {
	i := s.Info()
	if i.ID == 0 || i.Kind == "" {
		t.Errorf("info %+v", i)
	}
	if diff := cmp.Diff(i, s.Info()); diff != "" {
		t.Errorf("info changes: %s", diff)
	}
}

func testRoundTrip(t *testing.T, s *suite) {
	n := 0
	for _, size := range []int{0, 1, 511, 512, 4095, 4096, 4097, 100_000, 1<<20 + 7, 2 << 20, 4<<20 + 4096, s.caps.BigBlob} {
		for _, step := range []int{1000, 64 << 10, 3<<20 + 1} {
			for _, hint := range []int64{0, int64(size), int64(size / 2), int64(size + 10_000)} {
				if size > 1<<20 && (step == 1000 || hint != int64(size) && hint != 0) {
					continue
				}
				n++
				name := fmt.Sprintf("rt/%d-%d", size, n)
				data := Bytes(uint64(n), size)
				must(t, Put(s.ctx, s, name, data, hint, step))
				s.wantBlob(t, name, data)
				must(t, s.Delete(s.ctx, name))
			}
		}
	}
}

func testReadRanges(t *testing.T, s *suite) {
	const size = 300_000
	data := Bytes(1, size)
	s.put(t, "seg/ab/ranges", data)
	for _, r := range []struct{ off, n, want int }{
		{0, size, size}, {0, 1, 1}, {size - 1, 1, 1}, {4095, 2, 2}, {1000, 100_000, 100_000},
		{size - 1, 2, 1}, {size, 1, 0}, {size + 1, 10, 0}, {1 << 40, 10, 0}, {0, size + 1, size},
	} {
		p := make([]byte, r.n)
		n, err := s.ReadAt(s.ctx, "seg/ab/ranges", int64(r.off), p)
		if n != r.want || n < r.n && !errors.Is(err, io.EOF) || n == r.n && err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("read of %d at %d: %d, %v", r.n, r.off, n, err)
		} else if n > 0 && !bytes.Equal(p[:n], data[r.off:r.off+n]) {
			t.Errorf("read of %d at %d: wrong bytes", r.n, r.off)
		}
	}
	if n, err := s.ReadAt(s.ctx, "seg/ab/ranges", 5, nil); n != 0 || err != nil {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
	if _, err := s.ReadAt(s.ctx, "seg/ab/ranges", -1, make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read at -1: %v", err)
	}
}

// testGive writes memory that comes back at most once, and where nothing failed it
// does.
func testGive(t *testing.T, s *suite) {
	sizes := []int{1, 4096, 0, 1 << 20, 2<<20 + 1, 77, 3 << 20}
	w, err := s.Create(s.ctx, "seg/ab/given", 0)
	must(t, err)
	defer w.Abort()
	var want []byte
	back := make([]atomic.Int32, len(sizes))
	for i, n := range sizes {
		p := Bytes(uint64(i), n)
		want = append(want, p...)
		if i == 3 { // Write goes between
			_, err = w.Write(p)
			back[i].Add(1)
		} else {
			err = drive.Give(w, p, func() { back[i].Add(1); clear(p) })
		}
		must(t, err)
	}
	must(t, w.Commit(s.ctx))
	s.wantBlob(t, "seg/ab/given", want)
	for i := range back {
		if n := back[i].Load(); n != 1 {
			t.Errorf("memory %d came back %d times", i, n)
		}
	}
	if err := drive.Give(w, want, func() {}); err == nil {
		t.Error("a writer takes more after its Commit")
	}
}

// testStream holds for drives that stream, and for those that say they do not.
func testStream(t *testing.T, s *suite) {
	const size = 3 << 20
	data := Bytes(7, size)
	s.put(t, "seg/ab/stream", data)
	if _, err := drive.OpenStream(s.ctx, s, "seg/ab/stream", 0, 1); errors.Is(err, fsapi.NotSupported) {
		t.Skip("the drive does not stream")
	}
	for _, r := range []struct{ off, n, step int }{
		{0, size, 1 << 20}, {0, size, 100_000}, {4095, 70_000, 4096}, {size - 10, 10, 3}, {size - 10, 20, 20},
		{size, 10, 5}, {size + 1, 10, 10}, {0, size, size},
	} {
		in, err := drive.OpenStream(s.ctx, s, "seg/ab/stream", int64(r.off), int64(r.n))
		must(t, err)
		var got []byte
		want := data[min(r.off, size):min(r.off+r.n, size)]
		for err == nil && len(got) < r.n {
			var p []byte
			p, err = in.Next(min(r.step, r.n-len(got)))
			got = append(got, p...)
			clear(p) // it is the caller's
		}
		if !bytes.Equal(got, want) || (len(got) < r.n) != (err == io.EOF) || err != nil && err != io.EOF { //nolint:errorlint // bare, by contract
			t.Errorf("stream of %d at %d by %d: %d bytes, %v", r.n, r.off, r.step, len(got), err)
		}
		in.Close()
		in.Close()
	}
	s.wantBlob(t, "seg/ab/stream", data)
	_, err := drive.OpenStream(s.ctx, s, "seg/ab/none", 0, 1)
	wantKind(t, err, fsapi.NotExist, "seg/ab/none")
	// One that is left in the midst holds up nobody.
	in, err := drive.OpenStream(s.ctx, s, "seg/ab/stream", 0, size)
	must(t, err)
	_, err = in.Next(1)
	must(t, err)
	in.Close()
	if _, err := in.Next(1); err == nil {
		t.Error("a stream goes on after its end")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = drive.OpenStream(ctx, s, "seg/ab/stream", 0, size)
	wantKind(t, err, fsapi.Interrupted, "seg/ab/stream")
}

func (s *suite) wantAbsent(t *testing.T, name string) {
	t.Helper()
	_, err := s.Stat(s.ctx, name)
	wantKind(t, err, fsapi.NotExist, name)
	_, err = s.ReadAt(s.ctx, name, 0, make([]byte, 1))
	wantKind(t, err, fsapi.NotExist, name)
	if names := s.list(t, "", ""); slices.Contains(names, name) {
		t.Errorf("%s is listed: %v", name, names)
	}
}

func testInvisible(t *testing.T, s *suite) {
	data := Bytes(2, 5<<20)
	w, err := s.Create(s.ctx, "a/b/c/d", 0)
	must(t, err)
	s.wantAbsent(t, "a/b/c/d")
	_, err = w.Write(data)
	must(t, err)
	s.wantAbsent(t, "a/b/c/d")
	s.wantList(t, "", "")
	must(t, w.Commit(s.ctx))
	s.wantBlob(t, "a/b/c/d", data)
	s.wantList(t, "", "", "a/b/c/d")
}

func testAbort(t *testing.T, s *suite) {
	for _, n := range []int{0, 10, 5 << 20} {
		w, err := s.Create(s.ctx, "aborted", int64(n))
		must(t, err)
		_, err = w.Write(Bytes(3, n))
		must(t, err)
		w.Abort()
		s.wantAbsent(t, "aborted")
		w.Abort()
	}
	w, err := s.Create(s.ctx, "kept", 0)
	must(t, err)
	must(t, w.Commit(s.ctx))
	w.Abort()
	s.wantBlob(t, "kept", nil)
}

func testWriterDone(t *testing.T, s *suite) {
	for _, end := range []func(w drive.Writer){
		func(w drive.Writer) { w.Abort() },
		func(w drive.Writer) { must(t, w.Commit(s.ctx)) },
	} {
		w, err := s.Create(s.ctx, "done", 0)
		must(t, err)
		end(w)
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("a write after the end succeeded")
		}
		if err := w.Commit(s.ctx); err == nil {
			t.Error("a commit after the end succeeded")
		}
	}
	s.wantBlob(t, "done", nil)
}

func testExist(t *testing.T, s *suite) {
	s.put(t, "x/one", []byte("first"))
	err := Put(s.ctx, s, "x/one", []byte("second"), 0, 10)
	wantKind(t, err, fsapi.Exist, "x/one")
	s.wantBlob(t, "x/one", []byte("first"))
	must(t, s.Delete(s.ctx, "x/one"))
	s.put(t, "x/one", []byte("third"))
	s.wantBlob(t, "x/one", []byte("third"))
}

func testCommitRace(t *testing.T, s *suite) {
	const racers = 8
	for round := range 5 {
		name := fmt.Sprintf("race/%d", round)
		errs := make([]error, racers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range racers {
			w, err := s.Create(s.ctx, name, 0)
			must(t, err)
			_, err = w.Write(Bytes(uint64(i), 10_000+i))
			must(t, err)
			wg.Go(func() {
				<-start
				errs[i] = w.Commit(s.ctx)
				if _, err := s.Stat(s.ctx, name); err != nil {
					t.Errorf("after a commit that ended with %v: %v", errs[i], err)
				}
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil && winner >= 0 {
				t.Fatalf("%d and %d both won", winner, i)
			}
			if err == nil {
				winner = i
			} else {
				wantKind(t, err, fsapi.Exist, name)
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		s.wantBlob(t, name, Bytes(uint64(winner), 10_000+winner))
	}
}

func testNotExist(t *testing.T, s *suite) {
	s.put(t, "dir/blob", []byte("x"))
	for _, name := range []string{"none", "dir", "dir/none", "dir/blob/none", "no/dir"} {
		s.wantAbsent(t, name)
		wantKind(t, s.Delete(s.ctx, name), fsapi.NotExist, name)
	}
	s.wantBlob(t, "dir/blob", []byte("x"))
}

func testNames(t *testing.T, s *suite) {
	long := strings.Repeat("n", drive.MaxName)
	for _, name := range []string{"a", "a.b", "A-Z_0.9", "1/2/3/4", "x/a..b", "x/-", long, strings.Repeat("n", 99) + "/" + strings.Repeat("m", 100)} {
		must(t, drive.CheckName(name))
		s.put(t, name, []byte(name))
		s.wantBlob(t, name, []byte(name))
		must(t, s.Delete(s.ctx, name))
	}
	for _, name := range []string{"", "/", "a/", "/a", "a//b", ".", "..", ".a", "a/.b", "a/../b", "a/./b", "1/2/3/4/5", long + "n",
		"a b", "a\x00", "ä", "a\\b", "a:b", "a*", "a\n", ".strake/drive"} {
		if err := drive.CheckName(name); !errors.Is(err, fsapi.Invalid) {
			t.Errorf("CheckName(%q): %v", name, err)
		}
		_, err := s.Create(s.ctx, name, 0)
		wantKind(t, err, fsapi.Invalid, "")
		_, err = s.ReadAt(s.ctx, name, 0, make([]byte, 1))
		wantKind(t, err, fsapi.Invalid, "")
		_, err = s.Stat(s.ctx, name)
		wantKind(t, err, fsapi.Invalid, "")
		wantKind(t, s.Delete(s.ctx, name), fsapi.Invalid, "")
		wantKind(t, s.Replace(s.ctx, name, nil), fsapi.Invalid, "")
	}
}

// listNames sort differently by whole name than directory by directory.
func listNames() []string {
	return []string{"a-/x", "a.b", "a/b-c", "a/b.c", "a/b/c", "a/b/d", "a/b0", "a0", "b", "seg/00/1", "seg/01/2", "seg/ff/3", "seg2", "z/z/z/z"}
}

func testList(t *testing.T, s *suite) {
	all := listNames()
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(all)) {
		s.put(t, all[i], []byte(all[i]))
	}
	marks := append([]string{"", "a", "a/", "a/b", "a/b/", "a/b/cc", "aa", "s", "seg", "seg/", "seg/0", "seg/00", "seg/01/3", "zz", "none", "0"}, all...)
	for _, prefix := range marks {
		for _, after := range marks {
			var want []string
			for _, name := range all {
				if strings.HasPrefix(name, prefix) && name > after {
					want = append(want, name)
				}
			}
			s.wantList(t, prefix, after, want...)
		}
	}
	must(t, s.List(s.ctx, "", "", func(b drive.Blob) error {
		stat, err := s.Stat(s.ctx, b.Name)
		must(t, err)
		if diff := cmp.Diff(stat, b); diff != "" || b.Size != int64(len(b.Name)) || b.Created.IsZero() {
			t.Errorf("listed as %+v: %s", b, diff)
		}
		return nil
	}))
}

func testListStops(t *testing.T, s *suite) {
	for _, name := range listNames() {
		s.put(t, name, nil)
	}
	var seen int
	stop := errors.New("enough")
	for _, want := range []error{stop, io.EOF} {
		seen = 0
		err := s.List(s.ctx, "", "", func(drive.Blob) error {
			if seen++; seen == 6 {
				return want
			}
			return nil
		})
		if errors.Is(want, io.EOF) {
			must(t, err)
		} else if !errors.Is(err, stop) {
			t.Errorf("list ended with %v", err)
		}
		if seen != 6 {
			t.Errorf("%d calls", seen)
		}
	}
}

// testListWhileChanging lists what stays, whatever comes and goes, and calls
// the drive from within.
func testListWhileChanging(t *testing.T, s *suite) {
	for i := range 20 {
		s.put(t, fmt.Sprintf("stay/%02d", i), []byte("x"))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("stay/%02d-goes", i%20)
			if err := Put(s.ctx, s, name, nil, 0, 1); err != nil {
				t.Error(err)
			}
			if err := s.Delete(s.ctx, name); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		var stayed int
		must(t, s.List(s.ctx, "stay/", "", func(b drive.Blob) error {
			if !strings.HasSuffix(b.Name, "goes") {
				stayed++
				_, err := s.Stat(s.ctx, b.Name)
				return err
			}
			return nil
		}))
		if stayed != 20 {
			t.Errorf("%d of 20 listed", stayed)
		}
	}
	close(stop)
	wg.Wait()
}

func testDelete(t *testing.T, s *suite) {
	s.put(t, "d/x", []byte("x"))
	s.put(t, "d/y", []byte("y"))
	s.wantBlob(t, "d/x", []byte("x")) // a descriptor may be open now
	must(t, s.Delete(s.ctx, "d/x"))
	s.wantAbsent(t, "d/x")
	wantKind(t, s.Delete(s.ctx, "d/x"), fsapi.NotExist, "d/x")
	s.wantBlob(t, "d/y", []byte("y"))
	s.put(t, "d/x", []byte("another"))
	s.wantBlob(t, "d/x", []byte("another"))
}

func testDeleteMany(t *testing.T, s *suite) {
	for _, name := range listNames() {
		s.put(t, name, []byte(name))
	}
	must(t, drive.DeleteMany(s.ctx, s.Drive, []string{"seg/00/1", "none", "seg/ff/3", "a/b/c", "a/b/c/d", "b", "b"}))
	s.wantList(t, "", "", "a-/x", "a.b", "a/b-c", "a/b.c", "a/b/d", "a/b0", "a0", "seg/01/2", "seg2", "z/z/z/z")
	must(t, drive.DeleteMany(s.ctx, s.Drive, nil))
	wantKind(t, drive.DeleteMany(s.ctx, s.Drive, []string{"a0", ".bad"}), fsapi.Invalid, "")
}

func testDeleteWhileReading(t *testing.T, s *suite) {
	data := Bytes(4, 100_000)
	for i := range 20 {
		name := fmt.Sprintf("r/%d", i)
		s.put(t, name, data)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				p := make([]byte, len(data))
				for range 10 {
					if _, err := s.ReadAt(s.ctx, name, 0, p); err != nil {
						wantKind(t, err, fsapi.NotExist, name)
					} else if !bytes.Equal(p, data) {
						t.Error("wrong bytes")
					}
				}
			})
		}
		must(t, s.Delete(s.ctx, name))
		s.wantAbsent(t, name)
		wg.Wait()
		s.wantAbsent(t, name)
	}
}

func testReplace(t *testing.T, s *suite) {
	for _, data := range [][]byte{[]byte("first"), {}, Bytes(5, drive.MaxReplace), []byte("last")} {
		must(t, s.Replace(s.ctx, "p/q", data))
		s.wantBlob(t, "p/q", data)
		s.wantList(t, "", "", "p/q")
	}
	wantKind(t, s.Replace(s.ctx, "p/q", make([]byte, drive.MaxReplace+1)), fsapi.TooBig, "p/q")
	s.wantBlob(t, "p/q", []byte("last"))
	wantKind(t, Put(s.ctx, s, "p/q", []byte("commit"), 0, 10), fsapi.Exist, "p/q")
	s.put(t, "committed", []byte("x"))
	must(t, s.Replace(s.ctx, "committed", []byte("replaced")))
	s.wantBlob(t, "committed", []byte("replaced"))
	must(t, s.Delete(s.ctx, "p/q"))
	s.wantAbsent(t, "p/q")
	kept := []byte("mine")
	must(t, s.Replace(s.ctx, "mine", kept))
	copy(kept, "XXXX")
	s.wantBlob(t, "mine", []byte("mine"))
}

// testReplaceAtomic reads whole contents while they are being replaced.
func testReplaceAtomic(t *testing.T, s *suite) {
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 20_000) }
	must(t, s.Replace(s.ctx, "ptr", content(0)))
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range 15 {
				if err := s.Replace(s.ctx, "ptr", content(g*15+i)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			p := make([]byte, 20_000)
			for range 60 {
				n, err := s.ReadAt(s.ctx, "ptr", 0, p)
				if err != nil && !errors.Is(err, io.EOF) || n != len(p) || !bytes.Equal(p, content(int(p[0]))) {
					t.Errorf("read %d bytes, torn or not: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	must(t, s.Replace(s.ctx, "ptr", []byte("end")))
	s.wantBlob(t, "ptr", []byte("end"))
}

func testContext(t *testing.T, s *suite) {
	s.put(t, "c", []byte("x"))
	w, err := s.Create(s.ctx, "w", 0)
	must(t, err)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = s.Create(ctx, "n", 0)
	wantKind(t, err, fsapi.Interrupted, "n")
	_, err = s.ReadAt(ctx, "c", 0, make([]byte, 1))
	wantKind(t, err, fsapi.Interrupted, "c")
	_, err = s.Stat(ctx, "c")
	wantKind(t, err, fsapi.Interrupted, "c")
	wantKind(t, s.List(ctx, "", "", func(drive.Blob) error { return nil }), fsapi.Interrupted, "")
	wantKind(t, s.Delete(ctx, "c"), fsapi.Interrupted, "c")
	wantKind(t, drive.DeleteMany(ctx, s.Drive, []string{"c"}), fsapi.Interrupted, "")
	_, err = s.Capacity(ctx)
	wantKind(t, err, fsapi.Interrupted, "")
	wantKind(t, s.Replace(ctx, "c", []byte("y")), fsapi.Interrupted, "c")
	wantKind(t, w.Commit(ctx), fsapi.Interrupted, "w")
	s.wantAbsent(t, "w")
	s.wantBlob(t, "c", []byte("x"))

	ctx, cancel = context.WithCancel(s.ctx)
	defer cancel()
	s.put(t, "d", nil)
	var seen int
	err = s.List(ctx, "", "", func(drive.Blob) error {
		seen++
		cancel()
		return nil
	})
	if wantKind(t, err, fsapi.Interrupted, ""); seen != 1 {
		t.Errorf("%d calls after the context ended", seen-1)
	}
}

func testCapacity(t *testing.T, s *suite) {
	c, err := s.Capacity(s.ctx)
	must(t, err)
	if c.Total <= 0 || c.Avail <= 0 || c.Avail > c.Total || c.Used < 0 || c.Used > c.Total {
		t.Errorf("capacity %+v", c)
	}
	_, err = s.Create(s.ctx, "huge", c.Total+1)
	wantKind(t, err, fsapi.NoSpace, "huge")
	s.put(t, "small", []byte("x"))
}

func testConcurrent(t *testing.T, s *suite) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 12 {
				name := fmt.Sprintf("con/%d/%d", g, i)
				data := Bytes(uint64(g*100+i), i*30_000)
				if err := Put(s.ctx, s, name, data, int64(len(data))*int64(i%2), 50_000); err != nil {
					t.Error(err)
				}
				got, err := Get(s.ctx, s, name)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %v", name, err)
				}
				if i%3 == 0 {
					if err := s.Delete(s.ctx, name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := len(s.list(t, "con/", "")); got != 8*8 {
		t.Errorf("%d blobs left, want %d", got, 8*8)
	}
}

// testHistory compares a random sequence of calls with a map.
func testHistory(t *testing.T, s *suite) {
	r := rand.New(rand.NewPCG(3, 3))
	model := map[string][]byte{}
	for i := range 300 {
		name := fmt.Sprintf("h/%d/%d", r.IntN(3), r.IntN(6))
		old, exists := model[name]
		data := Bytes(uint64(i), r.IntN(9000))
		switch r.IntN(6) {
		case 0, 1:
			err := Put(s.ctx, s, name, data, int64(r.IntN(9000)), 1+r.IntN(5000))
			if exists {
				wantKind(t, err, fsapi.Exist, name)
			} else {
				must(t, err)
				model[name] = data
			}
		case 2:
			must(t, s.Replace(s.ctx, name, data))
			model[name] = data
		case 3:
			err := s.Delete(s.ctx, name)
			if exists {
				must(t, err)
			} else {
				wantKind(t, err, fsapi.NotExist, name)
			}
			delete(model, name)
		case 4:
			if exists {
				s.wantBlob(t, name, old)
			} else {
				s.wantAbsent(t, name)
			}
		default:
			var want []string
			for n := range model {
				if n > name {
					want = append(want, n)
				}
			}
			slices.Sort(want)
			s.wantList(t, "h/", name, want...)
		}
	}
}

func testClose(t *testing.T, s *suite) {
	s.put(t, "x", []byte("x"))
	w, err := s.Create(s.ctx, "w", 0)
	must(t, err)
	_, err = w.Write(Bytes(6, 3<<20))
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	_, err = s.Create(s.ctx, "y", 0)
	wantKind(t, err, fsapi.Closed, "y")
	_, err = s.ReadAt(s.ctx, "x", 0, make([]byte, 1))
	wantKind(t, err, fsapi.Closed, "x")
	_, err = s.Stat(s.ctx, "x")
	wantKind(t, err, fsapi.Closed, "x")
	wantKind(t, s.List(s.ctx, "", "", func(drive.Blob) error { return nil }), fsapi.Closed, "")
	wantKind(t, s.Delete(s.ctx, "x"), fsapi.Closed, "x")
	wantKind(t, s.Replace(s.ctx, "x", nil), fsapi.Closed, "x")
	_, err = s.Capacity(s.ctx)
	wantKind(t, err, fsapi.Closed, "")
	_, err = w.Write([]byte("x"))
	wantKind(t, err, fsapi.Closed, "w")
	wantKind(t, w.Commit(s.ctx), fsapi.Closed, "w")
	w.Abort()
}

func testReopen(t *testing.T, s *suite) {
	if s.caps.Reopen == nil {
		t.Skip("this drive cannot be opened again")
	}
	data := Bytes(7, 1<<20+1)
	s.put(t, "seg/ab/kept", data)
	must(t, s.Replace(s.ctx, "pointer", []byte("p")))
	w, err := s.Create(s.ctx, "seg/ab/lost", 0)
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	info := s.Info()
	must(t, s.Close())
	s.Drive = s.caps.Reopen(t, s.Drive)
	if diff := cmp.Diff(info, s.Info()); diff != "" {
		t.Errorf("info: %s", diff)
	}
	s.wantList(t, "", "", "pointer", "seg/ab/kept")
	s.wantBlob(t, "seg/ab/kept", data)
	s.wantBlob(t, "pointer", []byte("p"))
	wantKind(t, Put(s.ctx, s, "seg/ab/kept", nil, 0, 1), fsapi.Exist, "seg/ab/kept")
}
