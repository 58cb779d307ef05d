package osfs_test

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strakefs/strake/internal/osfs"
)

// write is one Write of 100 bytes to a new file on a faulty Mem.
func write(t *testing.T, f *osfs.Fault, name string) (int, error) {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer file.Close()
	return file.Write(make([]byte, 100))
}

func TestFaultTornWrite(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	f := osfs.NewFault(m, func(c osfs.Call) osfs.Outcome {
		if c.Op == osfs.OpWrite {
			return osfs.Outcome{Err: syscall.EIO, Short: 30}
		}
		return osfs.Outcome{}
	})
	n, err := write(t, f, "/f")
	if wantIs(t, err, syscall.EIO); n != 30 {
		t.Errorf("wrote %d", n)
	}
	if got := len(get(t, m, "/f")); got != 30 {
		t.Errorf("%d bytes arrived below", got)
	}
}

func TestFaultFlipsABit(t *testing.T) {
	m := osfs.NewMem(osfs.MemOptions{})
	put(t, m, "/f", "\x00\x00\x00")
	f := osfs.NewFault(m, func(osfs.Call) osfs.Outcome { return osfs.Outcome{FlipBit: 11} })
	file, err := f.OpenFile("/f", os.O_RDONLY, 0)
	must(t, err)
	got, err := io.ReadAll(io.NewSectionReader(file, 0, 3))
	must(t, err)
	if !bytes.Equal(got, []byte{0, 4, 0}) {
		t.Errorf("read %v", got)
	}
	if got := get(t, m, "/f"); got != "\x00\x00\x00" {
		t.Errorf("the file itself changed: %q", got)
	}
}

func TestFaultDelaysAndSwapsRules(t *testing.T) {
	var slept time.Duration
	f := osfs.NewFault(osfs.NewMem(osfs.MemOptions{}), func(c osfs.Call) osfs.Outcome {
		return osfs.Outcome{Delay: time.Hour}
	})
	f.SetSleep(func(d time.Duration) { slept += d })
	file, err := f.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	if slept != time.Hour {
		t.Errorf("slept %v", slept)
	}
	f.SetRule(osfs.FailOp(osfs.OpSync, "f", syscall.EIO))
	wantIs(t, file.Sync(), syscall.EIO)
	wantIs(t, file.SyncData(), syscall.EIO)
	f.SetRule(nil)
	must(t, file.Sync())
	if slept != time.Hour {
		t.Errorf("slept %v", slept)
	}
}

func TestRules(t *testing.T) {
	results := func(rule osfs.Rule, calls ...osfs.Call) (failed []bool) {
		for _, c := range calls {
			failed = append(failed, rule(c).Err != nil)
		}
		return failed
	}
	a, b := osfs.Call{Op: osfs.OpWrite, Name: "/x/a.log", Len: 100}, osfs.Call{Op: osfs.OpRead, Name: "/x/b.sst", Len: 100}
	for name, c := range map[string]struct {
		rule  osfs.Rule
		calls []osfs.Call
		want  []bool
	}{
		"nth":        {osfs.FailNth(2, syscall.EIO), []osfs.Call{a, b, a}, []bool{false, true, false}},
		"op":         {osfs.FailOp(osfs.OpRead, "*", syscall.EIO), []osfs.Call{a, b}, []bool{false, true}},
		"glob":       {osfs.FailOp("", "*.log", syscall.EIO), []osfs.Call{a, b}, []bool{true, false}},
		"whole name": {osfs.FailOp("", "/x/*.sst", syscall.EIO), []osfs.Call{a, b}, []bool{false, true}},
		"between":    {osfs.FailBetween(osfs.OpWrite, "*", 2, 3, syscall.EIO), []osfs.Call{a, b, a, a, a}, []bool{false, false, true, true, false}},
		"full":       {osfs.FullAfter(250), []osfs.Call{a, b, a, a, a}, []bool{false, false, false, true, true}},
		"first":      {osfs.First(osfs.FailNth(1, syscall.EIO), osfs.FailNth(2, syscall.EIO)), []osfs.Call{a, a, a}, []bool{true, true, false}},
	} {
		if diff := cmp.Diff(c.want, results(c.rule, c.calls...)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	full := osfs.FullAfter(250)
	full(a)
	full(a)
	if o := full(a); o.Short != 50 {
		t.Errorf("the write that did not fit passed on %d bytes", o.Short)
	}
}

func TestRandomRuleIsRepeatable(t *testing.T) {
	odds := osfs.Odds{Fail: 0.2, Ops: []osfs.Op{osfs.OpWrite}, Flip: 0.5, Slow: 0.1, Delay: time.Second}
	one, two := osfs.Random(7, odds), osfs.Random(7, odds)
	var failed, flipped, slow int
	for i := range 1000 {
		c := osfs.Call{Op: []osfs.Op{osfs.OpWrite, osfs.OpRead}[i%2], Len: 64}
		a, b := one(c), two(c)
		if a != b {
			t.Fatalf("call %d: %v and %v", i, a, b)
		}
		if a.Err != nil && c.Op != osfs.OpWrite || a.FlipBit != 0 && c.Op != osfs.OpRead || a.FlipBit > 8*64 {
			t.Fatalf("call %d %v: %v", i, c, a)
		}
		failed += bool2int(a.Err != nil)
		flipped += bool2int(a.FlipBit > 0)
		slow += bool2int(a.Delay > 0)
	}
	if failed < 50 || failed > 150 || flipped < 200 || flipped > 300 || slow < 50 || slow > 150 {
		t.Errorf("failed %d, flipped %d, slow %d", failed, flipped, slow)
	}
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}
