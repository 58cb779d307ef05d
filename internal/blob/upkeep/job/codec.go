package job

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Bounds of a record; together they keep it below what a setting may have.
const (
	maxArgs   = 16
	maxText   = 1024     // bytes of an argument, an error or a note
	maxCursor = 32 << 10 // bytes
)

const (
	magic      = "SJOB"
	version    = 1
	headerSize = len(magic) + 1 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// clip bounds a text.
func clip(s string) string { return s[:min(len(s), maxText)] }

// encodeJob writes a job as FORMAT.md says.
func encodeJob(j *Job) []byte {
	b := append([]byte(magic), version, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, j.ID)
	b = putText(b, j.Kind)
	b = binary.AppendUvarint(b, uint64(len(j.Args)))
	for _, a := range j.Args {
		b = putText(b, a)
	}
	b = append(b, byte(j.State))
	b = putText(b, string(j.Cursor))
	for _, n := range []int64{j.Progress.Done, j.Progress.Total, j.Progress.DoneBytes, j.Progress.TotalBytes} {
		b = binary.AppendVarint(b, n)
	}
	for _, t := range []time.Time{j.Created, j.Started, j.Updated, j.Ended} {
		b = binary.AppendVarint(b, moment(t))
	}
	b = putText(putText(b, j.Err), j.Note)
	binary.BigEndian.PutUint32(b[len(magic)+1:], uint32(len(b)-headerSize))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func putText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// moment is milliseconds since the Unix epoch; the zero time is the smallest
// number.
func moment(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.UnixMilli()
}

// parseJob reads what encodeJob wrote: fsapi.Corrupt.
func parseJob(b []byte) (Job, error) {
	var j Job
	body, err := unwrap(b)
	if err != nil {
		return j, err
	}
	d := decoder{b: body}
	j.ID, j.Kind = d.uint(), d.text(maxText)
	n := d.uint()
	if n > maxArgs {
		d.bad = true
	}
	for ; n > 0 && !d.bad; n-- {
		j.Args = append(j.Args, d.text(maxText))
	}
	j.State = d.state()
	if c := d.text(maxCursor); c != "" {
		j.Cursor = []byte(c)
	}
	for _, p := range []*int64{&j.Progress.Done, &j.Progress.Total, &j.Progress.DoneBytes, &j.Progress.TotalBytes} {
		*p = d.int()
	}
	for _, p := range []*time.Time{&j.Created, &j.Started, &j.Updated, &j.Ended} {
		*p = d.time()
	}
	j.Err, j.Note = d.text(maxText), d.text(maxText)
	if d.bad || len(d.b) > 0 || j.ID == 0 {
		return Job{}, fsapi.Errorf(fsapi.Corrupt, "the record of a job does not have the fields of version %d", version)
	}
	return j, nil
}

// unwrap is what lies between the header and the checksum of a record.
func unwrap(b []byte) ([]byte, error) {
	switch {
	case len(b) < headerSize+4 || string(b[:len(magic)]) != magic:
		return nil, fsapi.Errorf(fsapi.Corrupt, "%d bytes are not the record of a job", len(b))
	case b[len(magic)] != version:
		return nil, fsapi.Errorf(fsapi.NotSupported, "the record of a job has version %d: want %d", b[len(magic)], version)
	}
	body, sum := b[headerSize:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if int(binary.BigEndian.Uint32(b[len(magic)+1:])) != len(body) {
		return nil, fsapi.Errorf(fsapi.Corrupt, "the record of a job has %d bytes, and says otherwise", len(body))
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != sum {
		return nil, fsapi.Errorf(fsapi.Corrupt, "the record of a job does not match its checksum")
	}
	return body, nil
}

// decoder reads a record's fields; bad once one was not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(limit int) string {
	n := d.uint()
	if d.bad || n > uint64(limit) || n > uint64(len(d.b)) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) state() State {
	if len(d.b) == 0 || State(d.b[0]).String() == "unknown" {
		d.bad = true
		return 0
	}
	s := State(d.b[0])
	d.b = d.b[1:]
	return s
}

func (d *decoder) time() time.Time {
	v := d.int()
	if v == math.MinInt64 {
		return time.Time{}
	}
	return time.UnixMilli(v)
}
