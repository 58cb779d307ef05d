package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// storageGroups measure what is done with drives and buckets.
func storageGroups() []group {
	set := []group{
		{name: "shards", run: largeWrite, pair: shardsPair, measures: []measure{
			{name: "shards-write", what: "sequential write with a final fsync, 4+2 shards on six drives against one replica", unit: "MiB/s", min: 0.7},
			{name: "shards-cpu", what: "server's CPU per GiB of it", unit: "s/GiB"},
		}},
		{name: "degraded", pair: degradedPair, measures: []measure{
			{name: "degraded-read", what: "cold sequential read of 4+2 shards, two drives away against none", unit: "MiB/s", min: 0.5},
			{name: "degraded-cpu", what: "server's CPU per GiB of it", unit: "s/GiB"},
		}},
		{name: "bucket", run: bucketLarge, pair: bucketPair("cold:1"), gateway: true, measures: []measure{
			{name: "bucket-write", what: "sequential write with a final fsync, copies=cold:1 in a bucket against Amazon's S3 client alone", unit: "MiB/s", min: 0.8},
			{name: "bucket-write-own", what: "the same against Strake's object store client alone", unit: "MiB/s"},
			{name: "bucket-read", what: "cold sequential read of it", unit: "MiB/s", min: 0.8},
			{name: "bucket-puts", what: "PUTs per GiB written", unit: "/GiB"},
		}},
		{name: "tiered", run: tieredLarge, pair: bucketPair("hot:1:evictable,cold:1"), gateway: true, measures: []measure{
			{name: "tiered-write", what: "sequential write with a final fsync, copies=hot:1:evictable,cold:1 against Amazon's S3 client alone", unit: "MiB/s", min: 0.8},
			{name: "tiered-write-own", what: "the same against Strake's object store client alone", unit: "MiB/s"},
			{name: "tiered-drain", what: "the same until the bucket has all of it", unit: "MiB/s"},
			{name: "tiered-read", what: "cold sequential read of it", unit: "MiB/s", min: 0.8},
			{name: "tiered-puts", what: "PUTs per GiB written", unit: "/GiB"},
		}},
		{name: "files", run: bucketFiles, pair: filesPair, gateway: true, measures: []measure{
			{name: "files-create", what: "files of 4 KiB with a final sync, copies=cold:1 in a bucket against a local drive", unit: "files/s", min: 0.9},
			{name: "files-fsync", what: "files of 4 KiB by eight writers, each with an fsync, likewise", unit: "files/s", min: 0.9},
			{name: "files-puts", what: "PUTs per 10,000 files, packed", unit: "/10,000"},
		}},
		{name: "rebuild", pair: rebuildPair, measures: []measure{
			{name: "rebuild", what: "making anew what a lost drive of 4+2 shards held, drives being disks of 200 MiB/s, against dd to one of them", unit: "MiB/s", min: 0.5},
			{name: "rebuild-cpu", what: "server's CPU per GiB made anew", unit: "s/GiB"},
		}},
		{name: "shared", pair: sharedPair, measures: []measure{
			{name: "rebuild-shared", what: "the same where all drives share one disk, against dd reading four times as much while it writes", unit: "MiB/s"},
			{name: "rebuild-raw", what: "dd of as many bytes to that disk alone", unit: "MiB/s"},
		}},
	}
	for i := range set {
		g := &set[i]
		g.memory = g.name + "-memory"
		g.measures = append(g.measures, memory(g.memory, "server's memory, peak"))
	}
	return set
}

// shardDrives is how many drives 4+2 shards need.
const shardDrives = 6

// driveDir is where the n-th drive is, from 1.
func (m *machine) driveDir(n int) string { return fmt.Sprintf("%s/drive%d", m.dir, n) }

// strake runs the command line against the machine's server.
func (m *machine) strake(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(m.ctx, m.o.strake, append([]string{"--data", m.dir + "/data"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("strake %s: %w\n%s", strings.Join(args, " "), err, errs.Bytes())
	}
	return out, nil
}

// ask is strake with --json, its answer in v.
func (m *machine) ask(v any, args ...string) error {
	out, err := m.strake(append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, v)
}

// onDrives sets a machine up with so many drives on tier warm, and copies.
func onDrives(drives int, copies string) func(m *machine) error {
	return func(m *machine) error {
		for n := range drives {
			if _, err := m.strake("drive", "add", fmt.Sprintf("d%d", n+1), m.driveDir(n+1), "--tier", "warm"); err != nil {
				return err
			}
		}
		_, err := m.strake("policy", "set", "/", "copies="+copies)
		return err
	}
}

func shardsPair(o *options) [2]*subject {
	return [2]*subject{
		{name: ownName, command: o.serve, setup: onDrives(shardDrives, "warm:4+2")},
		{name: referenceName, command: o.serve, setup: onDrives(shardDrives, "warm:1")},
	}
}

// write makes the large file, which cannot be compressed, and is the rate in
// MiB/s. The bytes are made before, and only stamped for each block: nor does the
// object store's client make its bytes while it is measured.
func (m *machine) write() (rate float64, err error) {
	const block = 1 << 20
	body := noise(64 * block)
	f, err := os.Create(m.path("large"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s, err := timed(func() error {
		for at := int64(0); at < m.o.size; at += block {
			b := body[at%int64(len(body)):][:min(block, m.o.size-at)]
			stamp(b, int(at))
			if _, err := f.Write(b); err != nil {
				return err
			}
		}
		return f.Sync()
	})
	return float64(m.o.size) / (1 << 20) / s, err
}

// read reads it, likewise.
func (m *machine) read() (float64, error) {
	j, err := m.fio("--filename=large", "--rw=read", "--bs=1M", fmt.Sprintf("--size=%d", m.o.size))
	return j.Read.Bytes / (1 << 20), err
}

func (m *machine) gib() float64 { return float64(m.o.size) / (1 << 30) }

func largeWrite(m *machine) error {
	before := m.cpu()
	rate, err := m.write()
	m.value("shards-write", rate)
	m.value("shards-cpu", (m.cpu()-before)/m.gib())
	return err
}

func degradedPair(o *options) [2]*subject {
	return [2]*subject{
		{name: ownName, command: o.serve, setup: onDrives(shardDrives, "warm:4+2"), work: coldRead(2)},
		{name: referenceName, command: o.serve, setup: onDrives(shardDrives, "warm:4+2"), work: coldRead(0)},
	}
}

// coldRead reads the large file while so many drives are away.
func coldRead(away int) func(m *machine) error {
	return func(m *machine) error {
		if _, err := m.write(); err != nil {
			return err
		}
		if err := m.stop(); err != nil {
			return err
		}
		for n := range away {
			if err := os.Rename(m.driveDir(n+1), m.driveDir(n+1)+".away"); err != nil {
				return err
			}
		}
		if err := m.cold(); err != nil {
			return err
		}
		before := m.cpu()
		rate, err := m.read()
		m.value("degraded-read", rate)
		m.value("degraded-cpu", (m.cpu()-before)/m.gib())
		return err
	}
}

// withBucket sets a machine up with a bucket as its cold drive, and copies. The
// server starts anew to find the credentials.
func withBucket(copies string) func(m *machine) error {
	return func(m *machine) error {
		url, err := m.gateway()
		if err != nil {
			return err
		}
		if err := m.stop(); err != nil {
			return err
		}
		m.env = credentials()
		if err := m.start(); err != nil {
			return err
		}
		if _, err := m.strake("drive", "add", "bucket", url, "--tier", "cold"); err != nil {
			return err
		}
		_, err = m.strake("policy", "set", "/", "copies="+copies)
		return err
	}
}

func bucketPair(copies string) func(o *options) [2]*subject {
	return func(o *options) [2]*subject {
		return [2]*subject{
			{name: ownName, command: o.serve, setup: withBucket(copies)},
			{name: referenceName, work: func(m *machine) error { return clientAlone(m, strings.Contains(copies, "hot")) }},
		}
	}
}

// sealedPair is the object store's client, with the least work on each byte that
// storing it in chunks means, and without.
func sealedPair(*options) [2]*subject {
	write := func(args ...string) func(m *machine) error {
		return func(m *machine) error {
			url, err := m.gateway()
			if err != nil {
				return err
			}
			var w struct{ Write float64 }
			err = m.client(&w, url, args...)
			m.value("bucket-write", w.Write)
			return err
		}
	}
	return [2]*subject{{name: ownName, work: write("-seal")}, {name: referenceName, work: write()}}
}

// clientAlone is what Amazon's client does, and for comparison the one that Strake
// has made of it, without Strake.
func clientAlone(m *machine, tiered bool) error {
	url, err := m.gateway()
	if err != nil {
		return err
	}
	name := "bucket"
	if tiered {
		name = "tiered"
	}
	var w, own, r struct{ Write, Read, Puts float64 }
	if err := m.client(&w, url, "-plain"); err != nil {
		return err
	}
	if err := m.client(&own, strings.Replace(url, "/prefix?", "/own?", 1)); err != nil {
		return err
	}
	m.value(name+"-write", w.Write)
	m.value(name+"-drain", w.Write)
	m.value(name+"-write-own", own.Write)
	m.value(name+"-puts", own.Puts/m.gib())
	if err := m.cold(); err != nil {
		return err
	}
	err = m.client(&r, url, "-plain", "-read")
	m.value(name+"-read", r.Read)
	return err
}

// client runs s3client on as many bytes as the large file has.
func (m *machine) client(v any, url string, args ...string) error {
	const object = 64 << 20
	args = append([]string{"-url", url, "-size", strconv.Itoa(object), "-objects", strconv.FormatInt(max(m.o.size/object, 1), 10)}, args...)
	cmd := exec.CommandContext(m.ctx, m.o.client, args...)
	cmd.Env = append(os.Environ(), credentials()...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("s3client: %w\n%s", err, errs.Bytes())
	}
	return json.Unmarshal(out, v)
}

// puts is how many requests that write the server has made of its bucket.
func (m *machine) puts() (float64, error) {
	b, err := os.ReadFile(m.path(".strake/metrics"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, "object_puts_total") {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, errors.New("the metrics have no object_puts_total")
}

// putsOf is how many such requests fn made.
func (m *machine) putsOf(fn func() error) (float64, error) {
	before, err := m.puts()
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := m.puts()
	return after - before, err
}

func bucketLarge(m *machine) error {
	puts, err := m.putsOf(func() error {
		rate, err := m.write()
		m.value("bucket-write", rate)
		m.value("bucket-write-own", rate)
		return err
	})
	if err != nil {
		return err
	}
	m.value("bucket-puts", puts/m.gib())
	if err := m.cold(); err != nil {
		return err
	}
	rate, err := m.read()
	m.value("bucket-read", rate)
	return err
}

func tieredLarge(m *machine) error {
	puts, err := m.putsOf(func() error {
		s, err := timed(func() error {
			rate, err := m.write()
			m.value("tiered-write", rate)
			m.value("tiered-write-own", rate)
			return errors.Join(err, m.drained())
		})
		m.rate("tiered-drain", float64(m.o.size)/(1<<20), s)
		return err
	})
	if err != nil {
		return err
	}
	m.value("tiered-puts", puts/m.gib())
	if err := m.cold(); err != nil {
		return err
	}
	rate, err := m.read()
	m.value("tiered-read", rate)
	return err
}

// pollEvery is the time between two questions: each is a process, which takes
// from the server what it computes.
const pollEvery = 100 * time.Millisecond

// poll calls done until it says so.
func (m *machine) poll(what string, done func() (bool, error)) error {
	deadline := time.Now().Add(5 * time.Minute)
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within five minutes", what)
		}
		select {
		case <-m.ctx.Done():
			return m.ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// drained waits until no copy is pending.
func (m *machine) drained() error {
	return m.poll("writing pending copies", func() (bool, error) {
		var l struct{ Pending []any }
		err := m.ask(&l, "pending", "--limit", "1")
		return len(l.Pending) == 0, err
	})
}

func filesPair(o *options) [2]*subject {
	return [2]*subject{
		{name: ownName, command: o.serve, setup: withBucket("cold:1")},
		{name: referenceName, command: o.serve},
	}
}

// bucketFiles makes many small files: without fsync but with a sync at the end,
// and with one each.
func bucketFiles(m *machine) error {
	work := func() error {
		if err := m.createFiles(); err != nil {
			return err
		}
		if err := m.createSynced(); err != nil {
			return err
		}
		_, err := m.strake("gc")
		return err
	}
	if m.s.name == referenceName {
		return work()
	}
	puts, err := m.putsOf(work)
	m.value("files-puts", puts*10_000/float64(2*m.o.files))
	return err
}

func (m *machine) createFiles() error {
	data := noise(4096)
	s, err := timed(func() error {
		for i := range m.o.files {
			name := m.path(fmt.Sprintf("d%d/f%d", i/1000, i))
			if i%1000 == 0 {
				if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
					return err
				}
			}
			stamp(data, i)
			if err := os.WriteFile(name, data, 0o644); err != nil {
				return err
			}
		}
		return m.syncfs()
	})
	m.rate("files-create", float64(m.o.files), s)
	return err
}

// syncfs makes all of the mount durable.
func (m *machine) syncfs() error {
	d, err := os.Open(m.mnt())
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return unix.Syncfs(int(d.Fd()))
}

// createSynced makes as many files, each durable before the next.
func (m *machine) createSynced() error {
	const writers = 8
	if err := os.Mkdir(m.path("synced"), 0o755); err != nil {
		return err
	}
	errs := make(chan error, writers)
	s, err := timed(func() (err error) {
		for w := range writers {
			go func() { errs <- m.synced(w, writers) }()
		}
		for range writers {
			err = errors.Join(err, <-errs)
		}
		return err
	})
	m.rate("files-fsync", float64(m.o.files), s)
	return err
}

// synced makes every step-th file from the first.
func (m *machine) synced(first, step int) error {
	data := noise(4096)
	for i := first; i < m.o.files; i += step {
		f, err := os.Create(m.path(fmt.Sprintf("synced/f%d", i)))
		if err != nil {
			return err
		}
		stamp(data, i)
		_, err = f.Write(data)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func rebuildPair(o *options) [2]*subject {
	return [2]*subject{
		{name: ownName, command: o.serve, work: func(m *machine) error {
			disks, err := m.disks(shardDrives+1, diskSize(o))
			if err != nil {
				return err
			}
			if err := onDrives(shardDrives+1, "warm:4+2")(m); err != nil {
				return err
			}
			return m.rebuild("rebuild", disks)
		}},
		{name: referenceName, work: func(m *machine) error {
			disks, err := m.disks(1, diskSize(o))
			if err != nil {
				return err
			}
			if err := disks[0].limit(diskRate); err != nil {
				return err
			}
			rate, err := m.raw(filepath.Join(disks[0].at, "raw"))
			m.value("rebuild", rate)
			return err
		}},
	}
}

func sharedPair(o *options) [2]*subject {
	return [2]*subject{
		{name: ownName, command: o.serve, setup: onDrives(shardDrives+1, "warm:4+2"), work: func(m *machine) error {
			return m.rebuild("rebuild-shared", nil)
		}},
		{name: referenceName, work: rawRebuild},
	}
}

// diskSize is room for a drive's part of the large file, however uneven, and for
// what a drive keeps free.
func diskSize(o *options) int64 { return 2*o.size*shardDrives/4/(shardDrives+1) + 1<<30 }

// driveState is what `strake drive show` says.
type driveState struct {
	State    string
	Segments int
	Bytes    float64
}

// rebuild loses a drive and waits until what it held is elsewhere. disks are the
// drives where each has its own; they are limited once the data is there.
func (m *machine) rebuild(name string, disks []*disk) error {
	if _, err := m.write(); err != nil {
		return err
	}
	if err := m.stop(); err != nil {
		return err
	}
	if err := m.lose(disks); err != nil {
		return err
	}
	if err := m.cold(); err != nil {
		return err
	}
	var d driveState
	if err := m.ask(&d, "drive", "show", "d1"); err != nil {
		return err
	}
	if d.State != "offline" || d.Segments == 0 {
		return fmt.Errorf("the lost drive is %s and held %d segments", d.State, d.Segments)
	}
	held, before := d.Bytes, m.cpu()
	s, err := timed(func() error {
		if _, err := m.strake("drive", "remove", "d1"); err != nil {
			return err
		}
		return m.poll("rebuilding a drive", func() (bool, error) {
			err := m.ask(&d, "drive", "show", "d1")
			return d.Segments == 0, err
		})
	})
	m.rate(name, held/(1<<20), s)
	m.value(name+"-cpu", (m.cpu()-before)/held*(1<<30))
	return err
}

// lose takes the first drive away.
func (m *machine) lose(disks []*disk) error {
	if disks == nil {
		return os.RemoveAll(m.driveDir(1))
	}
	for _, d := range disks {
		if err := d.limit(diskRate); err != nil {
			return err
		}
	}
	return disks[0].unmount()
}

// piece is bytes of each of dd's reads and writes.
const piece = 4 << 20

// drivePieces are about as many bytes as a drive of the rebuild holds: the large
// file's, by k, times shards over drives.
func (m *machine) drivePieces() int64 {
	return max(m.o.size*shardDrives/4/(shardDrives+1)/piece, 1)
}

// raw is how fast the disk takes as much as a drive holds, in MiB/s.
func (m *machine) raw(to string) (float64, error) {
	n := m.drivePieces()
	s, err := timed(func() error {
		_, err := m.tool("dd", "if=/dev/zero", "of="+to, fmt.Sprintf("bs=%d", piece), fmt.Sprintf("count=%d", n), "oflag=direct", "conv=fsync", "status=none")
		return err
	})
	return float64(n*piece) / (1 << 20) / s, err
}

// rawRebuild is how fast the disk takes as much as a drive holds while it is read
// from k others, and how fast alone.
func rawRebuild(m *machine) error {
	const k = 4
	from := func(i int) string { return filepath.Join(m.dir, fmt.Sprintf("from%d", i)) }
	for i := range k {
		rate, err := m.raw(from(i))
		if err != nil {
			return err
		}
		m.value("rebuild-raw", rate)
	}
	errs := make(chan error, k)
	s, err := timed(func() error {
		for i := range k {
			go func() {
				_, err := m.tool("dd", "if="+from(i), "of=/dev/null", fmt.Sprintf("bs=%d", piece), "iflag=direct", "status=none")
				errs <- err
			}()
		}
		_, err := m.raw(filepath.Join(m.dir, "raw"))
		for range k {
			err = errors.Join(err, <-errs)
		}
		return err
	})
	m.rate("rebuild-shared", float64(m.drivePieces()*piece)/(1<<20), s)
	return err
}
