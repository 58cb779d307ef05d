package provider_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
)

// sharer is one of several stores that share memory.
type sharer struct {
	*provider.Store
	t *testing.T
	b *mem.Bucket
}

func newSharer(t *testing.T, m *provider.Memory) sharer {
	b := mem.New(mem.Options{Whole: 400})
	return sharer{opened(t, b, provider.Options{PartSize: 100, Hold: m}), t, b}
}

// write writes an object of 400 bytes, of which 300 may be held.
func (s sharer) write(key string) {
	s.commit(s.begin(key))
}

func (s sharer) begin(key string) object.Writer {
	w, err := s.Create(s.t.Context(), key, 0, object.Condition{})
	if err == nil {
		_, err = w.Write(objecttest.Bytes(1, 400))
	}
	if err != nil {
		s.t.Error(err)
	}
	return w
}

func (s sharer) commit(w object.Writer) {
	if _, err := w.Commit(s.t.Context()); err != nil {
		s.t.Error(err)
	}
}

// sent says in how many requests an object was made, and that it is there.
func (s sharer) sent(key string, f func()) int64 {
	before := s.Requests().Puts
	f()
	puts := s.Requests().Puts - before
	p := make([]byte, 400)
	if _, _, err := s.Get(s.t.Context(), key, 0, p); err != nil || !bytes.Equal(p, objecttest.Bytes(1, 400)) {
		s.t.Errorf("%s: wrong bytes, %v", key, err)
	}
	return puts
}

const (
	whole = 1         // requests for an object of four parts
	parts = 1 + 4 + 1 // the same, in parts
)

// hang makes the requests that send something wait until the end of what it returns.
func (s sharer) hang() (end func()) {
	gate := make(chan struct{})
	s.b.SetRule(func(r mem.Request) mem.Outcome {
		if r.Op == mem.Put || r.Op == mem.Begin {
			<-gate
		}
		return mem.Outcome{}
	})
	return sync.OnceFunc(func() { s.b.SetRule(nil); close(gate) })
}

// TestMemoryOfAll bounds what all stores hold, and has none wait for another: where
// one hangs that holds all there is, the others send in parts; and where it hangs
// while others write, it has its share and leaves them theirs.
func TestMemoryOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 600 // two objects
		m := provider.NewMemory(most)
		stuck, well := newSharer(t, m), newSharer(t, m)
		var wait sync.WaitGroup
		fill := func(name string) { // more than there is memory for
			for i := range 5 {
				wait.Go(func() { stuck.write(fmt.Sprintf("%s-%d", name, i)) })
			}
			synctest.Wait()
		}
		// Alone, it has all of it.
		end := stuck.hang()
		fill("alone")
		if m.Held() != most {
			t.Fatalf("%d bytes held by one that is alone, not %d", m.Held(), most)
		}
		if n := well.sent("all-gone", func() { well.write("all-gone") }); n != parts {
			t.Errorf("%d requests beside one that holds all, not %d", n, parts)
		}
		if m.Held() > most {
			t.Fatalf("%d bytes held, which is more than %d", m.Held(), most)
		}
		end()
		wait.Wait()
		if m.Held() != 0 {
			t.Fatalf("%d bytes were not given back", m.Held())
		}
		// The other was first, and goes on.
		end = stuck.hang()
		n := well.sent("first", func() {
			w := well.begin("first")
			fill("beside")
			if m.Held() != most {
				t.Errorf("%d bytes held by two, not %d", m.Held(), most)
			}
			well.commit(w)
		})
		if n != whole {
			t.Errorf("%d requests of one that has its share", n)
		}
		end()
		wait.Wait()
		if m.Held() != 0 {
			t.Fatalf("%d bytes were not given back", m.Held())
		}
	})
}

// TestMemoryIsShared has a store that writes much leave another its share of what it
// gives back, though objects of its own wait for it.
func TestMemoryIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := provider.NewMemory(600)
		much, little := newSharer(t, m), newSharer(t, m)
		gates := map[string]chan struct{}{}
		for _, key := range []string{"1", "2", "3"} {
			gates[key] = make(chan struct{})
		}
		much.b.SetRule(func(r mem.Request) mem.Outcome {
			if gate := gates[r.Key]; r.Op == mem.Put && gate != nil {
				<-gate
			}
			return mem.Outcome{}
		})
		var wait sync.WaitGroup
		for _, key := range []string{"1", "2", "3"} {
			wait.Go(func() { much.write(key) })
			synctest.Wait() // the third waits for the memory of one of the others
		}
		w, err := little.Create(t.Context(), "x", 400, object.Condition{})
		if err != nil {
			t.Fatal(err)
		}
		close(gates["1"])
		synctest.Wait()
		if m.Held() != 300 {
			t.Errorf("%d bytes held: what one gave back it took again", m.Held())
		}
		n := little.sent("x", func() {
			if _, err := w.Write(objecttest.Bytes(1, 400)); err != nil {
				t.Error(err)
			}
			little.commit(w)
		})
		if n != whole {
			t.Errorf("%d requests of one that has its share", n)
		}
		close(gates["2"])
		close(gates["3"])
		wait.Wait()
		if m.Held() != 0 {
			t.Fatalf("%d bytes were not given back", m.Held())
		}
	})
}
