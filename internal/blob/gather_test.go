package blob_test

import (
	"bytes"
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// A batch of small chunks that may gather no more than one segment as shards
// waits for those before it, in which chunks lie that it has placed and not yet
// sealed: it seals them first.
func TestGatherWithoutRoom(t *testing.T) {
	r := newRig(t, fsapi.CipherAES256GCM, 3, func(o *blob.Options) { o.GatherBytes, o.SegmentBytes = 1, 100_000 })
	c := blob.Class{Copies: []policy.Copy{{Tier: "hot", K: 2, M: 1}}, Compression: "none", Chunking: policy.Chunking{Fixed: 4096}}
	data := bytesOf(1, 4<<20, "random")
	st := r.store(t, c, blob.Segment, data)
	if got, err := r.read(t.Context(), st.Extents, len(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what was stored does not read back: %v", err)
	}
}
