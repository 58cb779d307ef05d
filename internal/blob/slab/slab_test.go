package slab

import "testing"

func TestClassesHold(t *testing.T) {
	for n := 0; n <= 3<<20; n += 97 {
		c := classOf(n)
		if c < 0 || sizeOf(c) < n {
			t.Fatalf("%d bytes in class %d of %d", n, c, sizeOf(c))
		}
		if n > 1<<minShift && sizeOf(c)-n > n/4 {
			t.Fatalf("%d bytes waste %d", n, sizeOf(c)-n)
		}
	}
	for c := range classes {
		if classOf(sizeOf(c)) != c {
			t.Errorf("class %d holds %d bytes, which are class %d", c, sizeOf(c), classOf(sizeOf(c)))
		}
		if c+1 < classes && classOf(sizeOf(c)+1) != c+1 {
			t.Errorf("one byte over class %d is class %d", c, classOf(sizeOf(c)+1))
		}
	}
	if classOf(sizeOf(classes-1)+1) != -1 {
		t.Error("a buffer over the largest class is pooled")
	}
}

func TestGetAfterPut(t *testing.T) {
	var p Pool
	b := p.Get(100_000)
	p.Put(b)
	if c := p.Get(90_000); len(c.B) != 90_000 {
		t.Errorf("got %d bytes", len(c.B))
	}
	p.Put(p.Get(64 << 20))
	p.Put(nil)
}
