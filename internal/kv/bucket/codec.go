package bucket

import (
	"encoding/binary"
	"math"

	"github.com/strakefs/strake/internal/fsapi"
)

// decoder reads integers and strings off a plaintext. The first thing that does
// not read makes bad true, and everything after it zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	n, w := binary.Uvarint(d.b)
	if d.bad || w <= 0 || w > 1 && d.b[w-1] == 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *decoder) size() int64 {
	n := d.uvarint()
	if n > math.MaxInt64 {
		d.bad = true
		return 0
	}
	return int64(n)
}

func (d *decoder) text() string { return string(d.take(d.uvarint())) }

// count is the number of things that follow, each of at least one byte.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) ref() (r ref) {
	r.epoch, r.number = d.uvarint(), d.uvarint()
	copy(r.salt[:], d.take(saltLen))
	return r
}

func (d *decoder) end(what string) error {
	if d.bad || len(d.b) > 0 {
		return fsapi.Errorf(fsapi.Corrupt, "it is no %s: %d bytes before its end do not read", what, len(d.b))
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendRef(b []byte, r ref) []byte {
	b = binary.AppendUvarint(b, r.epoch)
	b = binary.AppendUvarint(b, r.number)
	return append(b, r.salt[:]...)
}

// head is what says which manifest counts and who may write the next one.
type head struct {
	epoch  uint64 // of the header
	salt   salt   // of the header: who wrote it can tell it from any other
	holder string // for people
	// manifest that counts; of number 0 while there is none.
	manifest ref
	// from is the number of the first journal object that it does not hold.
	from uint64
}

func (h *head) encode() []byte {
	b := appendText(nil, h.holder)
	b = appendRef(b, h.manifest)
	return binary.AppendUvarint(b, h.from)
}

func decodeHead(hd header, plain []byte) (h head, err error) {
	if hd.kind != kindHead {
		return h, fsapi.Errorf(fsapi.Corrupt, "it is of kind %d, not a head", hd.kind)
	}
	d := decoder{b: plain}
	h = head{epoch: hd.epoch, salt: hd.salt, holder: d.text(), manifest: d.ref(), from: d.uvarint()}
	return h, d.end("head")
}

// manifest is one state of the tables.
type manifest struct {
	ref
	from    uint64 // as in head
	files   []smallFile
	tables  []tableEntry
	garbage []garbage
}

// smallFile is a file of Pebble's directory that is no table.
type smallFile struct {
	name string
	data []byte
}

// tableEntry is a table of Pebble's directory and the object that holds it.
type tableEntry struct {
	name string
	size int64 // plaintext, bytes
	ref  ref
}

// garbage is what no manifest from this one on needs: one object, or the journal
// objects first to last, both inclusive, where key is empty.
type garbage struct {
	since       int64 // Unix milliseconds
	key         string
	first, last uint64
}

func (m *manifest) encode() []byte {
	b := binary.AppendUvarint(nil, m.from)
	b = binary.AppendUvarint(b, uint64(len(m.files)))
	for _, f := range m.files {
		b = appendText(appendText(b, f.name), string(f.data))
	}
	b = binary.AppendUvarint(b, uint64(len(m.tables)))
	for _, t := range m.tables {
		b = binary.AppendUvarint(appendText(b, t.name), uint64(t.size))
		b = appendRef(b, t.ref)
	}
	b = binary.AppendUvarint(b, uint64(len(m.garbage)))
	for _, g := range m.garbage {
		b = appendText(binary.AppendUvarint(b, uint64(g.since)), g.key)
		b = binary.AppendUvarint(b, g.first)
		b = binary.AppendUvarint(b, g.last)
	}
	return b
}

func decodeManifest(hd header, plain []byte) (m manifest, err error) {
	if hd.kind != kindManifest {
		return m, fsapi.Errorf(fsapi.Corrupt, "it is of kind %d, not a manifest", hd.kind)
	}
	d := decoder{b: plain}
	m.ref = ref{hd.epoch, hd.number, hd.salt}
	m.from = d.uvarint()
	for range d.count() {
		m.files = append(m.files, smallFile{d.fileName(), d.take(d.uvarint())})
	}
	for range d.count() {
		m.tables = append(m.tables, tableEntry{d.fileName(), d.size(), d.ref()})
	}
	for range d.count() {
		m.garbage = append(m.garbage, garbage{since: d.size(), key: d.text(), first: d.uvarint(), last: d.uvarint()})
	}
	return m, d.end("manifest")
}

// fileName is a name that stays within the directory it is made in.
func (d *decoder) fileName() string {
	s := d.text()
	for i := range len(s) {
		if s[i] == '/' || s[i] == '\\' || s[i] == 0 {
			d.bad = true
		}
	}
	d.bad = d.bad || s == "" || s == "." || s == ".." || len(s) > 255
	return s
}
