package meta

import (
	"context"
	"errors"
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
)

// Problem is a broken invariant between records.
type Problem struct {
	Kind string // one of the Problem constants
	Text string // names the records, for people
	// Mendable says that Repair can put it right without losing anything that
	// is not lost already.
	Mendable bool

	mend func(tx *Tx) error
}

// The kinds of problem.
const (
	ProblemDamaged = "damaged record"    // a record that cannot be read
	ProblemName    = "name"              // a name without inode or directory, or a bad one
	ProblemInode   = "inode"             // an inode without name, or whose flags and records disagree
	ProblemLinks   = "link count"        // of a file or directory
	ProblemIndex   = "index"             // an entry missing in or left over in a table that repeats others
	ProblemExtent  = "extent"            // overlapping, out of bounds, without inode, without chunk
	ProblemUsed    = "used bytes"        // Attr.Used is not the sum of extents
	ProblemRefs    = "reference count"   // of a chunk
	ProblemChunk   = "chunk"             // whose segment or journal frame is not recorded
	ProblemLive    = "live bytes"        // of a segment or the journal
	ProblemUsage   = "usage"             // of a volume, directory or quota
	ProblemHistory = "history"           // what is kept for snapshots
	ProblemTree    = "unreachable names" // directories no way leads to
)

// check is one run over a volume. It reads one snapshot; memory is bounded by
// the depth of the tree, the number of segments and chunkSlice, whatever the
// number of inodes and extents.
type check struct {
	ctx      context.Context
	tx       *Tx // reads the snapshot
	progress func(stage string, done int64)
	report   func(Problem)
	stage    string
	done     int64

	next  uint64 // numbers below were given out
	dirs  int64  // live directories, the root included
	usage fsapi.Usage
	seen  dirGroup
}

// Check verifies every invariant between the records of a volume, from one
// snapshot, and reports each that is broken. progress, which may be nil, is
// called now and then. The error is nil where the check could run to its end,
// whatever it found. Two names in one directory with the same cookie are not
// looked for.
func (s *Store) Check(ctx context.Context, vol fsapi.VolumeID, progress func(stage string, done int64), report func(Problem)) (err error) {
	snap, err := s.e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	tx := &Tx{s: s}
	tx.begin(vol, snap, nil)
	c := newCheck(ctx, tx, progress, report)
	return c.run([]checkStep{
		{"volume", c.volume},
		{"names", c.names},
		{"inodes", c.inodes},
		{"attributes", c.attributes},
		{"queues", c.queues},
		{"extents", c.extents},
		{"history", c.history},
		{"chunks", c.chunks},
		{"segments", c.journal},
		{"usage", c.usages},
	})
}

// checkStep is one pass over records.
type checkStep struct {
	stage string
	run   func() error
}

func newCheck(ctx context.Context, tx *Tx, progress func(stage string, done int64), report func(Problem)) *check {
	if progress == nil {
		progress = func(string, int64) {}
	}
	return &check{ctx: ctx, tx: tx, progress: progress, report: report}
}

func (c *check) run(steps []checkStep) error {
	for _, step := range steps {
		c.stage, c.done = step.stage, 0
		if err := step.run(); err != nil {
			return err
		}
		c.progress(c.stage, c.done)
	}
	return nil
}

// tick counts a record and gives up where the context has ended.
func (c *check) tick() error {
	if c.done++; c.done%4096 != 0 {
		return nil
	}
	c.progress(c.stage, c.done)
	return c.ctx.Err()
}

func (c *check) bad(kind string, mend func(tx *Tx) error, format string, args ...any) {
	c.report(Problem{Kind: kind, Text: fmt.Sprintf(format, args...), Mendable: mend != nil, mend: mend})
}

// damaged reports an error that says a record is damaged, and passes on any
// other.
func (c *check) damaged(err error) error {
	if err == nil {
		return nil
	}
	if fsapi.KindOf(err) != fsapi.Corrupt {
		return err
	}
	c.bad(ProblemDamaged, nil, "%v", err)
	return nil
}

// table calls fn for every record of a table of the volume whose key has at
// least min bytes. fn may read but not keep the slices.
func (c *check) table(tab byte, minLen int, fn func(k, v []byte) error) error {
	from := volKey(nil, tab, c.tx.vol)
	return c.tx.r.Scan(from, after(nil, from), func(k, v []byte) (bool, error) {
		if err := c.tick(); err != nil {
			return false, err
		}
		if len(k) < minLen {
			c.bad(ProblemDamaged, nil, "%v", corrupt(k, "bad key"))
			return true, nil
		}
		return true, fn(k, v)
	})
}

// count is the number of keys with a prefix.
func (c *check) count(prefix []byte) (n int64, err error) {
	err = c.tx.scan(prefix, func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

// any reports whether there is a key with a prefix.
func (c *check) any(prefix []byte) (found bool, err error) {
	err = c.tx.scan(prefix, func(_, _ []byte) (bool, error) {
		found = true
		return false, nil
	})
	return found, err
}

// there reports whether there is a key.
func (c *check) there(key []byte) (bool, error) {
	_, ok, err := c.tx.r.Get(key)
	return ok, err
}

// counter reports a counter that is not what it should be. It is mended by
// what it is off, so that what others add meanwhile stays.
func (c *check) counter(kind string, key []byte, want int64, what string) error {
	if c.tx.past { // counters are of the present
		return nil
	}
	got, err := c.tx.r.Counter(key)
	if err != nil || got == want {
		return err
	}
	k := append([]byte(nil), key...)
	c.bad(kind, func(tx *Tx) error {
		tx.w.Add(k, want-got)
		return nil
	}, "%s is counted as %d and is %d", what, got, want)
	return nil
}

func putKey(k []byte) func(tx *Tx) error {
	return func(tx *Tx) error {
		tx.w.Put(k, nil)
		return nil
	}
}

func deleteKey(k []byte) func(tx *Tx) error {
	k = append([]byte(nil), k...)
	return func(tx *Tx) error {
		tx.w.Delete(k)
		return nil
	}
}

// volume checks what the volume's record counts.
func (c *check) volume() error {
	if err := c.tx.readVolume(); err != nil {
		return err
	}
	key := volKey(nil, tabNumber, c.tx.vol)
	v, ok, err := c.tx.r.Get(key)
	if err != nil {
		return err
	}
	c.next = firstNumber
	if ok {
		d := dec{b: v}
		if c.next = d.uint(); !d.done() {
			return corrupt(key, "bad number")
		}
	}
	for _, x := range []struct {
		tab  byte
		what string
		got  uint64
		mend func(v *volumeRecord, n uint64)
	}{
		{tabQuota, "quotas", c.tx.volume.quotas, func(v *volumeRecord, n uint64) { v.quotas = n; v.epoch++ }},
		{tabPolicy, "policies", c.tx.volume.policies, func(v *volumeRecord, n uint64) { v.policies = n }},
	} {
		n, err := c.count(volKey(nil, x.tab, c.tx.vol))
		if err != nil {
			return err
		}
		if want := uint64(n); want != x.got {
			c.bad(ProblemIndex, func(tx *Tx) error {
				x.mend(&tx.volume, want)
				tx.putVolume()
				return nil
			}, "the volume has %d %s and says %d", want, x.what, x.got)
		}
	}
	return nil
}
