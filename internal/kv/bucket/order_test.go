package bucket

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

// TestSyncDuringApply: who syncs, or makes a checkpoint, while a batch is in the
// tables and not in the queue yet, waits for that: the batch is not taken for one
// that was lost.
func TestSyncDuringApply(t *testing.T) {
	o := small(opened(t, mem.New(mem.Options{})), osfs.NewMem(osfs.MemOptions{}))
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	s := e.s

	s.applying.Lock() // as apply does
	c, _, err := kv.DecodeCommit(kv.AppendBatch(nil, kv.Batch{Seq: s.Applied() + 1, Stamp: 1}))
	must(t, err)
	must(t, s.Tables.Apply(c))
	synced := make(chan error, 1)
	go func() { synced <- s.Sync() }()
	for !waits("(*store).drainAll") {
		select {
		case err := <-synced:
			s.applying.Unlock()
			t.Fatalf("it did not wait for the batch that is being applied: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	s.queue.add(c, o.ObjectBytes)
	s.applying.Unlock()
	must(t, <-synced)
	if got := s.journal.journaled.Seq; got != c.Seq {
		t.Errorf("batch %d was applied, %d is in the journal", c.Seq, got)
	}
}

// TestManifestFollowsJournal: while the bucket takes no journal objects, no
// checkpoint comes to count that holds what should be in one (B5).
func TestManifestFollowsJournal(t *testing.T) {
	g := &gate{Store: opened(t, mem.New(mem.Options{}))}
	o := small(g, osfs.NewMem(osfs.MemOptions{}))
	o.Clock, o.CheckpointObjects, o.CheckpointBytes = &skewed{}, 1<<30, 1<<30
	e, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, e.Close()) }()
	before, _, err := e.s.remote.loadHead(t.Context())
	must(t, err)
	_, err = e.Update(t.Context(), kv.UpdateOptions{}, func(tx kv.Tx) error { tx.Put([]byte("k"), []byte("v")); return nil })
	must(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	g.set(func(_ int, op, key string) outcome {
		if op != "put" || !strings.HasPrefix(key, prefixJournal) {
			return outcome{}
		}
		cancel()
		return outcome{err: errDown}
	})
	if err := e.Checkpoint(ctx); err == nil {
		t.Error("a checkpoint was made of a batch that is not in the journal")
	}
	after, _, err := e.s.remote.loadHead(t.Context())
	must(t, err)
	if after.manifest != before.manifest {
		t.Errorf("manifest %d counts", after.manifest.number)
	}
	g.set(nil)
	must(t, e.Checkpoint(t.Context()))
}

// waits says whether a goroutine is in a function and waits for a lock there.
func waits(in string) bool {
	all := make([]byte, 1<<20)
	for g := range bytes.SplitSeq(all[:runtime.Stack(all, true)], []byte("\n\n")) {
		if bytes.Contains(g, []byte(in)) && bytes.Contains(g, []byte("sync.(*Mutex).Lock")) {
			return true
		}
	}
	return false
}
