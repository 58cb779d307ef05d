package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// speedtest is SQLite's own speed test, as a Go program so that it installs
// anywhere.
const speedtest = "modernc.org/sqlite/speedtest1@v1.20.0"

func sqliteWhole(r *rig) error {
	bin := filepath.Join(r.out, "bin")
	if _, err := cmd(r.ctx, "", []string{"GOBIN=" + bin, "GOFLAGS=-mod=mod"}, "go", "install", speedtest); err != nil {
		return err
	}
	d, err := r.dir("sqlite")
	if err != nil {
		return err
	}
	out, err := cmd(r.ctx, d, nil, filepath.Join(bin, "speedtest1"), "--size", "50", "test.db")
	if err != nil {
		return err
	}
	if i := strings.Index(out, "TOTAL"); i >= 0 {
		fmt.Printf("  speedtest1: %s\n", strings.TrimSpace(out[i:]))
	}
	if err := need("sqlite3"); err != nil {
		return err
	}
	check, err := cmd(r.ctx, d, nil, "sqlite3", "test.db", "PRAGMA integrity_check")
	if err == nil && strings.TrimSpace(check) != "ok" {
		err = fmt.Errorf("integrity_check: %s", check)
	}
	return err
}

// sqliteInterrupted commits one row after the other and notes the ids that
// sqlite3 reported as committed. synchronous=EXTRA, as FULL does not sync the
// removal of the rollback journal, which is what commits.
func sqliteInterrupted(ctx context.Context, r *rig) (func() error, error) {
	if err := need("sqlite3"); err != nil {
		return nil, err
	}
	d, err := r.dir("sqlite-killed")
	if err != nil {
		return nil, err
	}
	db := filepath.Join(d, "t.db")
	if _, err := cmd(ctx, d, nil, "sqlite3", db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"); err != nil {
		return nil, err
	}
	acked, err := insertRows(ctx, db)
	if err != nil {
		return nil, err
	}
	return func() error {
		fmt.Printf("  %d transactions were acknowledged before the kill\n", acked)
		out, err := cmd(r.ctx, d, nil, "sqlite3", db, "PRAGMA integrity_check; SELECT count(*), max(id) FROM t")
		if err != nil {
			return err
		}
		lines := strings.Fields(strings.ReplaceAll(out, "|", " "))
		if len(lines) != 3 || lines[0] != "ok" {
			return fmt.Errorf("integrity_check: %s", out)
		}
		n, _ := strconv.Atoi(lines[1])
		if n < acked || lines[1] != lines[2] || acked == 0 {
			return fmt.Errorf("%s rows up to %s are there, %d were acknowledged", lines[1], lines[2], acked)
		}
		return nil
	}, nil
}

// insertRows feeds one sqlite3 process until it fails or ctx ends, and returns
// how many transactions it acknowledged.
func insertRows(ctx context.Context, db string) (int, error) {
	c := exec.CommandContext(ctx, "sqlite3", db)
	in, err := c.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	defer c.Wait()
	defer in.Close()
	sc := bufio.NewScanner(out)
	if _, err := fmt.Fprintln(in, ".bail on\nPRAGMA synchronous=EXTRA;"); err != nil {
		return 0, nil
	}
	for i := 1; ctx.Err() == nil; i++ {
		if _, err := fmt.Fprintf(in, "INSERT INTO t(id, v) VALUES(%d, '%s'); SELECT 'ack';\n", i, strings.Repeat("v", 300)); err != nil {
			return i - 1, nil
		}
		if !sc.Scan() || sc.Text() != "ack" {
			return i - 1, nil
		}
	}
	return 0, ctx.Err()
}

// postgres is a PostgreSQL cluster on the mount.
type postgres struct {
	dir  string // of the cluster
	sock string // directory of its socket, beside the mount
	bin  string
	uid  *syscall.Credential
}

// pgUser is whom PostgreSQL runs as: it refuses root.
const pgUser = "nobody"

func newPostgres(r *rig, name string) (*postgres, error) {
	bin, err := pgBin()
	if err != nil {
		return nil, err
	}
	u, err := user.Lookup(pgUser)
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	p := &postgres{dir: filepath.Join(r.mnt, name), sock: filepath.Join(r.out, "pg"), bin: bin, uid: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := os.MkdirAll(p.sock, 0o755); err != nil {
		return nil, err
	}
	return p, os.Chown(p.sock, uid, gid)
}

// pgBin finds the directory of PostgreSQL's programs, which Debian keeps out of
// the PATH.
func pgBin() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, "pgbench")); err == nil {
			return d, nil
		}
	}
	return "", skip("PostgreSQL with pgbench is not installed (make acceptance as root on Debian installs it)")
}

func (p *postgres) run(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	c.Dir = p.sock
	c.Env = append(os.Environ(), "PGHOST="+p.sock, "PGDATABASE=postgres", "PGUSER="+pgUser, "LC_ALL=C")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: p.uid}
	// pg_ctl leaves a server behind that holds its output open: give it a file.
	out, err := os.CreateTemp(p.sock, "out-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	err = c.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil {
		return string(text), fmt.Errorf("%s: %w: %s", name, err, text[max(0, len(text)-2000):])
	}
	return string(text), nil
}

func (p *postgres) init(ctx context.Context) error {
	os.RemoveAll(p.dir)
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return err
	}
	if err := os.Chown(p.dir, int(p.uid.Uid), int(p.uid.Gid)); err != nil {
		return err
	}
	_, err := p.run(ctx, "initdb", "-D", p.dir, "-U", pgUser, "--auth=trust", "--no-instructions")
	return err
}

func (p *postgres) start(ctx context.Context) error {
	_, err := p.run(ctx, "pg_ctl", "-D", p.dir, "-w", "-t", "120", "-l", filepath.Join(p.sock, "log"), "-o", "-k "+p.sock+" -c listen_addresses= -c max_connections=20", "start")
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(p.sock, "log"))
		err = fmt.Errorf("%w; its log ends: %s", err, log[max(0, len(log)-1500):])
	}
	return err
}

func (p *postgres) stop(mode string) {
	p.run(context.Background(), "pg_ctl", "-D", p.dir, "-m", mode, "-w", "-t", "60", "stop")
}

func postgresWhole(r *rig) error {
	p, err := newPostgres(r, "postgres")
	if err != nil {
		return err
	}
	if err := p.init(r.ctx); err != nil {
		return err
	}
	if err := p.start(r.ctx); err != nil {
		return err
	}
	defer p.stop("fast")
	if _, err := p.run(r.ctx, "pgbench", "-i", "-s", "10", "-q"); err != nil {
		return err
	}
	out, err := p.run(r.ctx, "pgbench", "-c", "8", "-j", "2", "-T", "15")
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "tps") || strings.HasPrefix(line, "latency average") {
			fmt.Printf("  pgbench: %s\n", line)
		}
	}
	if err != nil {
		return err
	}
	_, err = p.run(r.ctx, "psql", "-qc", "SELECT count(*) FROM pgbench_history")
	return err
}

// postgresInterrupted commits rows through psql, one transaction each, beside a
// running pgbench, and notes those acknowledged.
func postgresInterrupted(ctx context.Context, r *rig) (func() error, error) {
	p, err := newPostgres(r, "postgres-killed")
	if err != nil {
		return nil, err
	}
	// Making the cluster takes longer than the time to the kill, so the kill is
	// ours: what runs before it does not count.
	if err := p.init(r.ctx); err != nil {
		return nil, err
	}
	if err := p.start(r.ctx); err != nil {
		return nil, err
	}
	if _, err := p.run(r.ctx, "psql", "-qc", "CREATE TABLE acks(id int primary key)"); err != nil {
		return nil, err
	}
	acked := p.insertUntilKilled(r)
	p.stop("immediate")
	p.killLeftovers()
	return func() error {
		fmt.Printf("  %d transactions were acknowledged before the kill\n", acked)
		os.Remove(filepath.Join(p.dir, "postmaster.pid"))
		for _, name := range []string{".s.PGSQL.5432", ".s.PGSQL.5432.lock"} { // what the dead postmaster left
			os.Remove(filepath.Join(p.sock, name))
		}
		if err := p.start(r.ctx); err != nil {
			return err
		}
		defer p.stop("fast")
		out, err := p.run(r.ctx, "psql", "-Atc", "SELECT count(*) FROM acks")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(out))
		if err == nil && (n < acked || acked == 0) {
			err = fmt.Errorf("%d rows are there, %d were acknowledged", n, acked)
		}
		return err
	}, nil
}

// insertUntilKilled runs for a while, kills the server under it, and returns
// how many inserts psql reported.
func (p *postgres) insertUntilKilled(r *rig) int {
	c := exec.Command(filepath.Join(p.bin, "psql"), "-At", "-v", "ON_ERROR_STOP=1")
	c.Env = append(os.Environ(), "PGHOST="+p.sock, "PGDATABASE=postgres", "PGUSER="+pgUser)
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		return 0
	}
	killed := time.AfterFunc(killAfter/2, r.kill)
	defer killed.Stop()
	sc := bufio.NewScanner(out)
	acked := 0
	for i := 1; ; i++ {
		if _, err := fmt.Fprintf(in, "INSERT INTO acks VALUES(%d);\n", i); err != nil {
			break
		}
		if !sc.Scan() || !strings.HasPrefix(sc.Text(), "INSERT") {
			break
		}
		acked = i
	}
	in.Close()
	c.Wait()
	return acked
}

// killLeftovers ends server processes that a dead mount keeps from ending by
// themselves; they are found by their working directory's name.
func (p *postgres) killLeftovers() {
	pids, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range pids {
		line, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(line), p.dir) {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			if pid != os.Getpid() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}
