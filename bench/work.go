package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fio runs fio on one file and is its first job's figures.
func (m *machine) fio(args ...string) (job fioJob, err error) {
	args = append([]string{"--name=bench", "--output-format=json", "--ioengine=psync", "--randrepeat=0",
		"--invalidate=0", "--directory=" + m.mnt()}, args...)
	cmd := exec.CommandContext(m.ctx, "fio", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return job, fmt.Errorf("fio %s: %w\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	var res struct{ Jobs []fioJob }
	b := out.Bytes()
	if i := bytes.IndexByte(b, '{'); i > 0 {
		b = b[i:]
	}
	if err := json.Unmarshal(b, &res); err != nil || len(res.Jobs) == 0 {
		return job, fmt.Errorf("fio says %q: %w", brief(b), err)
	}
	return res.Jobs[0], nil
}

type fioJob struct {
	Read, Write struct {
		Bytes float64 `json:"bw_bytes"`
		IOPS  float64 `json:"iops"`
		IOs   float64 `json:"total_ios"`
	}
}

func brief(b []byte) []byte { return b[:min(len(b), 200)] }

// seq writes a large file that cannot be compressed, reads it from the disk,
// and reads it again.
func seq(m *machine) error {
	size := fmt.Sprintf("--size=%d", m.o.size)
	gib := float64(m.o.size) / (1 << 30)
	before := m.cpu()
	j, err := m.fio("--filename=large", "--rw=write", "--bs=1M", size, "--end_fsync=1", "--refill_buffers=1")
	if err != nil {
		return err
	}
	m.value("seq-write", j.Write.Bytes/(1<<20))
	m.value("cpu-write", (m.cpu()-before)/gib)
	if err := m.cold(); err != nil {
		return err
	}
	before = m.cpu()
	for _, name := range []string{"seq-read-cold", "seq-read-warm"} {
		j, err := m.fio("--filename=large", "--rw=read", "--bs=1M", size)
		if err != nil {
			return err
		}
		m.value(name, j.Read.Bytes/(1<<20))
		if name == "seq-read-cold" {
			m.value("cpu-read", (m.cpu()-before)/gib)
		}
	}
	return nil
}

// small makes and removes many small files in directories of a thousand.
func small(m *machine) error {
	const perDir = 1000
	name := func(i int) string { return m.path(fmt.Sprintf("d%d/f%d", i/perDir, i)) }
	for d := 0; d*perDir < m.o.files; d++ {
		if err := os.Mkdir(m.path(fmt.Sprintf("d%d", d)), 0o755); err != nil {
			return err
		}
	}
	data := noise(4096)
	s, err := timed(func() error {
		for i := range m.o.files {
			stamp(data, i)
			if err := os.WriteFile(name(i), data, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.rate("create", float64(m.o.files), s)
	s, err = timed(func() error {
		for i := range m.o.files {
			if err := os.Remove(name(i)); err != nil {
				return err
			}
		}
		return nil
	})
	m.rate("unlink", float64(m.o.files), s)
	return err
}

// noise is n bytes that cannot be compressed.
func noise(n int) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// stamp makes a block unlike the others, so that none is a duplicate.
func stamp(b []byte, i int) {
	for k := 0; k+8 <= len(b); k += 512 {
		copy(b[k:], strconv.AppendInt(nil, int64(i)*7919+int64(k), 36))
	}
}

// syncWrites appends blocks of 4 KiB, each followed by fsync: one writer, then
// 16 with a file each.
func syncWrites(m *machine) error {
	before := m.cpu()
	one, err := m.appendSync(m.path("one"), time.Now().Add(5*time.Second), 2000)
	if err != nil {
		return err
	}
	m.perOp("cpu-fsync", before, float64(len(one)))
	slices.Sort(one)
	m.value("fsync-latency", float64(one[len(one)/2].Microseconds()))

	const writers, span = 16, 4 * time.Second
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, writers)
	before = m.cpu()
	begin := time.Now()
	for w := range writers {
		wg.Go(func() {
			var all []time.Duration
			all, errs[w] = m.appendSync(m.path(fmt.Sprintf("w%d", w)), begin.Add(span), 1<<30)
			n.Add(int64(len(all)))
		})
	}
	wg.Wait()
	m.rate("fsync-16", float64(n.Load()), time.Since(begin).Seconds())
	m.perOp("cpu-fsync-16", before, float64(n.Load()))
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// appendSync is how long each write with its fsync took.
func (m *machine) appendSync(path string, until time.Time, most int) (all []time.Duration, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b := noise(4096)
	for i := 0; i < most && time.Now().Before(until); i++ {
		stamp(b, i)
		t := time.Now()
		if _, err := f.Write(b); err != nil {
			return all, err
		}
		if err := f.Sync(); err != nil {
			return all, err
		}
		all = append(all, time.Since(t))
	}
	return all, nil
}

// tree walks a tree of 100 directories with 100 files each, once to warm it and
// then for two seconds each way.
func tree(m *machine) error {
	const dirs, files = 100, 100
	var paths, ds []string
	for d := range dirs {
		dir := m.path(fmt.Sprintf("dir%d", d))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		ds = append(ds, dir)
		for f := range files {
			p := filepath.Join(dir, fmt.Sprintf("file-with-a-name-%d", f))
			if err := os.WriteFile(p, nil, 0o644); err != nil {
				return err
			}
			paths = append(paths, p)
		}
	}
	stat := func() (int, error) {
		for _, p := range paths {
			if _, err := os.Lstat(p); err != nil {
				return 0, err
			}
		}
		return len(paths), nil
	}
	list := func() (int, error) {
		n := 0
		for _, d := range ds {
			f, err := os.Open(d)
			if err != nil {
				return 0, err
			}
			names, err := f.Readdirnames(-1)
			_ = f.Close()
			if err != nil {
				return 0, err
			}
			n += len(names)
		}
		return n, nil
	}
	for name, pass := range map[string]func() (int, error){"stat": stat, "readdir": list} {
		if _, err := pass(); err != nil {
			return err
		}
		n, begin := 0, time.Now()
		for time.Since(begin) < 2*time.Second {
			k, err := pass()
			if err != nil {
				return err
			}
			n += k
		}
		m.rate(name, float64(n), time.Since(begin).Seconds())
	}
	return nil
}

// random reads a file that is in memory, and overwrites blocks of a large one.
func random(m *machine) error {
	cached := fmt.Sprintf("--size=%d", min(m.o.size, 256<<20))
	if _, err := m.fio("--filename=cached", "--rw=write", "--bs=1M", cached, "--end_fsync=1", "--refill_buffers=1"); err != nil {
		return err
	}
	if err := readAll(m.path("cached")); err != nil {
		return err
	}
	j, err := m.fio("--filename=cached", "--rw=randread", "--bs=4k", cached, "--time_based=1", "--runtime=3", "--norandommap=1")
	if err != nil {
		return err
	}
	m.value("rand-read", j.Read.IOPS)
	size := fmt.Sprintf("--size=%d", m.o.size)
	if _, err := m.fio("--filename=large", "--rw=write", "--bs=1M", size, "--end_fsync=1", "--refill_buffers=1"); err != nil {
		return err
	}
	before := m.cpu()
	j, err = m.fio("--filename=large", "--rw=randwrite", "--bs=4k", size, "--fsync=64", "--refill_buffers=1",
		"--overwrite=1", "--time_based=1", "--runtime=8", "--norandommap=1")
	m.value("rand-write", j.Write.IOPS)
	m.perOp("cpu-rand-write", before, j.Write.IOs)
	return err
}

func readAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(io.Discard, f)
	return err
}

// sqlite runs a database on the mount: small transactions, each made durable,
// then bulk work.
func sqlite(m *machine) error {
	const rows = 300
	var small strings.Builder
	small.WriteString("CREATE TABLE t(a INTEGER PRIMARY KEY, b INT, c TEXT);\n")
	for i := range rows {
		fmt.Fprintf(&small, "INSERT INTO t(b, c) VALUES(%d, 'row number %d');\n", i*7919%10_007, i)
	}
	s, err := timed(func() error { return m.sql(small.String()) })
	if err != nil {
		return err
	}
	m.rate("sqlite-sync", rows, s)
	s, err = timed(func() error {
		return m.sql(`BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100000)
INSERT INTO t(b, c) SELECT abs(random()) % 100000, hex(randomblob(40)) FROM n;
COMMIT;
CREATE INDEX tb ON t(b);
BEGIN; UPDATE t SET c = c || 'x' WHERE a % 5 = 0; COMMIT;
SELECT count(*), avg(b) FROM t WHERE b BETWEEN 1000 AND 90000;
DELETE FROM t WHERE a % 7 = 0;
VACUUM;
PRAGMA integrity_check;`)
	})
	m.value("sqlite-bulk", s)
	return err
}

func (m *machine) sql(script string) error {
	cmd := exec.CommandContext(m.ctx, "sqlite3", "-bail", m.path("db.sqlite"))
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sqlite3: %w\n%s", err, brief(out))
	}
	return nil
}

// git makes a repository of source text on the mount and works with it.
func git(m *machine) error {
	const files = 3000
	words := strings.Fields("func return if err nil := range string byte int for struct type package import const var map chan go defer select case switch")
	for i := range files {
		dir := m.path(fmt.Sprintf("repo/pkg%d", i/50))
		if i%50 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		var b strings.Builder
		for range 200 + i%400 {
			b.WriteString(words[rand.IntN(len(words))])
			b.WriteByte(" \n"[rand.IntN(2)])
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.go", i)), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	run := func(args ...string) error {
		cmd := exec.CommandContext(m.ctx, "git", append([]string{"-C", m.path("repo"), "-c", "user.name=b", "-c", "user.email=b@b",
			"-c", "gc.auto=0", "-c", "safe.directory=*"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w\n%s", args[0], err, brief(out))
		}
		return nil
	}
	if err := run("init", "-q"); err != nil {
		return err
	}
	s, err := timed(func() error { return run("add", "-A") })
	if err != nil {
		return err
	}
	m.value("git-add", s)
	s, err = timed(func() error {
		for _, args := range [][]string{{"commit", "-qm", "all"}, {"status", "--short"}, {"gc", "-q"}} {
			if err := run(args...); err != nil {
				return err
			}
		}
		return nil
	})
	m.value("git-commit", s)
	return err
}
