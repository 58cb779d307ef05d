package blob

import (
	"context"
	"fmt"
	"io"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// ShardPrefix starts the names of shards.
const ShardPrefix = "shd/"

// ShardName is the name of a shard's blob on its drive: ShardPrefix, two digits
// that spread over directories, the segment's id, the shard's index.
func ShardName(id fsapi.SegmentID, index int) string {
	h := id.String()
	return fmt.Sprintf("%s%s/%s-%02d", ShardPrefix, h[len(h)-4:len(h)-2], h, index)
}

// ParseShardName is the segment and index in a name that ShardName made;
// fsapi.Invalid.
func ParseShardName(name string) (fsapi.SegmentID, int, error) {
	const at = len(ShardPrefix) + 3
	const idLen = 2 * len(fsapi.SegmentID{})
	if len(name) == at+idLen+3 {
		id, err := fsapi.ParseSegmentID(name[at : at+idLen])
		index := int(name[at+idLen+1]-'0')*10 + int(name[at+idLen+2]-'0')
		if err == nil && index >= 0 && index < fsapi.MaxShards && ShardName(id, index) == name {
			return id, index, nil
		}
	}
	return fsapi.SegmentID{}, 0, fsapi.Errorf(fsapi.Invalid, "%q is not the name of a shard", name)
}

// blobName is the name of the i-th replica or shard of a copy.
func blobName(id fsapi.SegmentID, sharded bool, i int) string {
	if sharded {
		return ShardName(id, i)
	}
	return SegmentName(id)
}

// writeShards writes shards of a segment, the i-th of slots (nil: all) to the
// i-th drive, and makes them durable. A drive that fails does not stop the
// others. The result is by shard, nil where it was not wanted.
func (s *Store) writeShards(ctx context.Context, id fsapi.SegmentID, img *image, spec policy.Copy, drives []drive.Drive, slots []int, replace bool) []*replica {
	l := erasure.For(spec.K, spec.M, img.size)
	reps := make([]*replica, l.Shards())
	out := make([]io.Writer, l.Shards())
	for i, d := range drives {
		n := i
		if slots != nil {
			n = slots[i]
		}
		reps[n] = s.newReplica(ctx, d, ShardName(id, n), l.BlobSize(n), replace)
		out[n] = reps[n]
	}
	err := s.coder.Encode(ctx, id, l, img, out)
	for _, r := range reps {
		if r != nil && r.err == nil {
			r.err = err
		}
	}
	finishAll(ctx, reps, true)
	return reps
}

// IdentifyShard is what a shard's blob says it is: its segment, layout and index.
// fsapi.Corrupt where neither its header nor its trailer can be read.
func (s *Store) IdentifyShard(ctx context.Context, d drive.Drive, b drive.Blob) (erasure.Header, error) {
	h, err := erasure.Identify(ctx, b.Size, func(ctx context.Context, off int64, p []byte) error {
		return readFull(ctx, d, b.Name, off, p)
	})
	if err == nil && ShardName(h.Segment, h.Index) != b.Name {
		err = fsapi.Errorf(fsapi.Corrupt, "it is shard %d of segment %v", h.Index, h.Segment)
	}
	if err != nil {
		return h, fsapi.Wrap(fsapi.KindOf(err), err, fmt.Sprintf("shard blob %s on drive %s", b.Name, d.Info().Name))
	}
	return h, nil
}

// ShardNames starts the names of all shards of a segment.
func ShardNames(id fsapi.SegmentID) string {
	name := ShardName(id, 0)
	return name[:len(name)-2]
}
