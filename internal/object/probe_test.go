package object_test

import (
	"context"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/clock"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/mem"
	"github.com/strakefs/strake/internal/object/provider"
)

// later is a clock that is ahead.
type later struct {
	clock.Clock
	ahead time.Duration
}

func (l *later) Now() time.Time { return l.Clock.Now().Add(l.ahead) }

// TestProbeLeftovers: what a probe leaves that was broken off is removed by one a day
// later; that of one which may be under way is not.
func TestProbeLeftovers(t *testing.T) {
	now := &later{Clock: clock.Real}
	b := mem.New(mem.Options{Clock: now})
	s, err := b.Open(provider.Options{Retry: backoff.Policy{Attempts: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	leave := func() {
		t.Helper()
		b.SetRule(func(r mem.Request) (o mem.Outcome) {
			if r.Op == mem.Delete {
				o.Err = fsapi.Errorf(fsapi.IO, "the process was killed")
			}
			return o
		})
		if _, err := object.Probe(t.Context(), s); err == nil {
			t.Error("a probe that could not remove its object said that all is well")
		}
		b.SetRule(nil)
	}
	left := func() (n int) {
		t.Helper()
		if err := s.List(context.Background(), object.ProbePrefix, "", func(object.Object) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	leave()
	leave()
	now.ahead = 20 * time.Hour
	leave()
	now.ahead = 30 * time.Hour
	c, err := object.Probe(t.Context(), s)
	if err != nil || !c.IfAbsent || !c.IfVersion || !c.Parts {
		t.Errorf("%+v, %v", c, err)
	}
	if n := left(); n != 1 {
		t.Errorf("%d objects of probes are left, not only the one of 10 hours ago", n)
	}
}
