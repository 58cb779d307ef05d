package meta

import (
	"encoding/binary"
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Bits of a wanted copy.
const (
	specEvictable = 1 << iota
	specAll       = 1<<iota - 1
)

func putSpecs(b []byte, list []fsapi.CopySpec) []byte {
	b = putUint(b, uint64(len(list)))
	for i := range list {
		c := &list[i]
		var bits uint64
		if c.Evictable {
			bits |= specEvictable
		}
		b = putStr(b, c.Tier)
		for _, n := range []int{c.Replicas, c.K, c.M, c.Min} {
			b = putUint(b, uint64(n))
		}
		b = putInt(putUint(b, bits), int64(c.EvictAfter))
	}
	return b
}

func (d *dec) specs() []fsapi.CopySpec {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
	}
	if d.bad || n == 0 {
		return nil
	}
	list := make([]fsapi.CopySpec, n)
	for i := range list {
		c := &list[i]
		c.Tier = d.str()
		for _, p := range []*int{&c.Replicas, &c.K, &c.M, &c.Min} {
			*p = int(d.u32())
		}
		bits := d.uint()
		if bits&^specAll != 0 {
			d.fail()
		}
		c.Evictable = bits&specEvictable != 0
		c.EvictAfter = time.Duration(d.int())
	}
	return list
}

func putCopyPlace(b []byte, c *fsapi.CopyPlace) []byte {
	b = putStr(b, c.Tier)
	b = putUint(putUint(b, uint64(c.K)), uint64(c.M))
	b = putUint(b, uint64(len(c.Drives)))
	for _, d := range c.Drives {
		b = be64(b, uint64(d))
	}
	return putMoment(b, c.Verified)
}

func (d *dec) copyPlace() (c fsapi.CopyPlace) {
	c.Tier = d.str()
	c.K, c.M = int(d.u32()), int(d.u32())
	n := d.uint()
	if n > uint64(len(d.b)/8) || c.K > 0 && n != uint64(c.K+c.M) || c.K == 0 && c.M > 0 {
		d.fail()
		return c
	}
	for range n {
		c.Drives = append(c.Drives, fsapi.DriveID(binary.BigEndian.Uint64(d.take(8))))
	}
	c.Verified = d.moment()
	return c
}

// putMoment writes a time that may be none.
func putMoment(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return putTime(append(b, 1), 0, t)
}

func (d *dec) moment() time.Time {
	switch d.byte() {
	case 0:
	case 1:
		return d.time(0)
	default:
		d.fail()
	}
	return time.Time{}
}
