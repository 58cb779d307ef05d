// Package policy is what a volume, directory or file asked for: copies,
// compression, encryption, chunking, acknowledgement, retention; parsed from
// and printed as text.
//
// It owns: Policy, its text form, inheritance. It must not know who stores or
// obeys it.
package policy

import (
	"time"

	"github.com/strakefs/strake/internal/fsapi"
)

// Policy is a set of wishes. Zero fields are inherited from the parent
// directory, and at the volume from Default. Text form: space-separated
// key=value, e.g. "copies=hot:2 compression=zstd-3 chunking=fixed:65536
// ack=local trash=24h".
type Policy struct {
	// Copies a segment should have, in order: the first that can be placed is
	// written before the acknowledgement, the others follow.
	Copies      []Copy
	Compression Compression
	Chunking    Chunking
	Ack         Ack
	// Trash is how long deleted files are kept; negative: not at all.
	Trash time.Duration
	// Atime is when reading updates st_atime.
	Atime Atime
	// Retention is what keeps new files from being changed and deleted.
	Retention Retention
}

// Copy is one full representation of a segment on one tier.
type Copy = fsapi.CopySpec

// Compression is "auto", "none", "s2", or "zstd-1" to "zstd-19"; "" inherits.
type Compression string

// Chunking says how bytes are cut: content-defined between Min and Max around
// Avg, or all of Fixed bytes. The zero Chunking inherits.
type Chunking struct {
	Min, Avg, Max int // bytes; content-defined where Avg is not 0
	Fixed         int // bytes
}

// Ack is the acknowledgement class: "async", "local", "quorum", "remote".
type Ack string

// Atime is "relatime", "strictatime" or "noatime" (mount(8)).
type Atime string

// The values of Ack and Atime.
const (
	AckAsync  Ack = "async"
	AckLocal  Ack = "local"
	AckQuorum Ack = "quorum"
	AckRemote Ack = "remote"

	Relatime    Atime = "relatime"
	StrictAtime Atime = "strictatime"
	NoAtime     Atime = "noatime"
)

// Default is what a volume starts from: one hot replica, compression auto,
// content-defined chunks of 64 KiB, 256 KiB, 1 MiB, acknowledgement local,
// trash for a day, relatime, no retention. Every field is set.
func Default() Policy {
	return Policy{
		Copies:      []Copy{{Tier: "hot", Replicas: 1}},
		Compression: "auto",
		Chunking:    Chunking{Min: 64 << 10, Avg: 256 << 10, Max: 1 << 20},
		Ack:         AckLocal,
		Trash:       24 * time.Hour,
		Atime:       Relatime,
		Retention:   Retention{Mode: RetentionOff},
	}
}

// Or is p with its zero fields taken from parent.
func (p Policy) Or(parent Policy) Policy {
	if len(p.Copies) == 0 {
		p.Copies = parent.Copies
	}
	if p.Compression == "" {
		p.Compression = parent.Compression
	}
	if p.Chunking == (Chunking{}) {
		p.Chunking = parent.Chunking
	}
	if p.Ack == "" {
		p.Ack = parent.Ack
	}
	if p.Trash == 0 {
		p.Trash = parent.Trash
	}
	if p.Atime == "" {
		p.Atime = parent.Atime
	}
	if p.Retention == (Retention{}) {
		p.Retention = parent.Retention
	}
	return p
}

// IsZero reports whether p asks for nothing.
func (p Policy) IsZero() bool {
	return len(p.Copies) == 0 && p.Compression == "" && p.Chunking == (Chunking{}) && p.Ack == "" && p.Trash == 0 && p.Atime == "" && p.Retention == Retention{}
}
