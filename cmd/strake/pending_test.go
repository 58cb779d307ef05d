package main

import "testing"

// A list longer than a page is read to its end, or to as many entries as are wanted.
func TestPages(t *testing.T) {
	const all = 2*pageSize + 5
	for want, expect := range map[int]struct {
		have int
		more bool
	}{
		0: {all, false}, 1: {1, true}, pageSize: {pageSize, true}, pageSize + 3: {pageSize + 3, true}, all: {all, false}, all + 9: {all, false},
	} {
		have := 0
		more, err := pages(want, func(limit int) (int, bool, error) {
			if limit < 1 || limit > pageSize {
				t.Errorf("want %d: a page of %d was asked for", want, limit)
			}
			have = min(have+limit, all)
			return have, have < all, nil
		})
		if err != nil || have != expect.have || more != expect.more {
			t.Errorf("want %d: %d entries, more: %v, %v", want, have, more, err)
		}
	}
	if _, err := pages(-1, nil); err == nil {
		t.Error("-1 entries were read")
	}
}
