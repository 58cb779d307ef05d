package bucket

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/osfs"
)

// post is a way to the bucket on which a request for a journal object is held up for
// as long as it pleases: whoever made it learns that nothing answers.
type post struct {
	object.Store
	mu   sync.Mutex
	hold func() // the next request for a journal object is held up, once hold returns; guarded by mu

	key  string // of the request that was
	body []byte
}

// holdUp holds the next request up; meanwhile is called before its maker is told. The
// requests that meanwhile makes pass.
func (p *post) holdUp(meanwhile func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = meanwhile
}

func (p *post) Put(ctx context.Context, key string, body io.ReaderAt, size int64, c object.Condition) (object.Version, error) {
	p.mu.Lock()
	hold := p.hold
	if hold == nil || !strings.HasPrefix(key, prefixJournal) {
		p.mu.Unlock()
		return p.Store.Put(ctx, key, body, size, c)
	}
	p.hold = nil
	p.mu.Unlock()
	b, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	if err != nil {
		return "", err
	}
	p.key, p.body = key, b
	hold()
	return "", errDown
}

// arrive lets the request that was held up arrive.
func (p *post) arrive(ctx context.Context) error {
	_, err := object.PutBytes(ctx, p.Store, p.key, p.body, object.IfAbsent())
	return err
}

// posted is a process whose requests may be held up.
func posted(t *testing.T, b *mem.Bucket, name string) (*process, *post) {
	p := &process{name: name, gate: &gate{Store: opened(t, b)}}
	mail := &post{Store: p.gate}
	p.o = small(mail, osfs.NewMem(osfs.MemOptions{}))
	p.o.Clock = &skewed{}
	p.o.CheckpointObjects, p.o.CheckpointBytes = math.MaxInt64, math.MaxInt64 // thrive makes checkpoints
	return p, mail
}

// journals is what lies in the journal up to a number at least, a character for each
// from 1 on: s for the beginning of an epoch, b for batches, and . for nothing.
func journals(t *testing.T, b *mem.Bucket, to uint64) string {
	t.Helper()
	r := &remote{Store: opened(t, b), key: testKey}
	var out []byte
	must(t, r.List(t.Context(), prefixJournal, "", func(o object.Object) error {
		n, _ := parseJournal(o.Key)
		rec, ok, err := r.readJournal(t.Context(), n)
		if err != nil || !ok {
			return fmt.Errorf("%s: %v, %w", o.Key, ok, err)
		}
		for uint64(len(out)) < n-1 {
			out = append(out, '.')
		}
		out = append(out, map[kind]byte{kindStart: 's', kindBatches: 'b'}[rec.kind])
		return nil
	}))
	for uint64(len(out)) < to {
		out = append(out, '.')
	}
	return string(out)
}

// rest is a follower that looks for news only when it is told to.
func rest(t *testing.T, b *mem.Bucket) *Follower {
	t.Helper()
	o := small(opened(t, b), osfs.NewMem(osfs.MemOptions{}))
	o.PollMin, o.PollMax = 1000*time.Hour, 1000*time.Hour
	f, err := Follow(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// TestLateRequest: a request for a journal object that arrives when what was in the
// journal then has long been removed changes nothing for anybody, whoever made it. What
// it makes, the next writer removes.
func TestLateRequest(t *testing.T) {
	for _, c := range []struct {
		name string
		// story is of a, who has just begun, and whose last write that is durable is
		// its 11th. It says whose request is held up, and who writes in the end.
		story func(t *testing.T, b *mem.Bucket, a *process, mail *post) (late *post, now *process)
		err   error // what becomes of the request
		after byte  // what is at its number when it has arrived
		left  byte  // what is there in the end
	}{
		{"of the writer", func(t *testing.T, _ *mem.Bucket, a *process, mail *post) (*post, *process) {
			mail.holdUp(func() {})
			must(t, a.write(t.Context(), 11))
			return mail, a
		}, nil, 'b', '.'},
		{"of a writer that was fenced", func(t *testing.T, b *mem.Bucket, a *process, mail *post) (*post, *process) {
			mail.holdUp(func() {})
			must(t, a.write(t.Context(), 11))
			now, _ := posted(t, b, "b")
			must(t, now.open(t.Context()))
			return mail, now
		}, nil, 'b', '.'},
		{"with which its writer was fenced", func(t *testing.T, b *mem.Bucket, a *process, mail *post) (*post, *process) {
			must(t, a.write(t.Context(), 11))
			now, _ := posted(t, b, "b")
			mail.holdUp(func() { must(t, now.open(t.Context())) })
			wantFenced(t, a.write(t.Context(), 3))
			return mail, now
		}, fsapi.Precondition, 's', 's'},
		// It would begin an epoch, at a number that its predecessor took meanwhile. What
		// begins an epoch stays.
		{"of one that takes over", func(t *testing.T, b *mem.Bucket, a *process, _ *post) (*post, *process) {
			now, mail := posted(t, b, "b")
			mail.holdUp(func() { must(t, a.write(t.Context(), 11)) })
			must(t, now.open(t.Context()))
			return mail, now
		}, nil, 's', 's'},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mem.New(mem.Options{})
			a, mail := posted(t, b, "a")
			must(t, a.open(t.Context()))
			asleep := rest(t, b)
			late, now := c.story(t, b, a, mail)
			if now != a {
				wantFenced(t, a.write(t.Context(), 3))
				_ = a.e.Close()
				a.n = 11
			}
			now.thrive(t)
			at, ok := parseJournal(late.key)
			if !ok {
				t.Fatalf("%q was held up", late.key)
			}
			if there := journals(t, b, at)[at-1]; there != '.' && c.err == nil {
				t.Fatalf("%s is there before it arrives: %c", late.key, there)
			}
			if err := late.arrive(t.Context()); (err != nil || c.err != nil) && fsapi.KindOf(err) != fsapi.KindOf(c.err) {
				t.Fatalf("%s arrives: %v", late.key, err)
			}
			if all := journals(t, b, at); all[at-1] != c.after {
				t.Fatalf("the journal when %s has arrived: %s", late.key, all)
			}

			same := func(who string, e kv.Engine) {
				t.Helper()
				for _, p := range []*process{a, now} {
					if n := seen(t, e, p.name); n != p.n {
						t.Errorf("%s shows %d of %d writes of %s", who, n, p.n, p.name)
					}
				}
			}
			must(t, now.write(t.Context(), 11))
			must(t, now.e.Sync(t.Context()))
			must(t, asleep.CatchUp(t.Context()))
			same("a follower that slept", asleep)
			same("a new follower", rest(t, b))
			next, _ := posted(t, b, "c")
			must(t, next.open(t.Context()))
			written := now.n
			wantFenced(t, now.write(t.Context(), 3))
			_ = now.e.Close()
			now.n = written
			same("the next writer", next.e)

			next.thrive(t)
			from := next.e.s.chain.now.from
			all := journals(t, b, from)
			if all[0] != 's' || all[at-1] != c.left || strings.Contains(all[:from-1], "b") {
				t.Errorf("the journal in the end, where %s was late: %s", late.key, all)
			}
			same("the next writer in the end", next.e)
			lists := next.gate.count["list"]
			next.thrive(t)
			if n := next.gate.count["list"] - lists; n != 0 {
				t.Errorf("later checkpoints listed %d times", n)
			}
			must(t, next.e.Close())
		})
	}
}

// TestOldJournalDamaged: an object before the manifest's beginning of the journal that
// does not verify stays, and holds no checkpoint up.
func TestOldJournalDamaged(t *testing.T) {
	b := mem.New(mem.Options{})
	a, mail := posted(t, b, "a")
	must(t, a.open(t.Context()))
	mail.holdUp(func() {})
	must(t, a.write(t.Context(), 11))
	a.thrive(t)
	must(t, a.e.Close())
	mail.body[len(mail.body)-1] ^= 1
	must(t, mail.arrive(t.Context()))
	next := inherit(t, b, "c")
	next.thrive(t)
	must(t, next.e.Close())
	if _, err := opened(t, b).Stat(t.Context(), mail.key); err != nil {
		t.Error(err)
	}
}
