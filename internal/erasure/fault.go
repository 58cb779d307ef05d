package erasure

import (
	"fmt"

	"github.com/strakefs/strake/internal/fsapi"
)

// Part is a part of a shard's blob.
type Part uint8

// The parts.
const (
	PartBlob    Part = iota // all of it: a range of several blocks could not be read, or its size is wrong
	PartHeader              // the first HeaderSize bytes
	PartBlock               // one block
	PartTable               // one row of the table of checksums
	PartTrailer             // the last HeaderSize bytes
)

// Fault is something wrong with a shard that was met and got round: the shard is
// to be rebuilt.
type Fault struct {
	Shard  int
	Part   Part
	Number int   // of the block or row
	Err    error // fsapi.Corrupt where bytes are wrong, else what reading them said
}

// fault is a Fault whose error names the shard and the part.
func fault(h Header, part Part, number int, kind fsapi.Kind, why any) Fault {
	where := [...]string{"", ": header", fmt.Sprintf(": block %d", number), fmt.Sprintf(": row %d of its checksums", number), ": trailer"}[part]
	err := fsapi.Errorf(kind, "%s%s: %v", name(h.Segment, h.Layout, h.Index), where, why)
	if cause, ok := why.(error); ok {
		err = fsapi.Errorf(kind, "%s%s: %w", name(h.Segment, h.Layout, h.Index), where, cause)
	}
	return Fault{Shard: h.Index, Part: part, Number: number, Err: err}
}
