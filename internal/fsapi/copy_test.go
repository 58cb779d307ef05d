package fsapi

import (
	"slices"
	"testing"
)

func TestOwedAndSurplus(t *testing.T) {
	hot := CopySpec{Tier: "hot", Replicas: 2, Evictable: true}
	cold := CopySpec{Tier: "cold", Replicas: 1}
	ec := CopySpec{Tier: "warm", K: 2, M: 1}
	at := func(tier string, drives ...DriveID) CopyPlace { return CopyPlace{Tier: tier, Drives: drives} }
	shards := func(drives ...DriveID) CopyPlace { return CopyPlace{Tier: "warm", K: 2, M: 1, Drives: drives} }
	for name, c := range map[string]struct {
		want    []CopySpec
		have    []CopyPlace
		owed    []CopySpec
		surplus int
	}{
		"complete":                        {[]CopySpec{hot, cold}, []CopyPlace{at("hot", 1, 2), at("cold", 3)}, nil, 0},
		"the second copy is missing":      {[]CopySpec{hot, cold}, []CopyPlace{at("hot", 1, 2)}, []CopySpec{cold}, 0},
		"evicted":                         {[]CopySpec{hot, cold}, []CopyPlace{at("cold", 3)}, nil, 0},
		"half evicted is owed":            {[]CopySpec{hot, cold}, []CopyPlace{at("hot", 1), at("cold", 3)}, []CopySpec{hot}, 0},
		"nothing pinned: all is owed":     {[]CopySpec{hot, cold}, nil, []CopySpec{hot, cold}, 0},
		"a shard is missing":              {[]CopySpec{ec}, []CopyPlace{shards(1, 0, 3)}, []CopySpec{ec}, 0},
		"another layout":                  {[]CopySpec{ec}, []CopyPlace{at("warm", 1, 2)}, []CopySpec{ec}, 1},
		"another tier":                    {[]CopySpec{cold}, []CopyPlace{at("cold", 3), at("hot", 1)}, nil, 1},
		"one replica more than asked for": {[]CopySpec{cold}, []CopyPlace{at("cold", 3, 4)}, nil, 1},
	} {
		s := Segment{Want: c.want, Copies: c.have}
		if got := s.Owed(); !slices.Equal(got, c.owed) {
			t.Errorf("%s: owed %+v, want %+v", name, got, c.owed)
		}
		if got := s.Surplus(); len(got) != c.surplus {
			t.Errorf("%s: surplus %+v, want %d", name, got, c.surplus)
		}
		if got, want := s.Settled(), c.owed == nil && c.surplus == 0; got != want {
			t.Errorf("%s: settled %v", name, got)
		}
	}
}

func TestCovers(t *testing.T) {
	spec := func(tier string, n int) CopySpec { return CopySpec{Tier: tier, Replicas: n} }
	ec := CopySpec{Tier: "warm", K: 4, M: 2}
	evictable := CopySpec{Tier: "hot", Replicas: 1, Evictable: true}
	for _, c := range []struct {
		have, want []CopySpec
		covers     bool
	}{
		{[]CopySpec{spec("hot", 1)}, []CopySpec{spec("hot", 1)}, true},
		{[]CopySpec{spec("hot", 1)}, []CopySpec{spec("hot", 2)}, false},
		{[]CopySpec{spec("hot", 3)}, []CopySpec{spec("hot", 2)}, true},
		{[]CopySpec{spec("hot", 3)}, []CopySpec{spec("cold", 1)}, false},
		{[]CopySpec{ec}, []CopySpec{spec("warm", 3)}, true},
		{[]CopySpec{ec}, []CopySpec{spec("warm", 4)}, false},
		{[]CopySpec{evictable, spec("cold", 1)}, []CopySpec{spec("hot", 1)}, false},
		{[]CopySpec{spec("hot", 1)}, []CopySpec{evictable}, true},
	} {
		if got := Covers(c.have, c.want); got != c.covers {
			t.Errorf("Covers(%+v, %+v) = %v", c.have, c.want, got)
		}
	}
}

func TestNeedOfCopies(t *testing.T) {
	for _, c := range []struct {
		spec                   CopySpec
		width, need, tolerates int
	}{
		{CopySpec{Replicas: 1}, 1, 1, 0},
		{CopySpec{Replicas: 2}, 2, 1, 1},
		{CopySpec{Replicas: 3}, 3, 2, 2},
		{CopySpec{Replicas: 3, Min: 3}, 3, 3, 2},
		{CopySpec{K: 10, M: 4}, 14, 10, 4},
		{CopySpec{K: 10, M: 4, Min: 12}, 14, 12, 4},
	} {
		if w, n, l := c.spec.Width(), c.spec.Need(), c.spec.Tolerates(); w != c.width || n != c.need || l != c.tolerates {
			t.Errorf("%+v: width %d, need %d, tolerates %d", c.spec, w, n, l)
		}
	}
}
