package history

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
	"github.com/strakefs/strake/internal/vfs"
	"github.com/strakefs/strake/test/stack"
)

var (
	flagSeed = flag.Uint64("seed", 1, "seed of the histories")
	flagOps  = flag.Int("ops", 0, "operations of each history; 0: as many as there is time for")
)

// long reports whether there is time.
func long() bool { return os.Getenv("STRAKE_LONG") != "" }

// config is how a volume is stored.
type config struct {
	name string
	o    stack.Options
}

// configs are engines × chunkings × ciphers × compressions.
func configs() []config {
	var list []config
	chunkings := map[string]policy.Chunking{"cdc": {Min: 512, Avg: 4096, Max: 16384}, "fixed": {Fixed: 4096}, "default": {}}
	for _, engine := range []string{stack.Mem, stack.Pebble} {
		for _, chunking := range []string{"cdc", "fixed", "default"} {
			for _, cipher := range []fsapi.Cipher{fsapi.CipherNone, fsapi.CipherAES256GCM, fsapi.CipherXChaCha20} {
				for _, compression := range []policy.Compression{"auto", "none", "s2", "zstd-3"} {
					list = append(list, config{
						name: fmt.Sprintf("%s-%s-%s-%s", engine, chunking, cipher, compression),
						o: stack.Options{
							Engine: engine, Cipher: cipher, Drives: 2,
							Policy: policy.Policy{Chunking: chunkings[chunking], Compression: compression},
						},
					})
				}
			}
		}
	}
	for i := range list {
		list[i].small(i)
	}
	return list
}

// small makes bounds small in one of several ways, so that they are met.
func (c *config) small(i int) {
	c.o.BlobOptions = func(o *blob.Options) {
		o.SegmentBytes = 256 << 10
		o.CacheBytes = 256 << 10
		o.JournalMax = []int{1 << 10, 16 << 10, 512 << 10}[i%3]
	}
	c.o.VFSOptions = func(o *vfs.Options) {
		o.DirtyMax = []int64{1 << 20, 4 << 20, 256 << 20}[i/3%3]
		o.FlushAge = []time.Duration{5 * time.Millisecond, 100 * time.Millisecond, 5 * time.Second}[i/2%3]
		o.Segment = 128 << 10
		o.Nodes = 20
		if i%2 == 0 {
			o.InlineMax = -1
		}
	}
	if i%5 == 1 {
		c.o.Policy.Trash = time.Hour
	}
	c.o.Policy.Atime = []policy.Atime{policy.Relatime, policy.StrictAtime, policy.NoAtime}[i/7%3]
	if i%4 == 3 {
		c.o.Policy.Copies = []policy.Copy{{Tier: "hot", Replicas: 2}}
	}
}

// TestHistory compares random histories over every way to store a volume; in
// short runs over some of them, others with another seed.
func TestHistory(t *testing.T) {
	all := configs()
	ops, step := 2000/slowdown, 5
	if long() {
		ops, step = 6000, 1
	}
	if *flagOps > 0 {
		ops, step = *flagOps, 1
	}
	for i := int(*flagSeed % uint64(step)); i < len(all); i += step {
		c := all[i]
		t.Run(c.name, func(t *testing.T) {
			seed := *flagSeed*1000 + uint64(i)
			list := generate(seed, ops)
			at, trace, err := play(c, list)
			if err == nil {
				return
			}
			t.Errorf("operation %d of seed %d: %v\n\nrepeat with\n\tgo test ./test/history -run '^TestHistory$/^%s$' -seed %d -ops %d\n\nlast of it:\n%s",
				at, seed, err, c.name, *flagSeed, ops, tail(trace, 30))
			if shorter, trace, err := shrink(c, list[:at+1]); err != nil {
				t.Errorf("%d operations suffice: %v\n%s\n%v", len(shorter), err, tail(trace, 200), shorter)
			}
		})
	}
}

func tail(lines []string, n int) string {
	return "\t" + strings.Join(lines[max(0, len(lines)-n):], "\n\t")
}

// play runs a history on a new volume. at is the operation that failed.
func play(c config, list []op) (at int, trace []string, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := stack.Open(c.o)
	if err != nil {
		return 0, nil, err
	}
	defer func() {
		if e := s.Close(); err == nil && e != nil {
			err = fmt.Errorf("close: %w", e)
		}
	}()
	w := newWorld(ctx, s.Local, fsapi.RootIno, "", c.o.Policy.Atime)
	w.drop = func() error { return s.Local.DropCaches(ctx) }
	w.check = func() error { return s.Check(ctx) }
	w.restart = func() (vfs.FS, error) { err := s.Restart(); return s.Local, err }
	w.upkeep = func(r uint32) error { return upkeepOf(ctx, s, r) }
	for i, o := range list {
		if err := w.run(o); err != nil {
			return i, w.trace, err
		}
	}
	return len(list) - 1, w.trace, finish(ctx, w, s)
}

// finish compares everything, and checks that nothing is left over.
func finish(ctx context.Context, w *world, s *stack.Stack) error {
	if err := w.closeAll(); err != nil {
		return err
	}
	if err := w.restartReal([8]uint32{}); err != nil {
		return err
	}
	if err := s.CheckSpace(ctx); err != nil {
		return err
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	return w.compareTree([8]uint32{1})
}

func upkeepOf(ctx context.Context, s *stack.Stack, r uint32) error {
	var err error
	switch r % 4 {
	case 0:
		_, err = s.Upkeep.Pack(ctx)
	case 1:
		_, err = s.Upkeep.Compact(ctx, true)
	case 2:
		err = s.GC(ctx)
	case 3:
		err = s.CheckMeta(ctx)
	}
	if err != nil {
		return fmt.Errorf("upkeep %d: %w", r%4, err)
	}
	return nil
}

// shrinkTime bounds shrinking.
const shrinkTime = 40 * time.Second

// shrink leaves out operations while the rest still fails: halves first, then
// smaller and smaller parts.
func shrink(c config, list []op) ([]op, []string, error) {
	stop := time.Now().Add(shrinkTime)
	var last error
	var trace []string
	for part := len(list) / 2; part >= 1; part /= 2 {
		for from := 0; from+part <= len(list) && time.Now().Before(stop); {
			rest := append(append([]op(nil), list[:from]...), list[from+part:]...)
			at, tr, err := play(c, rest)
			if err == nil {
				from += part
				continue
			}
			list, last, trace = rest[:at+1], err, tr
		}
	}
	return list, trace, last
}
