package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/config"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/kv"
	"github.com/strakefs/strake/internal/meta"
)

// DebugRecord is one metadata record, as text.
type DebugRecord struct {
	Table string `json:"table"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

// withNode opens a store for looking only.
func withNode(ctx context.Context, cfg config.Config, fn func(n *Node) error) error {
	n, err := openNode(ctx, cfg, slog.New(slog.DiscardHandler), openExisting)
	if err != nil {
		return err
	}
	return errors.Join(fn(n), n.Close(ctx))
}

// DebugKV prints the metadata records whose keys start with prefix, given in
// hexadecimal, at most limit of them (0: all).
func DebugKV(ctx context.Context, cfg config.Config, prefix string, limit int, emit func(DebugRecord) error) error {
	from, err := hex.DecodeString(prefix)
	if err != nil {
		return fsapi.Errorf(fsapi.Invalid, "prefix %q is not hexadecimal: %v", prefix, err)
	}
	return withNode(ctx, cfg, func(n *Node) error {
		done := 0
		return n.engine.View(ctx, func(r kv.Reader) error {
			return r.Scan(from, prefixEnd(from), func(key, value []byte) (bool, error) {
				done++
				table, k, v := meta.Describe(key, value)
				return limit == 0 || done < limit, emit(DebugRecord{table, k, v})
			})
		})
	})
}

// prefixEnd is the first key after all that start with p; nil is the end.
func prefixEnd(p []byte) []byte {
	end := append([]byte(nil), p...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// DebugFrameEntry is a frame in a segment's directory.
type DebugFrameEntry struct {
	Chunk   string `json:"chunk"`
	Offset  uint32 `json:"offset"`
	Length  uint32 `json:"length"`
	Len     uint32 `json:"plain"`
	Ino     uint64 `json:"ino"`
	FileOff int64  `json:"file_offset"`
}

// DebugSegmentInfo is what a segment says of itself.
type DebugSegmentInfo struct {
	ID         string            `json:"id"`
	Drive      string            `json:"drive"`
	Size       int64             `json:"size"`
	Volume     uint32            `json:"volume"`
	Created    time.Time         `json:"created"`
	KeyVersion uint32            `json:"key_version"`
	Frames     []DebugFrameEntry `json:"frames"`
}

// DebugSegment reads a segment from the first drive that has it.
func DebugSegment(ctx context.Context, cfg config.Config, id string) (DebugSegmentInfo, error) {
	var out DebugSegmentInfo
	err := withSegment(ctx, cfg, id, func(r *blob.SegmentReader, d drive.Drive) error {
		h := r.Header()
		out = DebugSegmentInfo{ID: id, Drive: d.Info().Name, Size: r.Size(), Volume: uint32(h.Volume), Created: h.Created, KeyVersion: uint32(h.Key)}
		for _, e := range r.Directory() {
			out.Frames = append(out.Frames, frameEntry(e))
		}
		return nil
	})
	return out, err
}

func frameEntry(e blob.DirEntry) DebugFrameEntry {
	return DebugFrameEntry{e.Chunk.String(), e.Offset, e.Length, e.Len, uint64(e.Ino), e.FileOff}
}

// DebugFrame reads, opens and verifies one frame; plain is the chunk's bytes.
func DebugFrame(ctx context.Context, cfg config.Config, id string, index int) (f DebugFrameEntry, plain []byte, err error) {
	err = withSegment(ctx, cfg, id, func(r *blob.SegmentReader, _ drive.Drive) error {
		dir := r.Directory()
		if index < 0 || index >= len(dir) {
			return fsapi.Errorf(fsapi.Invalid, "segment %s has frames 0 to %d", id, len(dir)-1)
		}
		f = frameEntry(dir[index])
		plain, err = r.ReadFrame(ctx, dir[index])
		return err
	})
	return f, plain, err
}

func withSegment(ctx context.Context, cfg config.Config, id string, fn func(*blob.SegmentReader, drive.Drive) error) error {
	seg, err := fsapi.ParseSegmentID(id)
	if err != nil {
		return err
	}
	return withNode(ctx, cfg, func(n *Node) error {
		for _, d := range n.blobDrives() {
			r, err := n.blob.OpenSegment(ctx, d, seg)
			if errors.Is(err, fsapi.NotExist) {
				continue
			}
			if err != nil {
				return err
			}
			return fn(r, d)
		}
		return fsapi.Errorf(fsapi.NotExist, "no drive has segment %s", id)
	})
}
