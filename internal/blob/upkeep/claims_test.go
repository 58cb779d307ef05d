package upkeep

import (
	"context"
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/fsapi"
)

// Nobody deletes parts of a segment while another writes some: what he finds in the
// place of his own he counts as written.
func TestClaims(t *testing.T) {
	c, id := newClaims(), fsapi.SegmentID{1}
	end, err := c.write(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.write(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.alone(id); ok {
		t.Error("one of two writers may delete")
	}
	if _, ok := c.sweep(id); ok {
		t.Error("a sweep may delete beside two writers")
	}
	other()
	over, ok := c.alone(id)
	if !ok {
		t.Fatal("the only writer may not delete")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.write(ended, id); !errors.Is(err, fsapi.Interrupted) {
		t.Errorf("another may write beside one who deletes: %v", err)
	}
	if _, ok := c.alone(id); ok {
		t.Error("two may delete")
	}
	over()
	if _, ok := c.sweep(id); ok {
		t.Error("a sweep may delete beside a writer")
	}
	end()
	over, ok = c.sweep(id)
	if !ok {
		t.Fatal("a sweep may not delete where nobody writes")
	}
	if _, err := c.write(ended, id); !errors.Is(err, fsapi.Interrupted) {
		t.Errorf("a writer does not wait for a sweep: %v", err)
	}
	over()
	if len(c.m) != 0 {
		t.Errorf("%d claims are left", len(c.m))
	}
}
