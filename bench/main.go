// Command bench measures Strake's FUSE mount against the reference loopback
// file system of go-fuse on the same disk, and what Strake does with drives and
// buckets against what they give without it, in one run: the two take turns on
// every measure, and what counts is the ratio of their medians.
//
// It owns: the list of measures with their bars. It must not know Strake but by
// its command line. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

// options of a run, from the command line.
type options struct {
	dir      string // on the disk to measure
	cache    string // where programs are built
	strake   string // binary; built if empty
	loopback string // binary; built if empty
	groups   string // a set of groups
	only     string // regular expression over groups' names
	client   string // binary of bench/s3client; built if empty
	gateway  string // binary of versitygw
	link     string // rate of the network between it and here; "": loopback
	links    int    // that were laid, for their names
	rounds   int
	size     int64 // bytes of the large file
	files    int   // of the small-file measures
	json     bool
	verbose  bool
	args     string // more arguments for strake serve
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "directory on the disk to measure (default: a new one below the temporary directory)")
	flag.StringVar(&o.cache, "cache", "", "directory to build programs in (default: in the user's cache)")
	flag.StringVar(&o.strake, "strake", "", "strake binary (default: built from this tree)")
	flag.StringVar(&o.loopback, "loopback", "", "loopback binary, called with a mount point and a directory (default: built)")
	flag.StringVar(&o.client, "s3client", "", "s3client binary (default: built from this tree)")
	flag.StringVar(&o.gateway, "versitygw", "", "versitygw binary (default: the one that tools/needs test prepares)")
	flag.StringVar(&o.link, "link", "", "the object store is at the other end of a cable of this rate, as 1gbit (tc's RATE), not on loopback")
	flag.StringVar(&o.groups, "groups", "mount", "set of groups: mount, against a loopback mount; storage, drives and buckets; ceiling, a loopback without fsync against one with")
	flag.StringVar(&o.only, "only", "", "measure only groups of the set whose name matches: "+groupNames())
	flag.IntVar(&o.rounds, "rounds", 3, "how often each takes its turn")
	size := flag.Int("size", 1024, "MiB of the large file")
	flag.IntVar(&o.files, "files", 10_000, "files of the small-file measures")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.BoolVar(&o.verbose, "v", false, "print each turn to standard error")
	flag.StringVar(&o.args, "serve", "", "more arguments for strake serve, separated by spaces")
	flag.Parse()
	o.size = int64(*size) << 20

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	missed, err := run(ctx, o)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case missed:
		os.Exit(1)
	}
}

// run measures and prints; missed is whether a bar was.
func run(ctx context.Context, o options) (missed bool, err error) {
	if os.Geteuid() != 0 {
		return false, errors.New("dropping caches and mounting need root")
	}
	set, err := chosen(&o)
	if err != nil {
		return false, err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "strake-bench"); err != nil {
			return false, err
		}
		defer func() { _ = os.RemoveAll(o.dir) }()
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return false, err
	}
	if err := o.build(ctx, set); err != nil {
		return false, err
	}
	res, before := results{}, loadNow()
	for round := range o.rounds {
		for _, g := range set {
			pair := g.pair(&o)
			for i := range pair {
				s := pair[(i+round)%len(pair)]
				if err := turn(ctx, &o, g, s, res); err != nil {
					return false, fmt.Errorf("%s on %s: %w", g.name, s.name, err)
				}
			}
		}
	}
	report := res.report(set)
	report.Others = before.others()
	if o.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		report.print(os.Stdout)
	}
	return report.Missed > 0, err
}

// chosen are the groups to measure.
func chosen(o *options) (set []group, err error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, err
	}
	all, ok := sets()[o.groups]
	if !ok {
		return nil, fmt.Errorf("there is no set of groups %q: want mount, storage or ceiling", o.groups)
	}
	for _, g := range all {
		if only.MatchString(g.name) {
			set = append(set, g)
		}
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("no group of %s matches %q", o.groups, o.only)
	}
	return set, nil
}

// turn runs one group on one subject, from an empty file system.
func turn(ctx context.Context, o *options, g group, s *subject, res results) (err error) {
	dir := filepath.Join(o.dir, s.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m := &machine{ctx: ctx, o: o, s: s, dir: dir, values: map[string]float64{}}
	defer func() {
		err = errors.Join(err, m.stop(), m.end(), os.RemoveAll(dir))
		syscall.Sync()
	}()
	if err := m.start(); err != nil {
		return err
	}
	if s.setup != nil {
		if err := s.setup(m); err != nil {
			return err
		}
	}
	if err := s.run(g)(m); err != nil {
		return err
	}
	if s.command != nil {
		m.value(g.memory, m.peak()/(1<<20))
	}
	for name, v := range m.values {
		res.add(name, s.name, v)
		if o.verbose {
			fmt.Fprintf(os.Stderr, "%-10s %-10s %-22s %.4g\n", g.name, s.name, name, v)
		}
	}
	return nil
}
