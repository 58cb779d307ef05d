package fuse

import (
	"sync"
	"testing"
)

func TestTable(t *testing.T) {
	var tab table[int]
	if tab.get(0) != nil || tab.get(1) != nil || tab.get(1<<63) != nil || tab.drop(7) != nil {
		t.Error("an empty table has handles")
	}
	const n = 3 * blockSize
	for i := range n {
		fh, err := tab.put(&i)
		if err != nil || fh != uint64(i+1) {
			t.Fatalf("handle %d got number %d, %v", i, fh, err)
		}
	}
	for i := range n {
		if h := tab.get(uint64(i + 1)); h == nil || *h != i {
			t.Fatalf("number %d is %v", i+1, h)
		}
	}
	if h := tab.drop(5); h == nil || *h != 4 || tab.get(5) != nil || tab.drop(5) != nil {
		t.Error("a dropped handle is still there")
	}
	x := -1
	if fh, err := tab.put(&x); fh != 5 || err != nil {
		t.Errorf("the free number 5 is not used again but %d, %v", fh, err)
	}
	seen := 0
	tab.each(func(fh uint64, h *int) { seen++ })
	if seen != n {
		t.Errorf("each saw %d of %d", seen, n)
	}
}

func TestTableConcurrently(t *testing.T) {
	var tab table[int]
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 3000 {
				v := w<<20 | i
				fh, err := tab.put(&v)
				if err != nil {
					t.Error(err)
					return
				}
				if h := tab.get(fh); h != &v {
					t.Errorf("number %d is another's handle", fh)
					return
				}
				if i%3 != 0 && tab.drop(fh) != &v {
					t.Errorf("number %d drops another's handle", fh)
					return
				}
			}
		})
	}
	wg.Wait()
	left := 0
	tab.each(func(uint64, *int) { left++ })
	if left != 8*1000 {
		t.Errorf("%d handles are left", left)
	}
}
