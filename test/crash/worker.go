package crash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// A worker is a process that works on a mount until it fails, which is when the
// server is killed. Before a step it writes to its journal, a file elsewhere,
// what it is about to do, and after it what it was told to be durable:
//
//	do NAME N     begins, on NAME, step or version N
//	ok NAME N     is durable
//
// proof says what must be there then.
type worker struct {
	kind string
	dir  string // on the mount; not made here, lest it be made where a mount was
	seed uint64

	journal *os.File
	mute    error // why the journal does not take everything
	rng     *rand.Rand
}

// kinds of workers, with what they do and what proves that nothing was lost.
var kinds = map[string]struct {
	work  func(*worker) error
	proof func(dir string, j *journal) error
}{
	"log":    {(*worker).log, proveLog},
	"swap":   {(*worker).swap, proveSwap},
	"names":  {(*worker).names, proveNames},
	"blocks": {(*worker).blocks, proveBlocks},
	"big":    {(*worker).big, proveBig},
}

// workEnv tells a process that it is a worker: "KIND DIR JOURNAL SEED".
const workEnv = "STRAKE_CRASH_WORKER"

// runWorker is the main function of a worker process.
func runWorker(spec string) error {
	w := &worker{}
	var name string
	if _, err := fmt.Sscan(spec, &w.kind, &w.dir, &name, &w.seed); err != nil {
		return err
	}
	var err error
	if w.journal, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	defer w.journal.Close()
	w.rng = rand.New(rand.NewPCG(w.seed, 5))
	err = kinds[w.kind].work(w)
	// It has to end with the server, and no sooner.
	w.say("end %s 0", strings.Join(strings.Fields(fmt.Sprint(err)), "_"))
	return errors.Join(err, w.mute)
}

func (w *worker) say(format string, args ...any) {
	_, err := fmt.Fprintf(w.journal, format+"\n", args...)
	w.mute = errors.Join(w.mute, err)
}

// journal is what a worker said, by name: the last step begun, the last durable.
type journal struct {
	begun, durable map[string]int
	names          []string // in the order in which they were first named
	end            string   // what it ended with
}

func readJournal(name string) (*journal, error) {
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	j := &journal{begun: map[string]int{}, durable: map[string]int{}}
	for line := range strings.Lines(string(data)) {
		var what, name string
		var n int
		if _, err := fmt.Sscan(line, &what, &name, &n); err != nil {
			return nil, fmt.Errorf("journal line %q: %w", line, err)
		}
		switch what {
		case "do":
			if _, ok := j.begun[name]; !ok {
				j.names = append(j.names, name)
			}
			j.begun[name] = n
		case "ok":
			j.durable[name] = n
		case "end":
			j.end = name
		}
	}
	return j, nil
}

// record is n bytes that tell which record of which name they are.
func record(name string, version, n int) []byte {
	p := make([]byte, n)
	binary.LittleEndian.PutUint64(p, uint64(version))
	binary.LittleEndian.PutUint32(p[8:], crc32.ChecksumIEEE([]byte(name)))
	x := uint64(version)*0x9e3779b97f4a7c15 + uint64(crc32.ChecksumIEEE([]byte(name)))
	for i := 16; i < n; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	binary.LittleEndian.PutUint32(p[12:], crc32.ChecksumIEEE(p[16:]))
	return p
}

// versionOf is the version of a record; an error where it is none of name.
func versionOf(name string, p []byte) (int, error) {
	if len(p) < 16 {
		return 0, fmt.Errorf("%d bytes are no record", len(p))
	}
	v := int(binary.LittleEndian.Uint64(p))
	switch {
	case binary.LittleEndian.Uint32(p[8:]) != crc32.ChecksumIEEE([]byte(name)):
		return 0, fmt.Errorf("a record of something else (version %d)", v)
	case binary.LittleEndian.Uint32(p[12:]) != crc32.ChecksumIEEE(p[16:]):
		return 0, fmt.Errorf("a torn record (version %d)", v)
	}
	return v, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

const logRecord = 200

// log appends records to one file, some with fsync, through O_APPEND.
func (w *worker) log() error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if w.seed%3 == 0 {
		flags |= os.O_SYNC
	}
	f, err := os.OpenFile(filepath.Join(w.dir, "log"), flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := 1; ; n++ {
		w.say("do log %d", n)
		if _, err := f.Write(record("log", n, logRecord)); err != nil {
			return err
		}
		if flags&os.O_SYNC == 0 {
			if w.rng.IntN(5) != 0 {
				continue
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		w.say("ok log %d", n)
	}
}

func proveLog(dir string, j *journal) error {
	data, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && j.durable["log"] == 0 {
			return nil
		}
		return err
	}
	if n := j.durable["log"]; len(data) < n*logRecord || len(data) > j.begun["log"]*logRecord {
		return fmt.Errorf("%d bytes are %d records; %d were durable, %d written", len(data), len(data)/logRecord, n, j.begun["log"])
	}
	for i := 0; i*logRecord < len(data); i++ {
		got := data[i*logRecord : min((i+1)*logRecord, len(data))]
		want := record("log", i+1, logRecord)[:len(got)]
		if !bytes.Equal(got, want) && (i < j.durable["log"] || !eitherOr(got, want)) {
			return fmt.Errorf("record %d of %d (%d durable) is not what was written", i+1, len(data)/logRecord, j.durable["log"])
		}
	}
	return nil
}

// eitherOr reports whether each byte is as wanted or, not having been stored,
// zero.
func eitherOr(got, want []byte) bool {
	for i, b := range got {
		if b != 0 && b != want[i] {
			return false
		}
	}
	return true
}

// swap replaces a file by rename, as editors and databases do.
func (w *worker) swap() error {
	name := filepath.Join(w.dir, "current")
	for n := 1; ; n++ {
		w.say("do current %d", n)
		f, err := os.Create(name + ".new")
		if err != nil {
			return err
		}
		_, err = f.Write(record("current", n, 16+w.rng.IntN(60_000)))
		sync := n == 1 || w.rng.IntN(4) != 0
		if err == nil && sync {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := os.Rename(name+".new", name); err != nil {
			return err
		}
		if sync {
			if err := syncDir(w.dir); err != nil {
				return err
			}
			w.say("ok current %d", n)
		}
	}
}

func proveSwap(dir string, j *journal) error {
	data, err := os.ReadFile(filepath.Join(dir, "current"))
	if errors.Is(err, fs.ErrNotExist) && j.durable["current"] == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	v, err := versionOf("current", data)
	if err == nil && (v < j.durable["current"] || v > j.begun["current"]) {
		err = fmt.Errorf("it is version %d; %d was durable, %d written", v, j.durable["current"], j.begun["current"])
	}
	return err
}

// alive is how many names a names worker keeps.
const alive = 12

// names makes files and removes older ones. Odd steps of a name are there,
// even ones are not.
func (w *worker) names() error {
	for n := 1; ; n++ {
		name := fmt.Sprint("n", n)
		w.say("do %s 1", name)
		p := filepath.Join(w.dir, name)
		f, err := os.Create(p)
		if err != nil {
			return err
		}
		_, err = f.Write(record(name, n, 16+w.rng.IntN(9000)))
		sync := w.rng.IntN(3) != 0
		if err == nil && sync {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if sync {
			if err := syncDir(w.dir); err != nil {
				return err
			}
			w.say("ok %s 1", name)
		}
		if n <= alive {
			continue
		}
		old := fmt.Sprint("n", n-alive)
		w.say("do %s 2", old)
		if err := os.Remove(filepath.Join(w.dir, old)); err != nil {
			return err
		}
		if w.rng.IntN(3) == 0 {
			if err := syncDir(w.dir); err != nil {
				return err
			}
			w.say("ok %s 2", old)
		}
	}
}

func proveNames(dir string, j *journal) error {
	for _, name := range j.names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		switch there := err == nil; {
		case !there && !errors.Is(err, fs.ErrNotExist):
			return err
		case there && j.durable[name] == 2:
			return fmt.Errorf("%s is there, its removal was durable", name)
		case !there && j.durable[name] == 1 && j.begun[name] == 1:
			return fmt.Errorf("%s is not there, it was durable", name)
		case there && j.durable[name] == 1:
			if _, err := versionOf(name, data); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

const (
	blockBytes = 4096
	blockCount = 256
)

// blocks overwrites blocks of a file at random, as a database does.
func (w *worker) blocks() error {
	f, err := os.OpenFile(filepath.Join(w.dir, "blocks"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	dirty := map[string]int{}
	for n := 1; ; n++ {
		b := w.rng.IntN(blockCount)
		name := fmt.Sprint("b", b)
		w.say("do %s %d", name, n)
		if _, err := f.WriteAt(record(name, n, blockBytes), int64(b)*blockBytes); err != nil {
			return err
		}
		dirty[name] = n
		if w.rng.IntN(8) != 0 {
			continue
		}
		if err := f.Sync(); err != nil {
			return err
		}
		for name, n := range dirty {
			w.say("ok %s %d", name, n)
		}
		clear(dirty)
	}
}

func proveBlocks(dir string, j *journal) error {
	data, err := os.ReadFile(filepath.Join(dir, "blocks"))
	if errors.Is(err, fs.ErrNotExist) && len(j.durable) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for b := range blockCount {
		name := fmt.Sprint("b", b)
		p := data[min(b*blockBytes, len(data)):min((b+1)*blockBytes, len(data))]
		if j.durable[name] == 0 && len(strings.Trim(string(p), "\x00")) == 0 {
			continue
		}
		v, err := versionOf(name, p)
		if err == nil && (v < j.durable[name] || v > j.begun[name]) {
			err = fmt.Errorf("it is version %d; %d was durable, %d written", v, j.durable[name], j.begun[name])
		}
		if err != nil {
			return fmt.Errorf("block %d: %w", b, err)
		}
	}
	return nil
}

const bigRecord = 64 << 10

// big writes files of many megabytes.
func (w *worker) big() error {
	for n := 1; ; n++ {
		name := fmt.Sprint("big", n%3)
		f, err := os.Create(filepath.Join(w.dir, name))
		if err != nil {
			return err
		}
		count := 1 + w.rng.IntN(300)
		w.say("do %s %d", name, count)
		for i := range count {
			if _, err := f.Write(record(name, i, bigRecord)); err != nil {
				return err
			}
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		w.say("ok %s %d", name, count)
		// The next round truncates one of the others: what it held is given up.
		w.say("ok big%d 0", (n+1)%3)
	}
}

func proveBig(dir string, j *journal) error {
	for _, name := range j.names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && j.durable[name] == 0 {
			continue
		}
		if err != nil {
			return err
		}
		if len(data) < j.durable[name]*bigRecord {
			return fmt.Errorf("%s has %d bytes; %d records of %d were durable", name, len(data), j.durable[name], bigRecord)
		}
		for i := range j.durable[name] {
			v, err := versionOf(name, data[i*bigRecord:(i+1)*bigRecord])
			if err == nil && v != i {
				err = fmt.Errorf("is record %d", v)
			}
			if err != nil {
				return fmt.Errorf("%s, record %d: %w", name, i, err)
			}
		}
	}
	return nil
}
