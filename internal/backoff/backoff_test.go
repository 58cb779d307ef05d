package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strakefs/strake/internal/backoff"
)

var errBroken = errors.New("broken")

func always(error) bool { return true }

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := backoff.Policy{Attempts: 6, Base: time.Second, Max: 5 * time.Second, Random: func() float64 { return 0.5 }}
		var at []time.Duration
		start := time.Now()
		err := p.Do(t.Context(), always, func(n int) error {
			if n != len(at) {
				t.Errorf("attempt %d is told to be %d", len(at), n)
			}
			at = append(at, time.Since(start))
			return errBroken
		})
		want := []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond, 6 * time.Second, 8500 * time.Millisecond}
		if !errors.Is(err, errBroken) || len(at) != len(want) {
			t.Fatalf("attempts at %v, %v", at, err)
		}
		for i := range at {
			if at[i] != want[i] {
				t.Errorf("attempt %d at %v, want %v", i, at[i], want[i])
			}
		}
	})
}

func TestJitter(t *testing.T) {
	p := backoff.Policy{Base: time.Second, Max: time.Hour}
	small, large := 0, 0
	for range 1000 {
		w := p.Wait(3)
		if w < 0 || w >= 8*time.Second {
			t.Fatalf("wait of %v", w)
		}
		if w < time.Second {
			small++
		} else if w > 7*time.Second {
			large++
		}
	}
	if small == 0 || large == 0 {
		t.Errorf("%d short waits, %d long ones of 1000", small, large)
	}
	if w := (backoff.Policy{Base: time.Second}).Wait(10_000); w < 0 {
		t.Errorf("wait of %v", w)
	}
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		fail := func(int) error { n++; return errBroken }
		p := backoff.Policy{Attempts: 100, Base: time.Second, Total: 10 * time.Second, Random: func() float64 { return 1 }}
		if p.Do(t.Context(), always, fail); n != 4 { // after 0, 1, 3 and 7 s
			t.Errorf("%d attempts within the time", n)
		}
		n = 0
		if p.Do(t.Context(), func(error) bool { return false }, fail); n != 1 {
			t.Errorf("%d attempts of what is not worth another", n)
		}
		n = 0
		if (backoff.Policy{}).Do(t.Context(), always, fail); n != 1 {
			t.Errorf("%d attempts under the zero policy", n)
		}
		n = 0
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := p.Do(ctx, always, fail); n != 2 || !errors.Is(err, errBroken) {
			t.Errorf("%d attempts until the context ended, %v", n, err)
		}
	})
}
