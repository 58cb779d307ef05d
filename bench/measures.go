package main

import (
	"fmt"
	"math"
	"strings"
)

// measure is one figure and the bar that Strake's is held to.
type measure struct {
	name string
	what string
	unit string
	// ratio is Strake's over the reference's: at least min, at most max. Both 0
	// where the figure is only reported.
	min, max float64
	// limit is a bar on Strake's figure itself; 0 for none.
	limit float64
	// highest: the highest figure of all rounds counts, not the median.
	highest bool
}

// group is what is measured in one turn.
type group struct {
	name     string
	run      func(m *machine) error
	measures []measure
	// pair is Strake and what it is measured against.
	pair func(o *options) [2]*subject
	// memory is the measure that takes the peak of the server's memory, in MiB.
	memory string
	// gateway: an object store is needed.
	gateway bool
}

// sets are the sets of groups by name.
func sets() map[string][]group {
	return map[string][]group{"mount": mountGroups(), "storage": storageGroups(), "ceiling": ceilingGroups()}
}

// ceilingGroups measure what cannot be exceeded on this machine: by a file system
// behind FUSE, the loopback's where fsync costs nothing; by one that names chunks
// by SHA-256 and seals them, the object store's client that does so too.
func ceilingGroups() (set []group) {
	for _, g := range mountGroups() {
		if g.name == "sync" {
			for i := range g.measures {
				g.measures[i].min, g.measures[i].max = 0, 0
			}
			g.pair, g.memory = ceilingPair, ""
			set = append(set, g)
		}
	}
	return append(set, group{name: "bucket", pair: sealedPair, gateway: true, measures: []measure{
		{name: "bucket-write", what: "the S3 client that also hashes and seals against the S3 client alone, objects of 64 MiB", unit: "MiB/s"},
	}})
}

// mountGroups measure a mount, in the order they run.
func mountGroups() []group {
	set := []group{
		{name: "seq", run: seq, measures: []measure{
			{name: "seq-write", what: "sequential write of 1 MiB blocks with a final fsync", unit: "MiB/s", min: 0.7},
			{name: "seq-read-cold", what: "cold sequential read", unit: "MiB/s", min: 0.8},
			{name: "seq-read-warm", what: "warm sequential read", unit: "MiB/s", min: 1},
			{name: "cpu-write", what: "server's CPU per GiB written", unit: "s/GiB"},
			{name: "cpu-read", what: "server's CPU per GiB read cold", unit: "s/GiB"},
		}},
		{name: "small", run: small, measures: []measure{
			{name: "create", what: "creating files of 4 KiB without fsync", unit: "files/s", min: 1},
			{name: "unlink", what: "unlinking them", unit: "files/s", min: 1},
		}},
		{name: "sync", run: syncWrites, measures: []measure{
			{name: "fsync-latency", what: "4 KiB write + fsync, median", unit: "µs", max: 1.2},
			{name: "fsync-16", what: "4 KiB write + fsync, 16 writers", unit: "/s", min: 2},
			{name: "cpu-fsync", what: "server's CPU per 4 KiB write + fsync", unit: "µs"},
			{name: "cpu-fsync-16", what: "server's CPU per 4 KiB write + fsync, 16 writers", unit: "µs"},
		}},
		{name: "tree", run: tree, measures: []measure{
			{name: "stat", what: "stat of a warm tree", unit: "/s", min: 1},
			{name: "readdir", what: "readdir of a warm tree", unit: "names/s", min: 1},
		}},
		{name: "random", run: random, measures: []measure{
			{name: "rand-read", what: "cached 4 KiB random read", unit: "/s", min: 0.9},
			{name: "rand-write", what: "4 KiB random overwrite of a large file, fsync every 64", unit: "/s", min: 1},
			{name: "cpu-rand-write", what: "server's CPU per 4 KiB overwrite, fsync every 64", unit: "µs"},
		}},
		{name: "sqlite", run: sqlite, measures: []measure{
			{name: "sqlite-sync", what: "SQLite, 300 transactions of one row", unit: "/s"},
			{name: "sqlite-bulk", what: "SQLite, 100,000 rows, index, update, select", unit: "s"},
		}},
		{name: "git", run: git, measures: []measure{
			{name: "git-add", what: "git add of 3,000 files", unit: "s"},
			{name: "git-commit", what: "git commit, status, gc", unit: "s"},
		}},
	}
	for i := range set {
		set[i].pair, set[i].memory = loopbackPair, "rss"
	}
	last := &set[len(set)-1]
	last.measures = append(last.measures, memory("rss", "server's memory, peak over all"))
	return set
}

// memory is a measure of which the highest of all rounds counts, not the median.
func memory(name, what string) measure {
	return measure{name: name, what: what, unit: "MiB", limit: 1024, highest: true}
}

func groupNames() string {
	var all []string
	for _, set := range []string{"mount", "storage", "ceiling"} {
		var names []string
		for _, g := range sets()[set] {
			names = append(names, g.name)
		}
		all = append(all, set+": "+strings.Join(names, " "))
	}
	return strings.Join(all, "; ")
}

// bar is the bar in words.
func (m measure) bar() string {
	switch {
	case m.limit > 0:
		return fmt.Sprintf("< %g %s", m.limit, m.unit)
	case m.min > 0:
		return fmt.Sprintf("≥ %g ×", m.min)
	case m.max > 0:
		return fmt.Sprintf("≤ %g ×", m.max)
	}
	return ""
}

// verdict is PASS or MISS, or "" where there is no bar.
func (m measure) verdict(own, ratio float64) string {
	var ok bool
	switch {
	case m.limit > 0:
		ok = own < m.limit
	case m.min > 0:
		ok = ratio >= m.min
	case m.max > 0:
		ok = ratio <= m.max
	default:
		return ""
	}
	if ok && (m.limit > 0 || !math.IsNaN(ratio)) {
		return "PASS"
	}
	return "MISS"
}
