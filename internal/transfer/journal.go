package transfer

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"

	"github.com/strakefs/strake/internal/fsapi"
)

// journalHead is the first line of a journal, with what it is about. Each line
// that follows is one file that was copied: 32 hexadecimal digits, a space, and
// the CRC-32C of these in 8. The digits are the first 16 bytes of SHA-256 of
// the file's path (or inode), size, and times of change. What is cut short or damaged is
// passed over: its file is copied again.
const journalHead = "strake copy journal 1 "

// Journal remembers over restarts which files were copied as they are. Safe for
// concurrent use.
type Journal struct {
	mu   sync.Mutex
	f    *os.File
	w    *bufio.Writer
	done map[[16]byte]struct{} // guarded by mu
	old  bool                  // it was there before
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenJournal opens or makes a journal of copies of what. fsapi.Exist where it
// is another's.
func OpenJournal(path, what string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fsapi.Wrap(fsapi.IO, err, "open the journal of the copy")
	}
	j := &Journal{f: f, w: bufio.NewWriter(f), done: map[[16]byte]struct{}{}}
	if err := j.load(what); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) load(what string) error {
	head := journalHead + hex.EncodeToString([]byte(what))
	sc := bufio.NewScanner(j.f)
	sc.Buffer(nil, 1<<20)
	for first := true; sc.Scan(); first = false {
		switch line := sc.Text(); {
		case first && line != head:
			return fsapi.Errorf(fsapi.Exist, "%s is the journal of another copy, or no journal: name another with --journal, or remove it", j.f.Name())
		case first:
			j.old = true
		default:
			j.take(line)
		}
	}
	if err := sc.Err(); err != nil {
		return fsapi.Wrap(fsapi.IO, err, "read the journal "+j.f.Name())
	}
	// A line that was cut short is ended, so that the next is whole.
	text := "\n"
	if !j.old {
		text = head + "\n"
	}
	_, err := j.f.WriteString(text)
	return fsapi.Wrap(fsapi.IO, err, "write the journal "+j.f.Name())
}

func (j *Journal) take(line string) {
	key, sum, _ := strings.Cut(line, " ")
	b, err := hex.DecodeString(key)
	if err != nil || len(b) != 16 || sum != lineSum(key) {
		return
	}
	j.done[[16]byte(b)] = struct{}{}
}

func lineSum(key string) string { return fmt.Sprintf("%08x", crc32.Checksum([]byte(key), castagnoli)) }

// keyOf is what a file is known by: of one with several names the inode, as any
// of them may be found first.
func keyOf(e *Entry) [16]byte {
	who := "path\x00" + e.Path
	if e.Nlink > 1 {
		who = "inode\x00" + e.ID
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%d", who, e.Size, e.Mtime.UnixNano(), e.Ctime.UnixNano()))
	return [16]byte(h[:16])
}

// knows reports whether a file may be passed over that looks the same: because
// it was copied as it is now, or because nothing was ever noted.
func (j *Journal) knows(e *Entry) bool {
	if j == nil || !j.old {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.done[keyOf(e)]
	return ok
}

// add notes a file that was copied.
func (j *Journal) add(e *Entry) error {
	if j == nil {
		return nil
	}
	key := keyOf(e)
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.done[key]; ok {
		return nil
	}
	j.done[key] = struct{}{}
	text := hex.EncodeToString(key[:])
	_, err := fmt.Fprintf(j.w, "%s %s\n", text, lineSum(text))
	return fsapi.Wrap(fsapi.IO, err, "write the journal "+j.f.Name())
}

// Flush writes what was noted.
func (j *Journal) Flush() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return fsapi.Wrap(fsapi.IO, j.w.Flush(), "write the journal "+j.f.Name())
}

// Close makes the journal durable.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.Flush(), fsapi.Wrap(fsapi.IO, j.f.Sync(), "write the journal"), j.f.Close())
}
